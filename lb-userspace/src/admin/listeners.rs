//! Accepts connections to the admin API, bounds their number and their time, and serves requests on
//! them.

use std::{io, path::Path, sync::Arc, time::Duration};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use lb_core::config::Api;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::{
    access::{Access, Caller, Groups, Peer},
    access_rules::{AccessRules, ListenError, RulesHandle, Tcp, next_tcp},
    socket::{self, AdminSocket, SocketMode},
};

/// Most connections of callers who may change things. Nobody else can use these up.
const ADMIN_CONNECTIONS: usize = 64;
/// Most connections of callers who may only read.
const READ_CONNECTIONS: usize = 64;
/// Most connections of local users who may do nothing; they get an error.
const OTHER_CONNECTIONS: usize = 8;
/// Most connections to the TCP listener.
const TCP_CONNECTIONS: usize = 64;

/// Most refused connections that stay open until the client has read the refusal.
const REFUSED_CONNECTIONS: usize = 32;
/// Longest time that a refused connection stays open.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Interval at which the name of the Unix socket is checked.
pub(super) const SOCKET_CHECKS: Duration = Duration::from_secs(2);

/// Longest time for a TLS handshake, for the head of a request, and for an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest time that a client may stop reading a response.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Most header fields of a request.
const HEADER_FIELDS: usize = 64;
/// Pause after a connection could not be accepted, for example because of the limit of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The response to a connection above a limit, in the same form as other errors.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 123\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections are open; try again later\"}";

/// The sockets of the admin API. The Unix socket is removed when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    socket: AdminSocket,
    rules: Arc<RulesHandle>,
}

impl Listeners {
    /// Listens on the Unix socket `path` and on the TCP address of `api`. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// If a socket, a group or a file cannot be used. Then nothing listens.
    pub fn open(path: &Path, api: &Api) -> Result<Self, ListenError> {
        let rules = AccessRules::prepare(api, None)?;
        Ok(Self {
            socket: socket::bind_with(path, rules.mode)?,
            rules: Arc::new(RulesHandle::new(path.to_owned(), rules)),
        })
    }

    /// The handle that changes the rules while the API is served.
    pub fn rules(&self) -> Arc<RulesHandle> {
        Arc::clone(&self.rules)
    }

    /// Serves until `stopped`, and finishes open requests.
    pub(super) async fn serve(self, router: Router, mut stopped: watch::Receiver<bool>) {
        let mut socket = self.socket;
        let mut socket_checks = tokio::time::interval(SOCKET_CHECKS);
        let mut is_reported = false;
        let mut changes = self.rules.rules();
        let limits = ConnectionLimits::default();
        let server = Server {
            router,
            stopped: stopped.clone(),
        };
        let mut connections = JoinSet::new();
        loop {
            let rules = Arc::clone(&changes.borrow_and_update());
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok(stream) => serve_local(stream, rules.groups, &limits, &server, &mut connections),
                    Err(error) => pause(&error).await,
                },
                (accepted, tcp) = next_tcp(rules.tcp.as_ref()) => match accepted {
                    Ok((stream, _)) => serve_tcp(stream, tcp, &limits, &server, &mut connections),
                    Err(error) => pause(&error).await,
                },
                Ok(()) = changes.changed() => {}
                _ = socket_checks.tick() => is_reported = restore(&mut socket, rules.mode, is_reported),
                Some(_) = connections.join_next() => {}
                () = until_stopped(&mut stopped) => break,
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

/// Creates the socket again if its name was removed, because no client finds it without a name.
/// Returns whether that failed, so that it is logged only once.
fn restore(socket: &mut AdminSocket, mode: SocketMode, is_reported: bool) -> bool {
    if socket.is_there() {
        return false;
    }
    match socket.recreate(mode) {
        Ok(new) => {
            *socket = new;
            tracing::warn!("the admin socket was removed; it is created again");
            false
        }
        Err(error) => {
            if !is_reported {
                tracing::warn!("the admin socket was removed and cannot be created again: {error}");
            }
            true
        }
    }
}

/// How many more connections each group of callers may open.
struct ConnectionLimits {
    admin: Arc<Semaphore>,
    read: Arc<Semaphore>,
    other: Arc<Semaphore>,
    tcp: Arc<Semaphore>,
    refused: Arc<Semaphore>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let limit = |connections| Arc::new(Semaphore::new(connections));
        Self {
            admin: limit(ADMIN_CONNECTIONS),
            read: limit(READ_CONNECTIONS),
            other: limit(OTHER_CONNECTIONS),
            tcp: limit(TCP_CONNECTIONS),
            refused: limit(REFUSED_CONNECTIONS),
        }
    }
}

impl ConnectionLimits {
    /// A permit for a local connection; `None` above the limit.
    fn local(&self, access: Access) -> Option<OwnedSemaphorePermit> {
        let limit = match access {
            Access::Admin => &self.admin,
            Access::Read => &self.read,
            Access::None => &self.other,
        };
        Arc::clone(limit).try_acquire_owned().ok()
    }

