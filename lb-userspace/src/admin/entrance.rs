//! The ways into the admin API, which a reload can change while it is served: groups, the TCP listener, its tokens and
//! its certificate. What is changed holds for the next request, also of connections that are open.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use nix::unistd::{Gid, Group};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    access::Groups,
    credentials::Credentials,
    socket::{self, Door, SocketError},
};
use lb_core::config::{self, Api, Table, UnusableReference};

/// Why the admin API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The Unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A group, the tokens or the certificate.
    #[error(transparent)]
    UnusableReference(#[from] UnusableReference),
    /// The TCP socket.
    #[error("cannot listen at {address} for the admin API: {cause}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
}

/// Who may come in, and by which ways. It is replaced as a whole.
#[derive(Clone, Debug)]
pub struct Ways {
    pub(super) door: Door,
    pub(super) groups: Groups,
    pub(super) remote: Option<Remote>,
}

/// The way over TCP.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    address: SocketAddr,
    /// It is the same one as long as the address is the same, so that nobody who waits in it is turned away.
    listener: Arc<TcpListener>,
    pub(super) credentials: Arc<Credentials>,
}

impl Ways {
    /// What `api` asks for, beside what there is: files are read, and a new address is listened at. Nobody is let in
    /// before it is put into force; where it is dropped instead, nothing has changed.
    pub(super) fn prepare(api: &Api, now: Option<&Self>) -> Result<Self, ListenError> {
        let (read, admin) = groups(api)?;
        let door = match (read, admin) {
            (None, None) => Door::Group(None),
            (Some(group), None) | (None, Some(group)) => Door::Group(Some(group)),
            // The file system knows one group only: the credentials of the peer decide.
            (Some(_), Some(_)) => Door::Open,
        };
        let read = read.unwrap_or_else(|| Gid::effective().as_raw());
        let before = now.and_then(|now| now.remote.as_ref());
        let remote = api.listen.as_ref().map(|listen| Remote::prepare(listen, before));
        Ok(Self {
            door,
            groups: Groups { read, admin },
            remote: remote.transpose()?,
        })
    }
}

impl Remote {
    fn prepare(listen: &config::Listen, before: Option<&Self>) -> Result<Self, ListenError> {
        let credentials = Arc::new(Credentials::read(listen)?);
        let address = listen.address;
        let listener = match before {
            Some(before) if before.address == address => Arc::clone(&before.listener),
            _ => {
                let listener = listen_at(address, before).map_err(|cause| ListenError::Tcp { address, cause })?;
                Arc::new(listener)
            }
        };
        Ok(Self {
            address,
            listener,
            credentials,
        })
    }
}

/// The next connection over TCP; never, if there is no such way.
pub(super) async fn next_remote(remote: Option<&Remote>) -> (io::Result<(TcpStream, SocketAddr)>, &Remote) {
    match remote {
        Some(remote) => (remote.listener.accept().await, remote),
        None => std::future::pending().await,
    }
}

/// Changes the ways into an admin API that is being served.
#[derive(Debug)]
pub struct Entrance {
    socket: PathBuf,
    ways: watch::Sender<Arc<Ways>>,
}

impl Entrance {
    pub(super) fn new(socket: PathBuf, ways: Ways) -> Self {
        Self {
            socket,
            ways: watch::Sender::new(Arc::new(ways)),
        }
    }

    /// What is in force, from now on.
    pub(super) fn ways(&self) -> watch::Receiver<Arc<Ways>> {
        self.ways.subscribe()
    }

    /// Gets everything that `api` asks for ready; see [`Entrance::put`]. Files are read anew. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// When a group is not there, a file cannot be used, or the address cannot be had. Nothing has changed.
    pub fn prepare(&self, api: &Api) -> Result<Arc<Ways>, ListenError> {
        let now = Arc::clone(&self.ways.borrow());
        Ways::prepare(api, Some(&now)).map(Arc::new)
    }

    /// Puts other ways into force, and returns those before. The Unix socket goes on as it is, for others perhaps.
    ///
    /// # Errors
    ///
    /// When the system does not let the group of the socket be changed. Nothing has changed.
    pub fn put(&self, ways: Arc<Ways>) -> Result<Arc<Ways>, ListenError> {
        if self.ways.borrow().door != ways.door {
            socket::set_door(&self.socket, ways.door)?;
        }
        Ok(self.ways.send_replace(ways))
    }
}

/// Listens at an address, also where that of the former listener overlaps with it, which listens on.
fn listen_at(address: SocketAddr, former: Option<&Remote>) -> io::Result<TcpListener> {
    use socket2::{Domain, SockRef, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for connections of the past.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let bind = || {
        socket.bind(&address.into())?;
        socket.listen(socket::BACKLOG)
    };
    // The kernel lets two sockets of one user share a port that both say so of.
    match former.filter(|former| overlap(former.address, address)) {
        Some(former) => {
            let former = SockRef::from(&*former.listener);
            former.set_reuse_port(true)?;
            socket.set_reuse_port(true)?;
            let bound = bind();
            former.set_reuse_port(false)?;
            bound?;
            socket.set_reuse_port(false)?;
        }
        None => bind()?,
    }
    TcpListener::from_std(socket.into())
}

/// Whether one of two addresses includes the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Looks whether the groups and files that `api` names can be used. Nothing is listened at, so that this can be asked
/// beside a controller that runs.
///
/// # Errors
///
/// When a group is not there, or a file cannot be used.
pub fn check(api: &Api) -> Result<(), UnusableReference> {
    groups(api)?;
    api.listen.as_ref().map(Credentials::read).transpose()?;
    Ok(())
}

/// The groups that may read, and that may do all.
fn groups(api: &Api) -> Result<(Option<u32>, Option<u32>), UnusableReference> {
    let number = |key, name: &Option<String>| name.as_deref().map(|name| group(key, name)).transpose();
    Ok((
        number("read_group", &api.read_group)?,
        number("admin_group", &api.admin_group)?,
    ))
}

/// The number of a group.
fn group(key: &'static str, name: &str) -> Result<u32, UnusableReference> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let failed = |cause: String| UnusableReference {
        table: Table::Api,
        key,
        message: format!("`{key}` is \"{name}\": {cause}"),
        expected: "a group that `getent group` shows, or its number".to_owned(),
    };
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(failed("there is no such group".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}
