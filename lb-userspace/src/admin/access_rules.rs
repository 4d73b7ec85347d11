//! Who may use the admin API: groups, the TCP listener, its tokens and its certificate.
//!
//! A reload can change these rules while the API is served. New rules apply to the next request,
//! also on open connections.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use nix::unistd::{Gid, Group};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    access::Groups,
    credentials::Credentials,
    socket::{self, SocketError, SocketMode},
};
use lb_core::config::{self, Api, Table, UnusableReference};

/// Why the admin API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The Unix socket cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A group, a token or the certificate cannot be used.
    #[error(transparent)]
    UnusableReference(#[from] UnusableReference),
    /// The TCP address cannot be used.
    #[error("cannot listen at {address} for the admin API: {cause}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Error of the system.
        cause: io::Error,
    },
}

/// The rules in force. They are replaced as a whole.
#[derive(Clone, Debug)]
pub struct AccessRules {
    /// Who may connect to the Unix socket.
    pub(super) mode: SocketMode,
    /// Which groups may do what on the Unix socket.
    pub(super) groups: Groups,
    /// The TCP listener; `None` if there is none.
    pub(super) tcp: Option<Tcp>,
}

/// The TCP listener.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    address: SocketAddr,
    /// Kept while the address stays the same, so that no waiting connection is lost.
    listener: Arc<TcpListener>,
    pub(super) credentials: Arc<Credentials>,
}

impl AccessRules {
    /// The rules for `api`: reads files, and listens on a new address. They have no effect before
    /// [`RulesHandle::apply`], and dropping them changes nothing. `now` are the rules in force.
    pub(super) fn prepare(api: &Api, now: Option<&Self>) -> Result<Self, ListenError> {
        let (read, admin) = groups(api)?;
        let mode = match (read, admin) {
            (None, None) => SocketMode::Group(None),
            (Some(group), None) | (None, Some(group)) => SocketMode::Group(Some(group)),
            // A file has only one group. Everybody may connect, and the credentials of the caller
            // decide.
            (Some(_), Some(_)) => SocketMode::Everyone,
        };
        let read = read.unwrap_or_else(|| Gid::effective().as_raw());
        let before = now.and_then(|now| now.tcp.as_ref());
        let tcp = api.listen.as_ref().map(|listen| Tcp::prepare(listen, before));
        Ok(Self {
            mode,
            groups: Groups { read, admin },
            tcp: tcp.transpose()?,
        })
    }
}

impl Tcp {
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

/// The next connection over TCP. Never completes if there is no listener.
pub(super) async fn next_tcp(tcp: Option<&Tcp>) -> (io::Result<(TcpStream, SocketAddr)>, &Tcp) {
    match tcp {
        Some(tcp) => (tcp.listener.accept().await, tcp),
        None => std::future::pending().await,
    }
}

/// Changes the rules of an admin API while it is served.
#[derive(Debug)]
pub struct RulesHandle {
    socket: PathBuf,
    rules: watch::Sender<Arc<AccessRules>>,
}

impl RulesHandle {
    pub(super) fn new(socket: PathBuf, rules: AccessRules) -> Self {
        Self {
            socket,
            rules: watch::Sender::new(Arc::new(rules)),
        }
    }

    /// The rules in force, now and after each change.
    pub(super) fn rules(&self) -> watch::Receiver<Arc<AccessRules>> {
        self.rules.subscribe()
    }

    /// Prepares the rules for `api`, and reads all files again; see [`RulesHandle::apply`]. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If a group does not exist, a file cannot be used, or the address cannot be used. Then
    /// nothing has changed.
    pub fn prepare(&self, api: &Api) -> Result<Arc<AccessRules>, ListenError> {
        let now = Arc::clone(&self.rules.borrow());
        AccessRules::prepare(api, Some(&now)).map(Arc::new)
    }

    /// Puts rules into force, and returns the ones before. The Unix socket stays the same one.
    ///
    /// # Errors
    ///
    /// If the group or the mode of the socket cannot be changed. Then the rules stay as they are.
    pub fn apply(&self, rules: Arc<AccessRules>) -> Result<Arc<AccessRules>, ListenError> {
        if self.rules.borrow().mode != rules.mode {
            socket::set_socket_mode(&self.socket, rules.mode)?;
        }
        Ok(self.rules.send_replace(rules))
    }
}

/// Listens on an address. It may overlap with the address of the former listener, which keeps
/// listening.
fn listen_at(address: SocketAddr, former: Option<&Tcp>) -> io::Result<TcpListener> {
    use socket2::{Domain, SockRef, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for old connections in TIME-WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let bind = || {
        socket.bind(&address.into())?;
        socket.listen(socket::BACKLOG)
    };
    // Two sockets of one user can share a port if both set SO_REUSEPORT.
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

/// Whether one of two addresses includes the other, such as 0.0.0.0:80 and 192.0.2.1:80.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Checks that the groups and files of `api` can be used. Does not listen, so it works beside a
/// running `lbd`.
///
/// # Errors
///
/// If a group does not exist, or a file cannot be used.
pub fn check(api: &Api) -> Result<(), UnusableReference> {
    groups(api)?;
    api.listen.as_ref().map(Credentials::read).transpose()?;
    Ok(())
}

/// The group ids of `read_group` and `admin_group`.
fn groups(api: &Api) -> Result<(Option<u32>, Option<u32>), UnusableReference> {
    let number = |key, name: &Option<String>| name.as_deref().map(|name| group(key, name)).transpose();
    Ok((
        number("read_group", &api.read_group)?,
        number("admin_group", &api.admin_group)?,
    ))
}

/// The id of a group.
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
