//! A worker's HTTP server: answers with its name, so that a client knows who served it.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200, never delayed, not counted |
//! | `/bytes/N` | the first N bytes of [`content`](crate::content) |
//! | `/upload` | length and hash of the request's body, as JSON |
//! | `/api/v1/identify` | takes a body, and answers [`ANSWER`] bytes |
//! | any other | the worker's name |
//!
//! Every answer has the name in the header `x-worker`.

use std::{
    convert::Infallible,
    net::Ipv6Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use nix::libc;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::{
    content::{self, Hash},
    lab::Lab,
    netns::Namespace,
    topology::Host,
};

/// The header that carries the worker's name.
pub const NAME_HEADER: &str = "x-worker";

/// Length of the answer to `/api/v1/identify`.
pub const ANSWER: usize = 482;

/// An HTTP server on all addresses of a host.
#[derive(Debug)]
pub struct Worker<'a> {
    namespace: &'a Namespace,
    port: u16,
    shared: Arc<Shared>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    delay_us: AtomicU64,
    requests: AtomicU64,
    connections: AtomicU64,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl<'a> Worker<'a> {
    /// Starts one on port 80 of every worker of a lab.
    ///
    /// # Panics
    ///
    /// When a port is taken.
    pub fn all(lab: &'a Lab) -> Vec<Self> {
        lab.workers
            .iter()
            .map(|host| Self::start(host, 80).expect("port 80 of a worker is free"))
            .collect()
    }

    /// Starts one that has the host's name.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn start(host: &'a Host, port: u16) -> Result<Self> {
        let shared = Shared {
            name: host.label.clone(),
            delay_us: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        };
        let mut worker = Self {
            namespace: &host.namespace,
            port,
            shared: Arc::new(shared),
            running: None,
        };
        worker.revive()?;
        Ok(worker)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Requests answered so far, health checks not counted.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Connections accepted so far, those of health checks included.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Lets every answer except that to a health check take this much longer.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.delay_us.store(delay.as_micros() as u64, Ordering::Relaxed);
    }

    /// Ends the server like a crash of its process would: listener and connections are closed by
    /// the kernel.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            let _ = running.thread.join();
        }
    }

    /// Starts the server again; does nothing when it is running.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn revive(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let (port, shared) = (self.port, Arc::clone(&self.shared));
        let thread = self.namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be built");
            runtime.block_on(async {
                let listener = listen(port);
                let listener = match listener {
                    Ok(listener) => listener,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let _ = ready.send(Ok(()));
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
            // With the runtime go all connections.
        });
        let outcome = started
            .recv()
            .context("the worker's thread ended before it was ready")?;
        outcome.with_context(|| format!("worker {} cannot listen on port {port}", self.shared.name))?;
        self.running = Some(Running { stop, thread });
        Ok(())
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A listener on both families, with a queue that a burst of connections does not overflow.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(libc::SOMAXCONN)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
            // A connection that was reset while it waited in the queue is no error.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Without this, answers in two segments wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // A client that goes away in the middle is the client's business: it reports what it missed.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let (status, body) = if path == "/healthz" {
        (StatusCode::OK, Bytes::from_static(b"ok\n"))
    } else {
        let delay = Duration::from_micros(shared.delay_us.load(Ordering::Relaxed));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        shared.requests.fetch_add(1, Ordering::Relaxed);
        content_for(&path, request, &shared.name).await
    };
    let response = Response::builder()
        .status(status)
        .header(NAME_HEADER, &shared.name)
        .body(Full::new(body));
    Ok(response.expect("a host's label is a valid header"))
}

async fn content_for(path: &str, request: Request<Incoming>, name: &str) -> (StatusCode, Bytes) {
    if let Some(length) = path.strip_prefix("/bytes/") {
        return match length.parse() {
            Ok(length) => (StatusCode::OK, content::bytes(length)),
            Err(_) => (
                StatusCode::BAD_REQUEST,
                Bytes::from_static(b"/bytes/N expects a number\n"),
            ),
        };
    }
    if path == "/api/v1/identify" {
        return match digest(request.into_body()).await {
            Ok(digest) => (StatusCode::OK, format!("{digest:ANSWER$}").into()),
            Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n").into()),
        };
    }
    if path == "/upload" {
        return match digest(request.into_body()).await {
            Ok(digest) => (StatusCode::OK, digest.into()),
            Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n").into()),
        };
    }
    (StatusCode::OK, format!("{name}\n").into())
}

async fn digest(mut body: Incoming) -> hyper::Result<String> {
    let (mut length, mut hash) = (0, Hash::default());
    while let Some(frame) = body.frame().await {
        if let Some(piece) = frame?.data_ref() {
            length += piece.len();
            hash.update(piece);
        }
    }
    Ok(upload_digest(length, hash.value()))
}

/// What `/upload` answers to a body of that length and hash.
pub fn upload_digest(length: usize, hash: u64) -> String {
    format!("{{\"length\":{length},\"fnv1a\":\"{hash:016x}\"}}")
}
