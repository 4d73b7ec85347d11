//! Where the admin API listens: takes connections, as many as there is room for, and gives none more time than is fair.

use std::{io, path::Path, sync::Arc, time::Duration};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    access::{Access, Caller, Groups, Peer},
    entrance::{Entrance, ListenError, Remote, Ways, next_remote},
    patience::Patience,
    socket::{self, AdminSocket, Door},
};
use lb_core::config::Api;

/// Connections of those who may change things: nobody else can use these up.
const ADMIN_CONNECTIONS: usize = 64;
/// Connections of those who may read.
const READ_CONNECTIONS: usize = 64;
/// Connections of local users who may do nothing but be told so.
const OTHER_CONNECTIONS: usize = 8;
/// Connections to the TCP listener.
const REMOTE_CONNECTIONS: usize = 64;

/// Connections that are left time at once to read that there is no room; others may be reset before they have.
const REFUSED_CONNECTIONS: usize = 32;
/// How long that may take.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// How often it is looked whether the Unix socket still has its name.
pub(super) const SOCKET_CHECKS: Duration = Duration::from_secs(2);

/// How long a TLS handshake, or the head of a request, may take; also how long a connection may idle.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to read on.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Bytes that the head of a request may have.
const HEAD_BYTES: usize = 16 * 1024;
/// Header fields that a request may have.
const HEADER_FIELDS: usize = 64;
/// How long to leave connections where they are after one could not be taken, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// The answer where there is no room, in the form of the others.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 123\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections are open; try again later\"}";

/// Everything that the admin API listens at. The Unix socket is removed when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    socket: AdminSocket,
    entrance: Arc<Entrance>,
}

impl Listeners {
    /// Listens at the Unix socket `path`, and where `api` says. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When something is in the way; then nothing listens.
    pub fn open(path: &Path, api: &Api) -> Result<Self, ListenError> {
        let ways = Ways::prepare(api, None)?;
        Ok(Self {
            socket: socket::bind_with(path, ways.door)?,
            entrance: Arc::new(Entrance::new(path.to_owned(), ways)),
        })
    }

    /// What changes them while they are served.
    pub fn entrance(&self) -> Arc<Entrance> {
        Arc::clone(&self.entrance)
    }

