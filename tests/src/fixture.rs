//! Services of every mode over maps that no daemon keeps: for packet tables, the fuzz and the
//! packet bench.

use std::net::{IpAddr, SocketAddr};

use lb_common::{BackendState, Mode, NextHop, OnBackendDown, Scheduler};
use lb_core::{
    config::{Guard, PortRange},
    reconcile::{
        VirtualAddress,
        desired::{DesiredBackend, DesiredService, DesiredTunnel},
    },
};

use crate::packet::Packet;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// Port of every service.
pub const PORT: u16 = 80;
/// Port of workers in the modes that translate.
pub const WORKER_PORT: u16 = 8080;
/// UDP port of the far end in `gue`.
pub const GUE_PORT: u16 = 6080;
/// Ports that `nat` uses.
pub const NAT_PORTS: PortRange = PortRange {
    low: 20_000,
    high: 56_999,
};
/// Largest IP packet towards workers.
pub const MTU: u32 = 1500;
/// Index of the loopback interface, on which test runs come in.
pub const LOOPBACK: u32 = 1;

/// Virtual address of the services of a mode.
pub fn virtual_address(mode: Mode, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 0xff + mode as u16])
    } else {
        IpAddr::from([10, 77, 0, 99 + mode as u8])
    }
}

/// Virtual address and port of the services of a mode.
pub fn front(mode: Mode, v6: bool) -> SocketAddr {
    SocketAddr::new(virtual_address(mode, v6), PORT)
}

/// Address and port of a worker of a mode.
pub fn worker(mode: Mode, v6: bool, host: u8) -> SocketAddr {
    let address = if v6 {
        IpAddr::from([0xfd77, 0, 0, 0, 0, 0, mode as u16, u16::from(host)])
    } else {
        IpAddr::from([10, 77, mode as u8, host])
    };
    SocketAddr::new(address, if mode.translates() { WORKER_PORT } else { PORT })
}

/// Link-layer address of a worker.
pub fn worker_mac(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, host]
}

/// Outer source addresses of tunnels to workers of a family.
pub fn tunnel_source(v6: bool) -> ipnet::IpNet {
    if v6 {
        "fd7a::/112".parse().expect("a prefix")
    } else {
        "10.200.0.0/16".parse().expect("a prefix")
    }
}

/// A service of a mode over these workers, all up.
pub fn service(mode: Mode, v6: bool, protocol: u8, hosts: impl IntoIterator<Item = u8>) -> DesiredService {
    let backends = hosts.into_iter().map(|host| backend(mode, v6, host, v6));
    DesiredService {
        at: VirtualAddress {
            address: virtual_address(mode, v6),
            port: PORT,
            protocol,
        },
        last_port: PORT,
        mode,
        scheduler: Scheduler::RoundRobin,
        source_prefix: if v6 { 128 } else { 32 },
        on_backend_down: OnBackendDown::Reset,
        sources: if mode == Mode::Nat {
            vec![virtual_address(mode, v6)]
        } else {
            Vec::new()
        },
        nat_ports: NAT_PORTS,
        toa: false,
        guard: Guard::default(),
        backends: backends.collect(),
    }
}

/// A backend of a mode; `outer_v6` is the family of a tunnel.
pub fn backend(mode: Mode, v6: bool, host: u8, outer_v6: bool) -> DesiredBackend {
    let tunnel = DesiredTunnel {
        source: tunnel_source(outer_v6),
        port: if mode == Mode::Gue { GUE_PORT } else { 0 },
    };
    DesiredBackend {
        address: worker(mode, if mode.encapsulates() { outer_v6 } else { v6 }, host),
        fallback: false,
        weight: 1,
        state: Some(BackendState::Up),
        begins: BackendState::Draining,
        // A test run comes in on the loopback interface: so the packet goes out where it came in.
        next_hop: Some(NextHop {
            mtu: MTU,
            ..NextHop::new(LOOPBACK, [2, 0, 0, 0, 0, 2], worker_mac(host))
        }),
        tunnel: mode.encapsulates().then_some(tunnel),
    }
}

/// A client.
pub fn client(v6: bool, port: u16) -> SocketAddr {
    let address = if v6 {
        IpAddr::from([0xfd78, 0, 0, 0, 0, 0, 0, 9])
    } else {
        IpAddr::from([10, 78, 0, 9])
    };
    SocketAddr::new(address, port)
}

/// A segment of that client to the service of a mode.
pub fn tcp(mode: Mode, v6: bool, port: u16, flags: u8) -> Packet {
    Packet::tcp(client(v6, port), front(mode, v6), flags)
}

/// The service of a mode with one worker.
pub fn one(mode: Mode, v6: bool, protocol: u8) -> Vec<DesiredService> {
    vec![service(mode, v6, protocol, [1])]
}
