//! A client that sends requests on new connections again and again, and measures for how long none
//! was answered.

use std::{
    net::SocketAddr,
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::libc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::netns::Namespace;

/// A request of which a segment was lost has failed when it takes longer: less than a lost SYN
/// takes to be sent again.
const PROMPT: Duration = Duration::from_millis(500);
/// Any request has failed that takes longer. One that takes between the two without a lost segment
/// waited for a CPU.
const LIMIT: Duration = Duration::from_secs(10);

/// What it found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    /// The longest time between the beginnings of two requests that were answered, and after which
    /// one was.
    pub longest: Duration,
    /// Requests without a response: refused, reset, late because a segment was lost, or later than
    /// ten seconds.
    pub failed: u64,
    /// All requests.
    pub requests: u64,
}

/// It asks until it is stopped.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<(Instant, bool)>>>,
    thread: JoinHandle<()>,
}

impl Prober {
    /// Begins to ask, once every `pause`.
    ///
    /// # Panics
    ///
    /// Its thread, when it has no runtime.
    pub fn start(namespace: &Namespace, target: SocketAddr, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (stopped, found) = (Arc::clone(&stop), Arc::clone(&answers));
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                let mut ticks = tokio::time::interval(pause);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
                let mut open = JoinSet::new();
                while !stopped.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let found = Arc::clone(&found);
                    while open.try_join_next().is_some() {}
                    open.spawn(async move {
                        let begin = Instant::now();
                        let response = tokio::time::timeout(LIMIT, ask(target)).await;
                        let answered = matches!(response, Ok(Ok(lost)) if lost == 0 || begin.elapsed() < PROMPT);
                        found
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((begin, answered));
                    });
                }
                // Requests that are still open count, too.
                open.join_all().await;
            });
        });
        Self { stop, answers, thread }
    }

    /// How many requests were answered so far, and how many were not.
    pub fn so_far(&self) -> (u64, u64) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = answers.iter().filter(|(_, answered)| *answered).count();
        (answered as u64, (answers.len() - answered) as u64)
    }

    /// Stops when all open requests have ended, and returns what it found.
    ///
    /// # Panics
    ///
    /// When its thread did.
    pub fn stop(self) -> Outage {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the prober does not panic");
        let mut answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        answers.sort();
        outage(&answers)
    }
}

/// Sends a request and waits for the response. Returns how many segments had to be sent again.
async fn ask(target: SocketAddr) -> std::io::Result<u32> {
    let mut stream = TcpStream::connect(target).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await?;
    let lost = retransmissions(&stream)?;
    // A reset leaves no connection in TIME-WAIT, so that the port is free for the next request.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Ok(lost)
}

/// How many segments of the connection were sent again.
fn retransmissions(stream: &TcpStream) -> std::io::Result<u32> {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that long and lives
    // until it returns.
    let result = unsafe { libc::getsockopt(stream.as_raw_fd(), level, name, (&raw mut info).cast(), &raw mut length) };
    if result == 0 {
        Ok(info.tcpi_total_retrans)
    } else {
        Err(std::io::Error::last_os_error())
    }
}

fn outage(answers: &[(Instant, bool)]) -> Outage {
    let good: Vec<_> = answers
        .iter()
        .filter(|(_, answered)| *answered)
        .map(|(begin, _)| *begin)
        .collect();
    Outage {
        longest: good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(),
        failed: answers.iter().filter(|(_, answered)| !answered).count() as u64,
        requests: answers.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_the_longest_time_without_an_answered_request() {
        let start = Instant::now();
        let at = |millisecond: u64, answered| (start + Duration::from_millis(millisecond), answered);
        let found = outage(&[
            at(0, true),
            at(2, true),
            at(4, false),
            at(40, false),
            at(44, true),
            at(46, true),
        ]);
        assert_eq!(
            (found.longest, found.failed, found.requests),
            (Duration::from_millis(42), 2, 6)
        );
        assert_eq!(outage(&[at(0, false)]).longest, Duration::ZERO);
    }
}