    /// Serves until told to stop, and then until all that was asked before is answered.
    pub(super) async fn serve(self, router: Router, mut stopped: watch::Receiver<bool>) {
        let mut socket = self.socket;
        let mut socket_checks = tokio::time::interval(SOCKET_CHECKS);
        let mut is_told = false;
        let rooms = Rooms::default();
        let mut ways = self.entrance.ways();
        let server = Server {
            router,
            stopped: stopped.clone(),
        };
        let mut connections = JoinSet::new();
        loop {
            let now = Arc::clone(&ways.borrow_and_update());
            tokio::select! {
                taken = socket.accept() => match taken {
                    Ok(stream) => take_local(stream, now.groups, &rooms, &server, &mut connections),
                    Err(error) => pause(&error).await,
                },
                (taken, remote) = next_remote(now.remote.as_ref()) => match taken {
                    Ok((stream, _)) => take_remote(stream, remote, &rooms, &server, &mut connections),
                    Err(error) => pause(&error).await,
                },
                Ok(()) = ways.changed() => {}
                _ = socket_checks.tick() => is_told = mend(&mut socket, now.door, is_told),
                Some(_) = connections.join_next() => {}
                () = told(&mut stopped) => break,
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

/// Makes the socket anew where somebody removed it: without a name nobody finds it. Whether it could not, which is told once.
fn mend(socket: &mut AdminSocket, door: Door, is_told: bool) -> bool {
    if socket.is_there() {
        return false;
    }
    match socket.again(door) {
        Ok(again) => {
            *socket = again;
            tracing::warn!("the admin socket had been removed; it is there again");
            false
        }
        Err(error) => {
            if !is_told {
                tracing::warn!("the admin socket has been removed: {error}");
            }
            true
        }
    }
}

/// Room for connections, by who makes them.
struct Rooms {
    admin: Arc<Semaphore>,
    read: Arc<Semaphore>,
    other: Arc<Semaphore>,
    remote: Arc<Semaphore>,
    refused: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            admin: Arc::new(Semaphore::new(ADMIN_CONNECTIONS)),
            read: Arc::new(Semaphore::new(READ_CONNECTIONS)),
            other: Arc::new(Semaphore::new(OTHER_CONNECTIONS)),
            remote: Arc::new(Semaphore::new(REMOTE_CONNECTIONS)),
            refused: Arc::new(Semaphore::new(REFUSED_CONNECTIONS)),
        }
    }
}

impl Rooms {
    fn of(&self, access: Access) -> Option<OwnedSemaphorePermit> {
        let room = match access {
            Access::Admin => &self.admin,
            Access::Read => &self.read,
            Access::None => &self.other,
        };
        Arc::clone(room).try_acquire_owned().ok()
    }

    /// Closes a connection that there is no room for, when its answer has been read: see [`linger`].
    fn linger(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, connections: &mut JoinSet<()>) {
        if let Ok(permit) = Arc::clone(&self.refused).try_acquire_owned() {
            connections.spawn(async move {
                let _ = tokio::time::timeout(LINGER_TIME, linger(stream)).await;
                drop(permit);
            });
        }
    }
}

/// Takes what still comes until the other side closes too: a connection that is closed with bytes that nobody read is reset, and
/// an answer that nobody read yet is lost with it.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(HEAD_BYTES as u64), &mut tokio::io::sink()).await?;
    Ok(())
}

/// What every connection is served with.
#[derive(Clone)]
struct Server {
    router: Router,
    stopped: watch::Receiver<bool>,
}

fn take_local(stream: UnixStream, groups: Groups, rooms: &Rooms, server: &Server, connections: &mut JoinSet<()>) {
    let peer = Peer::of(&stream).unwrap_or_else(|error| {
        tracing::warn!(%error, "it is not known who called at the admin socket; refused");
        Peer::default()
    });
    let Some(permit) = rooms.of(groups.access_of(&peer)) else {
        let _ = stream.try_write(NO_ROOM);
        rooms.linger(stream, connections);
        return;
    };
    let server = server.clone();
    connections.spawn(async move {
        server.speak(stream, Caller::Local(Arc::new(peer))).await;
        drop(permit);
    });
}

fn take_remote(stream: TcpStream, remote: &Remote, rooms: &Rooms, server: &Server, connections: &mut JoinSet<()>) {
    let tls = remote.credentials.tls();
    let Ok(permit) = Arc::clone(&rooms.remote).try_acquire_owned() else {
        if tls.is_none() {
            let _ = stream.try_write(NO_ROOM);
            rooms.linger(stream, connections);
        }
        return;
    };
    let server = server.clone();
    connections.spawn(async move {
        match tls {
            None => server.speak(stream, Caller::Remote).await,
            Some(tls) => match tokio::time::timeout(HEAD_TIME, TlsAcceptor::from(tls).accept(stream)).await {
                Ok(Ok(stream)) => server.speak(stream, Caller::Remote).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the admin API failed"),
                Err(_) => tracing::debug!("a TLS handshake with the admin API did not end in time"),
            },
        }
        drop(permit);
    });
}

impl Server {
    /// Answers the requests of one connection.
    async fn speak(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, caller: Caller) {
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(caller.clone());
            hyper::service::Service::call(&router, request)
        });
        let stream = TokioIo::new(Patience::new(stream, WRITE_TIME));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADER_FIELDS)
            .serve_connection(stream, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told(&mut self.stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the admin API ended");
        }
    }
}

/// Until told to stop.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin API cannot take a connection");
    tokio::time::sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::NO_ROOM;

    #[test]
    fn the_answer_without_room_is_as_long_as_it_says() {
        let text = std::str::from_utf8(NO_ROOM).unwrap();
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
