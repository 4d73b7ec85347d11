//! Packets of a few flows from all CPUs at once, so that they meet in the flow table.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use anyhow::Result;
use lb_common::Mode;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    fixture::{self, NAT_PORTS, TCP, UDP},
    packet::{ACK, FIN, Packet, RST, SYN},
    testrun,
};

/// Workers of each service.
pub const WORKERS: u8 = 2;
/// How many packets one CPU may be ahead of another.
const AHEAD: u64 = 4;

/// How many clients there are, and how many ports each uses.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Clients of each family.
    pub clients: u64,
    /// Ports of each client.
    pub ports: u64,
}

/// Runs `packets` packets on each of two CPUs, all of flows of the crowd to the services of every
/// mode. Both CPUs take their flows in the same order, so that packets of a flow meet; what its
/// packet is differs.
///
/// # Errors
///
/// When the kernel refuses a run.
pub fn run(program: BorrowedFd<'_>, crowd: Crowd, packets: u64, seed: u64) -> Result<()> {
    let cpus = thread::available_parallelism()?.get();
    let turns = &[const { AtomicU64::new(0) }; 2];
    thread::scope(|scope| {
        let runners: Vec<_> = (0..turns.len())
            .map(|number| {
                scope.spawn(move || {
                    let mut cpu = CpuSet::new();
                    cpu.set(number % cpus)?;
                    sched_setaffinity(Pid::from_raw(0), &cpu)?;
                    let result = (0..packets).try_for_each(|turn| {
                        turns[number].store(turn, Ordering::Release);
                        while turns[1 - number].load(Ordering::Acquire) + AHEAD < turn {
                            thread::yield_now();
                        }
                        let flow = random(seed, turn / 8);
                        let packet = packet(crowd, flow, random(seed ^ (1 + number as u64) << 56, turn));
                        testrun::run(program, &packet.bytes(), 1).map(drop)
                    });
                    // Nobody waits for one that is done, or that failed.
                    turns[number].store(u64::MAX / 2, Ordering::Release);
                    result
                })
            })
            .collect();
        runners
            .into_iter()
            .try_for_each(|runner| runner.join().expect("no panic"))
    })
}

/// A packet of the client or of a worker of a flow.
fn packet(crowd: Crowd, flow: u64, kind: u64) -> Packet {
    let mode = Mode::ALL[flow as usize % Mode::ALL.len()];
    let v6 = flow >> 8 & 1 != 0;
    let client = client(v6, flow >> 16 & 0xffff, flow >> 32 & 0xffff, crowd);
    let front = fixture::front(mode, v6);
    let protocol = if flow >> 9 & 3 == 0 { UDP } else { TCP };
    let is_answer = mode.translates() && kind & 1 != 0;
    let (source, destination) = if is_answer {
        let host = 1 + (kind >> 1) as u8 % WORKERS;
        // In `nat` the client's own port, where it is free.
        let to = if mode == Mode::Nat {
            SocketAddr::new(front.ip(), client.port())
        } else {
            client
        };
        (fixture::worker(mode, v6, host), to)
    } else {
        (client, front)
    };
    if protocol == UDP {
        return Packet::udp(source, destination, &[0; 8]);
    }
    let flags = match (kind >> 8 & 0xf, is_answer) {
        (0..6, false) => SYN,
        (0..6, true) => SYN | ACK,
        (6..12, _) => ACK,
        (12..15, _) => FIN | ACK,
        _ => RST,
    };
    Packet::tcp(source, destination, flags)
}

fn client(v6: bool, client: u64, port: u64, crowd: Crowd) -> SocketAddr {
    let host = 1 + (client % crowd.clients) as u8;
    let address = if v6 {
        IpAddr::from([0xfd78, 0, 0, 0, 0, 0, 0, u16::from(host)])
    } else {
        IpAddr::from([10, 78, 0, host])
    };
    SocketAddr::new(address, NAT_PORTS.low + (port % crowd.ports) as u16)
}

/// The number of this turn, as splitmix64 makes it.
fn random(seed: u64, turn: u64) -> u64 {
    let number = seed.wrapping_add((turn + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
