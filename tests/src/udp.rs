//! UDP: an echo server that says who it is, and a client that counts who answered.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{netns::Namespace, topology::Host};

const LARGEST: usize = 65_535;

/// Answers each datagram with `name:payload`.
#[derive(Debug)]
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts one on all addresses of a host; it has the host's name.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        Self::start_at(host, (Ipv6Addr::UNSPECIFIED, port).into())
    }

    /// Starts one that answers from one address, such as a virtual one.
    ///
    /// # Errors
    ///
    /// When the host does not have that address, or the port is taken.
    pub fn start_at(host: &Host, address: SocketAddr) -> Result<Self> {
        let socket = host.namespace.run(|| UdpSocket::bind(address));
        let socket = socket.with_context(|| format!("{} cannot bind UDP at {address}", host.label))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), host.label.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; LARGEST];
            while !stopped.load(Ordering::Relaxed) {
                // Errors are the read timeout, and port-unreachable from clients that have gone.
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&answer_of(&name, &buffer[..length]), from);
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_of(name: &str, payload: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b":", payload].concat()
}

/// Who answered the datagrams of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpReport {
    /// Answers by the worker's name.
    pub per_worker: BTreeMap<String, u64>,
    /// What went wrong, one line each.
    pub failures: Vec<String>,
}

/// Sends `count` datagrams of `payload`, each from a socket of its own and so as a flow of its own,
/// and waits up to `patience` for each answer.
pub fn ask(namespace: &Namespace, target: SocketAddr, count: usize, payload: &[u8], patience: Duration) -> UdpReport {
    let mut report = UdpReport::default();
    namespace.run(|| {
        // All stay open: a port that is free again would be taken again, and be the same flow.
        let mut sockets = Vec::new();
        for _ in 0..count {
            let answer = connect(target, patience).and_then(|socket| {
                sockets.push(socket);
                ask_once(&sockets[sockets.len() - 1], payload)
            });
            match answer {
                Ok(name) => *report.per_worker.entry(name).or_default() += 1,
                Err(error) => report.failures.push(error.to_string()),
            }
        }
    });
    report
}

/// A socket in the caller's namespace that talks to one target and stops waiting after
/// `patience`.
///
/// # Errors
///
/// When there is no route to the target.
pub fn connect(target: SocketAddr, patience: Duration) -> io::Result<UdpSocket> {
    let any: IpAddr = if target.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

/// Sends one datagram and answers with the name of the worker that echoed it.
///
/// # Errors
///
/// When no answer comes, or one with another payload.
pub fn ask_once(socket: &UdpSocket, payload: &[u8]) -> io::Result<String> {
    socket.send(payload)?;
    let mut buffer = vec![0; LARGEST];
    let length = socket.recv(&mut buffer)?;
    let name = buffer[..length]
        .strip_suffix(payload)
        .and_then(|head| head.strip_suffix(b":"));
    name.map(|name| String::from_utf8_lossy(name).into_owned())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not an echo of what was sent"))
}