    /// Closes a refused connection after the client has read the refusal: see [`linger`].
    fn close(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, connections: &mut JoinSet<()>) {
        if let Ok(permit) = Arc::clone(&self.refused).try_acquire_owned() {
            connections.spawn(async move {
                let _ = tokio::time::timeout(LINGER_TIME, linger(stream)).await;
                drop(permit);
            });
        }
    }
}

/// Reads until the client closes too. The kernel resets a connection that is closed with unread
/// bytes, and the client could then lose the response.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(HEAD_BYTES as u64), &mut tokio::io::sink()).await?;
    Ok(())
}

fn serve_local(
    stream: UnixStream,
    groups: Groups,
    limits: &ConnectionLimits,
    server: &Server,
    connections: &mut JoinSet<()>,
) {
    let peer = Peer::of(&stream).unwrap_or_else(|error| {
        tracing::warn!(%error, "the caller at the admin socket is unknown, and is refused");
        Peer::default()
    });
    let Some(permit) = limits.local(groups.access_of(&peer)) else {
        let _ = stream.try_write(TOO_MANY);
        limits.close(stream, connections);
        return;
    };
    let server = server.clone();
    connections.spawn(async move {
        server.serve(stream, Caller::Local(Arc::new(peer))).await;
        drop(permit);
    });
}

fn serve_tcp(stream: TcpStream, tcp: &Tcp, limits: &ConnectionLimits, server: &Server, connections: &mut JoinSet<()>) {
    let tls = tcp.credentials.tls();
    let Ok(permit) = Arc::clone(&limits.tcp).try_acquire_owned() else {
        if tls.is_none() {
            let _ = stream.try_write(TOO_MANY);
            limits.close(stream, connections);
        }
        return;
    };
    let server = server.clone();
    connections.spawn(async move {
        match tls {
            None => server.serve(stream, Caller::Remote).await,
            Some(tls) => match tokio::time::timeout(HEAD_TIME, TlsAcceptor::from(tls).accept(stream)).await {
                Ok(Ok(stream)) => server.serve(stream, Caller::Remote).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the admin API failed"),
                Err(_) => tracing::debug!("a TLS handshake with the admin API took too long"),
            },
        }
        drop(permit);
    });
}

/// What serves each connection.
#[derive(Clone)]
struct Server {
    router: Router,
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Serves the requests of one connection.
    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Send + 'static, caller: Caller) {
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(caller.clone());
            hyper::service::Service::call(&router, request)
        });
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIME));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADER_FIELDS)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = until_stopped(&mut self.stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the admin API ended");
        }
    }
}

async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin API cannot accept a connection");
    tokio::time::sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::TOO_MANY;

    #[test]
    fn the_refusal_has_the_length_that_it_says() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())),
            "{} {head}",
            body.len()
        );
        let problem: crate::api::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, 503);
    }
}
