//! HTTP clients that run in a namespace and say who served them and what failed when.

use std::{
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::{netns::Namespace, worker::NAME_HEADER};

/// What a load of requests looks like.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where they go.
    pub target: SocketAddr,
    /// What they ask for.
    pub path: String,
    /// How many clients ask at the same time.
    pub concurrency: usize,
    /// How many requests there are in all; `None`: until it is stopped.
    pub requests: Option<u64>,
    /// After how many requests a client takes a new connection.
    pub per_connection: u64,
    /// How long a client rests between two requests.
    pub pause: Duration,
    /// After how long a request counts as failed, connecting included.
    pub patience: Duration,
}

impl Load {
    /// A hundred requests by eight clients, each on a connection of its own.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            path: "/".into(),
            concurrency: 8,
            requests: Some(100),
            per_connection: 1,
            pause: Duration::ZERO,
            patience: Duration::from_secs(10),
        }
    }

    /// With another number of requests.
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = Some(requests);
        self
    }

    /// With another number of clients.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Every client stays on its first connection as long as that lasts.
    pub fn keep_alive(mut self) -> Self {
        self.per_connection = u64::MAX;
        self
    }

    /// Without end, each client resting between two requests.
    pub fn endless(mut self, pause: Duration) -> Self {
        self.requests = None;
        self.pause = pause;
        self
    }

    /// Runs it in a namespace to its end.
    pub fn run(self, namespace: &Namespace) -> Report {
        self.start(namespace).finish()
    }

    /// Starts it in a namespace.
    pub fn start(self, namespace: &Namespace) -> Traffic {
        let shared = Arc::new(Shared {
            remaining: AtomicU64::new(self.requests.unwrap_or(u64::MAX)),
            stop: AtomicBool::new(false),
            report: Mutex::default(),
            load: self,
        });
        let inside = Arc::clone(&shared);
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be built");
            runtime.block_on(async {
                let clients: Vec<_> = (0..inside.load.concurrency)
                    .map(|_| tokio::spawn(ask(Arc::clone(&inside))))
                    .collect();
                for client in clients {
                    client.await.expect("a client does not panic");
                }
            });
        });
        Traffic {
            shared,
            thread: Some(thread),
        }
    }
}

/// A load that is running. Stops on drop.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    load: Load,
    remaining: AtomicU64,
    stop: AtomicBool,
    report: Mutex<Report>,
}

impl Traffic {
    /// What happened so far.
    pub fn report(&self) -> Report {
        self.shared.report.lock().expect("no client panicked").clone()
    }

    /// Lets every client finish the request it is at.
    pub fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits until all requests are done.
    pub fn finish(mut self) -> Report {
        self.join();
        self.report()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no client panicked");
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answered requests by the worker's name.
    pub per_worker: BTreeMap<String, u64>,
    /// Connections that were established.
    pub connections: u64,
    /// Requests that failed.
    pub failures: Vec<Failure>,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When its client began with it: with connecting, if it needed a new connection.
    pub started: Instant,
    /// When it had failed.
    pub ended: Instant,
    /// Whether it was sent on a connection that had served requests before.
    pub reused: bool,
    /// The chain of causes.
    pub cause: String,
}

impl Report {
    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.per_worker.values().sum()
    }

    /// Requests that were answered by one worker.
    pub fn of(&self, worker: &str) -> u64 {
        self.per_worker.get(worker).copied().unwrap_or(0)
    }

    /// Adds another report to this one.
    pub fn merge(&mut self, other: Self) {
        for (worker, requests) in other.per_worker {
            *self.per_worker.entry(worker).or_default() += requests;
        }
        self.connections += other.connections;
        self.failures.extend(other.failures);
    }

    /// Fails a test when a request failed.
    ///
    /// # Panics
    ///
    /// When a request failed; the message has the first few causes.
    #[track_caller]
    pub fn assert_flawless(&self) {
        let causes: Vec<_> = self.failures.iter().take(5).map(|failure| &failure.cause).collect();
        assert!(
            causes.is_empty(),
            "{} of {} requests failed: {causes:?}",
            self.failures.len(),
            self.failures.len() as u64 + self.answered()
        );
    }
}

