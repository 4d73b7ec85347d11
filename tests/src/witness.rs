//! Traffic that notices whatever a client could: a long download, many connections that stay, and
//! ever new ones.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    client::{Load, Report, Traffic},
    content::{self, Hash},
    lab::{Lab, virtual_addresses},
    netns::Namespace,
    wait::{self, PATIENCE},
};

/// Length of the download in bytes.
const LENGTH: usize = 48 << 20;
/// The download is read in pieces of this size, with a pause between them, as long as it should
/// last.
const PIECE: usize = 16 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(25);
/// Connections that stay.
const KEPT: usize = 200;
const KEPT_PAUSE: Duration = Duration::from_millis(500);
/// Clients that take a new connection for every request.
const FRESH: usize = 2;
const FRESH_PAUSE: Duration = Duration::from_millis(20);

/// The traffic. Ends on drop.
#[derive(Debug)]
pub struct Witness {
    download: Download,
    kept: Traffic,
    fresh: Traffic,
}

impl Witness {
    /// Starts it to port 80 of the IPv4 address of the first balancer of a lab, and waits until all
    /// connections are open.
    ///
    /// # Panics
    ///
    /// When they are not open in time.
    pub fn of(lab: &Lab) -> Self {
        let [v4, _] = virtual_addresses(0);
        Self::at(lab, v4)
    }

    /// As [`Witness::of`], to port 80 of that address.
    ///
    /// # Panics
    ///
    /// When they are not open in time.
    pub fn at(lab: &Lab, address: IpAddr) -> Self {
        Self::start(&lab.client.namespace, (address, 80).into()).expect("traffic begins")
    }

    fn start(client: &Namespace, target: SocketAddr) -> Result<Self> {
        let mut load = Load::new(target).concurrency(KEPT).keep_alive().endless(KEPT_PAUSE);
        // A packet that is lost is repeated, the third time after some seconds.
        load.patience = PATIENCE;
        let kept = load.start(client);
        let mut load = Load::new(target).concurrency(FRESH).endless(FRESH_PAUSE);
        load.patience = PATIENCE;
        let fresh = load.start(client);
        let download = Download::start(client, target);
        let witness = Self { download, kept, fresh };
        let is_open = wait::until(PATIENCE, || {
            let is_downloading = witness.download.shared.received.load(Ordering::Relaxed) > 0;
            is_downloading && witness.kept.report().answered() >= KEPT as u64 && witness.fresh.report().answered() > 0
        });
        ensure!(
            is_open,
            "not all connections are open: {:?} {:?}",
            witness.kept.report(),
            witness.fresh.report()
        );
        Ok(witness)
    }

    /// How much traffic there was so far: requests on connections that stay, and on new ones.
    pub fn answered(&self) -> (u64, u64) {
        (self.kept.report().answered(), self.fresh.report().answered())
    }

    /// Waits until all kinds of traffic make progress.
    pub fn is_flowing(&self) -> bool {
        let (kept, fresh) = self.answered();
        wait::until(PATIENCE, || {
            let now = self.answered();
            now.0 >= kept + KEPT as u64 && now.1 > fresh + 10
        })
    }

    /// Ends it. It must have gone on to the end, and nothing may have been lost.
    ///
    /// # Panics
    ///
    /// When traffic does not go on, a request failed, a connection broke or the download was not
    /// what it should be.
    #[track_caller]
    pub fn assert_flawless(self, what: &str) {
        let is_flowing = self.is_flowing();
        self.finish().assert_kept(what).assert_flawless();
        assert!(is_flowing, "traffic does not go on");
    }

    /// Ends it. Who was connected must not have noticed anything; who begins meanwhile may have.
    ///
    /// # Panics
    ///
    /// When a kept connection broke, or the download.
    #[track_caller]
    pub fn assert_kept(self, what: &str) {
        self.finish().assert_kept(what);
    }

    /// Ends it and returns what it saw.
    fn finish(self) -> Verdict {
        Verdict {
            kept: self.kept.stop(),
            fresh: self.fresh.stop(),
            download: self.download.finish(),
        }
    }
}

/// What the traffic saw.
#[derive(Debug)]
struct Verdict {
    /// Connections that stay.
    kept: Report,
    /// New connections.
    fresh: Report,
    /// The download: how many bytes, if they were right.
    download: Result<u64>,
}

impl Verdict {
    /// Prints the numbers. Returns what became of new connections, where the others are as they
    /// should be.
    #[track_caller]
    fn assert_kept(self, what: &str) -> Report {
        self.print(what);
        self.kept.assert_flawless();
        assert_eq!(self.kept.connections, KEPT as u64, "a connection had to be made anew");
        self.download.expect("the download goes through");
        self.fresh
    }

    /// Prints the numbers.
    fn print(&self, what: &str) {
        let broken = self.kept.connections.saturating_sub(KEPT as u64);
        eprintln!(
            "{what}: {KEPT} connections stayed but {broken}, with {} requests, {} failed; of {} new connections {} failed; \
             download: {}",
            self.kept.answered(),
            self.kept.failures.len(),
            self.fresh.answered() + self.fresh.failures.len() as u64,
            self.fresh.failures.len(),
            match &self.download {
                Ok(bytes) => format!("{bytes} bytes with the right hash"),
                Err(error) => format!("{error:#}"),
            }
        );
    }
}

/// A download that takes as long as it is let.
#[derive(Debug)]
struct Download {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<u64>>>,
}

#[derive(Debug, Default)]
struct Shared {
    received: AtomicU64,
    /// Whether it need not last any longer.
    fast: AtomicBool,
}

impl Download {
    fn start(client: &Namespace, target: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let thread = Some(client.spawn(move || download(target, &inside)));
        Self { shared, thread }
    }

    fn finish(mut self) -> Result<u64> {
        self.shared.fast.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the download was finished before")?;
        thread.join().expect("the download does not panic")
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.fast.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn download(target: SocketAddr, shared: &Shared) -> Result<u64> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /bytes/{LENGTH} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n"
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the head of the answer")?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.starts_with("HTTP/1.1 200"), "the answer is {head:?}");
    let (mut hash, mut received) = (Hash::default(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let length = stream
            .read(&mut piece)
            .with_context(|| format!("after {received} bytes of the download"))?;
        if length == 0 {
            break;
        }
        hash.update(&piece[..length]);
        received += length as u64;
        shared.received.store(received, Ordering::Relaxed);
        if !shared.fast.load(Ordering::Relaxed) {
            thread::sleep(PIECE_PAUSE);
        }
    }
    ensure!(received == LENGTH as u64, "{received} of {LENGTH} bytes came");
    ensure!(
        hash.value() == Hash::of(&content::bytes(LENGTH)),
        "the bytes are not those that were sent"
    );
    Ok(received)
}
