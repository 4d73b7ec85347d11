//! The Unix socket of the admin API: who may use it, and whose it is.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use nix::{libc, unistd::Gid};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// The owner and the group of the socket may connect.
const GROUP_MODE: u32 = 0o660;
/// Everybody may connect.
const OPEN_MODE: u32 = 0o666;
/// Everybody may see that there is a socket.
const FOLDER_MODE: u32 = 0o755;
/// Connections that may wait to be accepted.
pub(super) const BACKLOG: i32 = 128;

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error(
        "another process listens at {}; stop it, or give this node another `socket` in its configuration",
        path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{} is {found}, not a socket that lbd left; it stays as it is, expected nothing there", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A folder could not be created.
    #[error("cannot create the folder {} for the admin socket: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another operation failed.
    #[error("cannot {action} the admin socket {}: {cause}", path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Whom the file system lets connect; what they may do then is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The owner and a group, by default that of the process.
    Group(Option<u32>),
    /// Everybody.
    Open,
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

    /// Whether its name is still its own.
    pub(super) fn is_there(&self) -> bool {
        self.file.is_there()
    }

    /// Another one under the same name, as of [`bind`].
    pub(super) fn again(&self, door: Door) -> Result<Self, SocketError> {
        bind_with(&self.file.path, door)
    }
}

/// The name of a socket in the file system.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: tells whether the name is still ours.
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

/// Listens at `path`, in place of a socket that a dead process left there. Folders that are missing are created.
///
/// Must be called within a tokio runtime.
///
/// # Errors
///
/// When another process listens there, something else has the name, or the system refuses.
pub fn bind(path: &Path) -> Result<AdminSocket, SocketError> {
    bind_with(path, Door::Group(None))
}

/// As [`bind`], for those whom `door` names.
pub(super) fn bind_with(path: &Path, door: Door) -> Result<AdminSocket, SocketError> {
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
    // Nobody can connect before `listen`, so nobody slips in whatever the umask left open.
    if door == Door::Group(None) {
        set_mode(path, GROUP_MODE)?;
    } else {
        set_door(path, door)?;
    }
    socket.listen(BACKLOG).map_err(failed("listen at"))?;
    let listener = UnixListener::from_std(socket.into()).map_err(failed("listen at"))?;
    Ok(AdminSocket { listener, file })
}

/// Opens the socket at `path` for others than before.
pub(super) fn set_door(path: &Path, door: Door) -> Result<(), SocketError> {
    let group = match door {
        Door::Group(group) => group.unwrap_or_else(|| Gid::effective().as_raw()),
        Door::Open => return set_mode(path, OPEN_MODE),
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

/// Creates the folder and those above it, each open to all whatever the umask is. Those that exist stay as they are.
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

/// Removes a socket at which nobody listens.
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
    match knock(path) {
        Ok(()) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed("replace")),
        },
        // It ended and removed its socket just now.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => Err(foreign("a socket of another kind")),
        Err(cause) => Err(failed("find out who listens at")(cause)),
    }
}

/// Succeeds if somebody listens, be it with more callers than it can take.
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}
