//! Who takes part: services of every mode, their workers, clients and routers.

use std::net::{IpAddr, SocketAddr};

use lb_common::{BackendState, Mode, OnBackendDown, Tags};
use lb_core::reconcile::desired::DesiredService;

use super::Random;
use crate::fixture::{self, TCP, UDP};

/// Workers of each service.
const HOSTS: [u8; 3] = [1, 2, 3];
/// VLAN of the second workers.
const VLAN: u16 = 7;
/// Clients' ports, of which `nat` can keep all but the first.
pub const PORTS: [u16; 4] = [1024, 30_000, 30_001, 56_999];
/// Number of clients.
pub const CLIENTS: u8 = 3;

/// The services, all backends up.
pub fn services() -> Vec<DesiredService> {
    let mut services = Vec::new();
    for mode in Mode::ALL {
        for v6 in [false, true] {
            for protocol in [TCP, UDP] {
                services.push(service(mode, v6, protocol));
            }
        }
    }
    services
}

fn service(mode: Mode, v6: bool, protocol: u8) -> DesiredService {
    let mut service = fixture::service(mode, v6, protocol, HOSTS);
    if mode.encapsulates() {
        service.backends[2] = fixture::backend(mode, v6, HOSTS[2], !v6);
    }
    if let Some(hop) = &mut service.backends[1].next_hop {
        hop.tags = Tags::vlan(VLAN);
    }
    service.on_backend_down = match (v6, mode.encapsulates()) {
        (false, _) => OnBackendDown::Reset,
        (true, false) => OnBackendDown::Hold,
        (true, true) => OnBackendDown::Reschedule,
    };
    if v6 && mode == Mode::Nat {
        service.on_backend_down = OnBackendDown::Reschedule;
    }
    service
}

/// Indices of the services that a sequence is mostly about, so that there is much of each.
pub type Focus = [usize; 4];

/// A choice of services.
pub fn focus(random: &mut Random) -> Focus {
    [0; 4].map(|_| random.below(services().len()))
}

/// Changes a backend of a service: it goes away, comes back, or changes its state.
pub fn change(services: &mut [DesiredService], focus: Focus, random: &mut Random) {
    let service = &mut services[random.one(&focus)];
    let host = random.below(HOSTS.len());
    let whole = self::service(service.mode, service.at.address.is_ipv6(), service.at.protocol);
    let backend = &whole.backends[host];
    let place = service
        .backends
        .iter()
        .position(|other| other.address == backend.address);
    let state = random.one(&[
        BackendState::Up,
        BackendState::Draining,
        BackendState::Down,
        BackendState::Down,
    ]);
    match place {
        Some(place) if random.once_in(4) => {
            service.backends.remove(place);
        }
        Some(place) => service.backends[place].state = Some(state),
        None => service.backends.push(backend.clone()),
    }
}

/// A client.
pub fn client(v6: bool, host: u8, port: u16) -> SocketAddr {
    let address = if v6 {
        IpAddr::from([0xfd78, 0, 0, 0, 0, 0, 0, u16::from(host)])
    } else {
        IpAddr::from([10, 78, 0, host])
    };
    SocketAddr::new(address, port)
}

/// A router on the path.
pub fn router(v6: bool) -> IpAddr {
    client(v6, 200, 0).ip()
}

/// Everybody.
pub fn addresses() -> Vec<IpAddr> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        all.push(router(v6));
        all.extend((1..=CLIENTS).map(|host| client(v6, host, 0).ip()));
        for mode in Mode::ALL {
            all.push(fixture::virtual_address(mode, v6));
            all.extend(HOSTS.map(|host| fixture::worker(mode, v6, host).ip()));
        }
    }
    all
}
