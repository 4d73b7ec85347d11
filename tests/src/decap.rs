//! Unpacks the tunnels of the modes `ipip` and `gue` on a worker, for kernels that have no modules
//! for these.
//!
//! Sockets receive the outer packets, and a tun device takes what was in them: to the worker's
//! kernel it is as if the tunnel were a device of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    mem::{size_of, zeroed},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use crate::topology::Host;

/// The UDP port that `gue` arrives at.
pub const GUE_PORT: u16 = 6080;

const DEVICE: &str = "decap0";
const IPV4_IN_IP: i32 = 4;
const IPV6_IN_IP: i32 = 41;
const LONGEST: usize = 65_535;
/// A burst of a whole TCP window must not be lost here.
const BUFFER: usize = 8 << 20;

/// What the outer packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP protocols 4 and 41.
    Ipip,
    /// UDP whose payload is the packet.
    Gue,
}

/// Unpacks what comes to a worker by one kind of tunnel, over both families, until it is dropped.
#[derive(Debug)]
pub struct Decapsulator {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// By family of the outer packet, then of the inner one: IPv4 first.
    carried: [[AtomicU64; 2]; 2],
    refused: AtomicU64,
}

/// Where outer packets come in.
struct Entrance {
    socket: Socket,
    /// Whether the outer packets are IPv6.
    outer_v6: bool,
    /// What the inner packets have to be, as the outer header says; `None`: it does not say.
    inner_v6: Option<bool>,
    /// Whether the socket delivers the outer header too.
    with_header: bool,
}

impl Decapsulator {
    /// Starts one on a worker.
    ///
    /// # Errors
    ///
    /// When the machine has no tun device, or one is running there.
    pub fn start(host: &Host, tunnel: Tunnel) -> Result<Self> {
        let opened = host.namespace.run(|| Ok((open_device()?, entrances(tunnel)?)));
        let (device, entrances) = opened
            .map_err(|error: io::Error| error)
            .with_context(|| format!("{} cannot unpack tunnels", host.label))?;
        host.namespace.ip(&format!("link set {DEVICE} up"))?;
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for entrance in entrances {
            let (device, shared) = (device.try_clone()?, Arc::clone(&shared));
            threads.push(thread::spawn(move || entrance.unpack(&device, &shared)));
        }
        Ok(Self { shared, threads })
    }

    /// How many packets of a family came in outer packets of a family.
    pub fn carried(&self, inner_v6: bool, outer_v6: bool) -> u64 {
        self.shared.carried[usize::from(outer_v6)][usize::from(inner_v6)].load(Ordering::Relaxed)
    }

    /// How many outer packets had in them what they should not.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Entrance {
    fn unpack(mut self, mut device: &File, shared: &Shared) {
        let mut buffer = vec![0; LONGEST];
        while !shared.stop.load(Ordering::Relaxed) {
            // Errors are the read timeout.
            let Ok(length) = self.socket.read(&mut buffer) else {
                continue;
            };
            match self.inner(&buffer[..length]) {
                Some((packet, inner_v6)) if device.write(packet).is_ok() => {
                    let counter = &shared.carried[usize::from(self.outer_v6)][usize::from(inner_v6)];
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                _ => {
                    shared.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The inner packet, and whether it is IPv6; `None` when it is not what the outer one says, or
    /// not all there.
    fn inner<'a>(&self, received: &'a [u8]) -> Option<(&'a [u8], bool)> {
        let header = if self.with_header {
            usize::from(received.first()? & 0xf) * 4
        } else {
            0
        };
        let packet = received.get(header..)?;
        let word = |at: usize| {
            Some(usize::from(u16::from_be_bytes([
                *packet.get(at)?,
                *packet.get(at + 1)?,
            ])))
        };
        let (inner_v6, length) = match packet.first()? >> 4 {
            4 => (false, word(2)?),
            6 => (true, word(4)? + 40),
            _ => return None,
        };
        let is_right = length == packet.len() && self.inner_v6.is_none_or(|expected| expected == inner_v6);
        is_right.then_some((packet, inner_v6))
    }
}

fn entrances(tunnel: Tunnel) -> io::Result<Vec<Entrance>> {
    let mut entrances = Vec::new();
    for outer_v6 in [false, true] {
        match tunnel {
            Tunnel::Ipip => {
                for (protocol, inner_v6) in [(IPV4_IN_IP, false), (IPV6_IN_IP, true)] {
                    entrances.push(Entrance {
                        socket: open_socket(outer_v6, Type::RAW, protocol)?,
                        outer_v6,
                        inner_v6: Some(inner_v6),
                        // raw(7): "the IPv4 header is included"; ipv6(7) says that of IPv6 it is
                        // not.
                        with_header: !outer_v6,
                    });
                }
            }
            Tunnel::Gue => entrances.push(Entrance {
                socket: open_gue(outer_v6)?,
                outer_v6,
                inner_v6: None,
                with_header: false,
            }),
        }
    }
    Ok(entrances)
}

fn open_socket(v6: bool, kind: Type, protocol: i32) -> io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, kind, Some(Protocol::from(protocol)))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER as libc::c_int)?;
    Ok(socket)
}

fn open_gue(v6: bool) -> io::Result<Socket> {
    let socket = open_socket(v6, Type::DGRAM, libc::IPPROTO_UDP)?;
    let address: SocketAddr = if v6 {
        socket.set_only_v6(true)?;
        // RFC 6935, section 5: tunnels may do without a checksum; a socket takes such packets only
        // with this option.
        set_option(&socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)?;
        (Ipv6Addr::UNSPECIFIED, GUE_PORT).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, GUE_PORT).into()
    };
    socket.bind(&address.into())?;
    Ok(socket)
}

fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads an integer, which lives through the call and has the length that is
    // given.
    let answer = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A tun device in the caller's namespace; it goes with the last descriptor.
fn open_device() -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes a live `ifreq`, which is what this command takes.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device)
}
