//! The Unix socket of the admin API: creates it with the right mode, and removes it at the end.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use nix::{libc, unistd::Gid};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// Mode: owner and group may connect.
const GROUP_MODE: u32 = 0o660;
/// Mode: everybody may connect.
const OPEN_MODE: u32 = 0o666;
/// Mode of a created folder: everybody may see the socket.
const FOLDER_MODE: u32 = 0o755;
/// Most connections that wait to be accepted.
pub(super) const BACKLOG: i32 = 128;

/// Why the admin socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens on it.
    #[error(
        "another process listens on {}; stop it, or set another `socket` in the configuration",
        path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Another file has the name.
    #[error("{} is {found}; expected no file there, or a socket that lbd left behind. It is not touched", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
        /// Type of the file.
        found: &'static str,
    },
    /// A folder could not be created.
    #[error("cannot create the folder {} for the admin socket: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// Another operation failed.
    #[error("cannot {action} the admin socket {}: {cause}", path.display())]
    Failed {
        /// The operation.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
}

/// Who may connect, by owner, group and mode of the socket. What a caller may do is decided later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketMode {
    /// The owner and a group; `None` is the group of the process.
    Group(Option<u32>),
    /// Everybody.
    Everyone,
}

/// The admin socket, ready to be served. It is removed when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl AdminSocket {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Whether the name in the file system still means this socket.
    pub(super) fn is_there(&self) -> bool {
        self.file.is_there()
    }

    /// Creates a new socket with the same name.
    pub(super) fn recreate(&self, mode: SocketMode) -> Result<Self, SocketError> {
        bind_with(&self.file.path, mode)
    }
}

/// The file of a socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode, to know whether the name is still ours.
    identity: (u64, u64),
}

impl SocketFile {
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path`. Replaces a socket that a dead process left behind, and creates missing
/// folders.
///
/// Must be called within a tokio runtime.
///
/// # Errors
///
/// If another process listens there, another file has the name, or the system refuses.
pub fn bind(path: &Path) -> Result<AdminSocket, SocketError> {
    bind_with(path, SocketMode::Group(None))
}

/// As [`bind`], for the callers of `mode`.
pub(super) fn bind_with(path: &Path, mode: SocketMode) -> Result<AdminSocket, SocketError> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    remove_stale(path)?;
    let failed = |action| {
        let path = path.to_owned();
        move |cause| SocketError::Failed { action, path, cause }
    };
    let socket = SockAddr::unix(path)
        .and_then(|address| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address)?;
            Ok(socket)
        })
        .map_err(failed("bind"))?;
    let found = fs::symlink_metadata(path).map_err(failed("look at"))?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (found.dev(), found.ino()),
    };
    // Nobody can connect before `listen`, so the mode that the umask left does not matter.
    if mode == SocketMode::Group(None) {
        set_mode(path, GROUP_MODE)?;
    } else {
        set_socket_mode(path, mode)?;
    }
    socket.listen(BACKLOG).map_err(failed("listen on"))?;
    let listener = UnixListener::from_std(socket.into()).map_err(failed("listen on"))?;
    Ok(AdminSocket { listener, file })
}

/// Changes who may connect to the socket.
pub(super) fn set_socket_mode(path: &Path, mode: SocketMode) -> Result<(), SocketError> {
    let group = match mode {
        SocketMode::Group(group) => group.unwrap_or_else(|| Gid::effective().as_raw()),
        SocketMode::Everyone => return set_mode(path, OPEN_MODE),
    };
    lchown(path, None, Some(group)).map_err(|cause| SocketError::Failed {
        action: "set the group of",
        path: path.to_owned(),
        cause,
    })?;
    set_mode(path, GROUP_MODE)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), SocketError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|cause| SocketError::Failed {
        action: "set the mode of",
        path: path.to_owned(),
        cause,
    })
}

/// Creates a folder and its missing parents. Everybody may read them, whatever the umask is.
/// Existing folders stay.
fn create_folder(folder: &Path) -> Result<(), SocketError> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        create_folder(above)?;
    }
    let created = DirBuilder::new().mode(FOLDER_MODE).create(folder);
    match created.and_then(|()| fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(cause) => Err(SocketError::Folder {
            path: folder.to_owned(),
            cause,
        }),
        Ok(()) => Ok(()),
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |action| {
        let path = path.to_owned();
        move |cause| SocketError::Failed { action, path, cause }
    };
    let foreign = |found| SocketError::Foreign {
        path: path.to_owned(),
        found,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed("look at")(cause)),
    };
    if !found.is_socket() {
        return Err(foreign(match found {
            kind if kind.is_dir() => "a folder",
            kind if kind.is_symlink() => "a symbolic link",
            kind if kind.is_file() => "a file",
            _ => "a device or a pipe",
        }));
    }
    match try_connect(path) {
        Ok(()) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed("replace")),
        },
        // Its owner stopped and removed it just now.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => Err(foreign("a socket of another kind")),
        Err(cause) => Err(failed("find out who listens on")(cause)),
    }
}

/// Succeeds if a process listens, also if its queue is full.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}