type Connection = SendRequest<Full<Bytes>>;

/// One client: request after request, on connections that it keeps as long as the load says.
async fn ask(shared: Arc<Shared>) {
    let load = &shared.load;
    let mut connection: Option<Connection> = None;
    let mut served = 0;
    while take_one(&shared) {
        if served >= load.per_connection || connection.as_ref().is_some_and(Connection::is_closed) {
            connection = None;
        }
        let (started, reused) = (Instant::now(), connection.is_some());
        if !reused {
            served = 0;
        }
        match timeout(load.patience, once(load, &mut connection, &shared.report)).await {
            Ok(Ok(worker)) => {
                served += 1;
                *shared
                    .report
                    .lock()
                    .expect("no client panics")
                    .per_worker
                    .entry(worker)
                    .or_default() += 1;
            }
            failed => {
                connection = None;
                let cause = match failed {
                    Ok(Err(error)) => format!("{error:#}"),
                    _ => format!("no answer in {:?}", load.patience),
                };
                let failure = Failure {
                    started,
                    ended: Instant::now(),
                    reused,
                    cause,
                };
                shared.report.lock().expect("no client panics").failures.push(failure);
                // A refused connection fails in microseconds: without a rest, one dead second is a
                // million failures.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if !load.pause.is_zero() {
            tokio::time::sleep(load.pause).await;
        }
    }
}

fn take_one(shared: &Shared) -> bool {
    let take = |remaining: u64| remaining.checked_sub(1);
    !shared.stop.load(Ordering::Relaxed)
        && shared
            .remaining
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
}

async fn once(load: &Load, connection: &mut Option<Connection>, report: &Mutex<Report>) -> Result<String> {
    if connection.is_none() {
        *connection = Some(connect(load.target).await?);
        report.lock().expect("no client panics").connections += 1;
    }
    let connection = connection.as_mut().expect("it was just made");
    let answer = exchange(connection, load.target, Method::GET, &load.path, Bytes::new()).await?;
    anyhow::ensure!(answer.status == 200, "status {} instead of 200", answer.status);
    Ok(answer.worker)
}

async fn connect(target: SocketAddr) -> Result<Connection> {
    let stream = TcpStream::connect(target).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (sender, driver) = handshake(TokioIo::new(stream)).await.context("handshake")?;
    // What goes wrong on the connection reaches the request that waits for it.
    tokio::spawn(driver);
    Ok(sender)
}

async fn exchange(
    connection: &mut Connection,
    target: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Answer> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, target.to_string());
    let request = request.body(Full::new(body))?;
    connection.ready().await.map_err(chain).context("connection")?;
    let response = connection
        .send_request(request)
        .await
        .map_err(chain)
        .context("request")?;
    let name = response
        .headers()
        .get(NAME_HEADER)
        .context("the answer has no x-worker header")?;
    let worker = String::from_utf8_lossy(name.as_bytes()).into_owned();
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(chain)
        .context("body")?
        .to_bytes();
    Ok(Answer { status, worker, body })
}

/// hyper says only "connection error": the cause, such as a reset, is in its sources.
fn chain(error: hyper::Error) -> anyhow::Error {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    anyhow!("{error}{cause}")
}

/// The answer to a single request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Who answered.
    pub worker: String,
    /// The whole body.
    pub body: Bytes,
}

/// Makes a single request from a namespace, on a connection of its own.
///
/// # Errors
///
/// When it is not answered within `patience`.
pub fn fetch(
    namespace: &Namespace,
    target: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
    patience: Duration,
) -> Result<Answer> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let work = async {
                let mut connection = connect(target).await?;
                exchange(&mut connection, target, method, path, body).await
            };
            timeout(patience, work)
                .await
                .with_context(|| format!("no complete answer in {patience:?}"))?
        })
    })
}
