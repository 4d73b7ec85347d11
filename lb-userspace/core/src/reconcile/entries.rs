//! Builds the map entries of services and backends from the desired state.

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    Backend, BackendState, BackendStatus, Be16, Guards, Options, Ring, Service, family::address, service::MAX_SOURCES,
};

use super::desired::{DesiredBackend, DesiredService, DesiredTunnel};
use crate::reconcile::{GuardVerdict, Guarded, VirtualAddress};

/// What identifies a service in the maps: address, protocol and first port, and whether it has
/// several ports. A service keeps its entry as long as these stay the same.
pub type Front = (VirtualAddress, bool);

/// What identifies the service of an entry; `None`: the entry is invalid.
pub fn front(service: &Service) -> Option<Front> {
    let at = VirtualAddress {
        address: address::from_words(service.family, service.address)?,
        port: service.port.host(),
        protocol: service.protocol,
    };
    Some((at, service.last_port.host() > at.port))
}

/// The entry of a service. `before` is its present entry: flows refer to a source address by its
/// position, so an address that stays keeps its position.
pub(super) fn service(desired: &DesiredService, ring: Ring, before: Option<&Service>) -> Service {
    let (sources, source_count) = places(&desired.sources, before);
    let guard = &desired.guard;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    Service {
        ring,
        on_backend_down: desired.on_backend_down as u8,
        mode: desired.mode as u8,
        family: address::family(desired.at.address),
        protocol: desired.at.protocol,
        nat_port_low: desired.nat_ports.low,
        nat_port_count: u16::try_from(desired.nat_ports.count()).unwrap_or(u16::MAX),
        port: Be16::from_host(desired.at.port),
        last_port: Be16::from_host(desired.last_port),
        source_count,
        address: address::to_words(desired.at.address),
        sources,
        source_prefix: desired.source_prefix,
        guards: bit(!guard.allow.is_empty(), Guards::ALLOW) | bit(!guard.deny.is_empty(), Guards::DENY),
        options: if desired.toa { Options::TOA } else { 0 },
        connection_limit: guard.connection_limit,
        source_rate: guard.source_rate,
        source_burst: guard.source_burst,
        flood_rate: guard.flood_rate,
        reserved: 0,
    }
}

/// The source addresses in their positions, and the number of positions. The position of a removed
/// address is given to another one, which may then appear twice. So no packet is ever sent from an
/// address that is not the service's.
fn places(sources: &[IpAddr], before: Option<&Service>) -> ([[u32; 4]; MAX_SOURCES], u32) {
    let desired: Vec<[u32; 4]> = sources
        .iter()
        .take(MAX_SOURCES)
        .map(|source| address::to_words(*source))
        .collect();
    let old = before.map_or(&[][..], |before| {
        &before.sources[..(before.source_count as usize).min(MAX_SOURCES)]
    });
    let mut added = desired.iter().filter(|source| !old.contains(source));
    let mut again = desired.iter().cycle();
    let mut placed: Vec<[u32; 4]> = Vec::with_capacity(MAX_SOURCES);
    if !desired.is_empty() {
        let other = |kept: &[u32; 4]| if desired.contains(kept) { Some(*kept) } else { None };
        placed.extend(
            old.iter()
                .filter_map(|kept| other(kept).or_else(|| added.next().or_else(|| again.next()).copied())),
        );
    }
    for source in added {
        let seconds = (1..placed.len())
            .rev()
            .find(|place| placed[..*place].contains(&placed[*place]));
        match seconds {
            _ if placed.len() < MAX_SOURCES => placed.push(*source),
            Some(place) => placed[place] = *source,
            None => {}
        }
    }
    let mut places = [[0; 4]; MAX_SOURCES];
    places[..placed.len()].copy_from_slice(&placed);
    (places, placed.len() as u32)
}

/// The entry of a backend, at `index`, of the service at index `of`. Only its status changes while
/// it is in use.
pub(super) fn backend(
    (of, service): (u32, &DesiredService),
    index: u32,
    desired: &DesiredBackend,
    state: BackendState,
    generation: u32,
) -> Backend {
    let at = desired.address;
    let (tunnel_source, tunnel_spread, tunnel_port) = tunnel(desired.tunnel);
    Backend {
        status: BackendStatus::new(state, generation, address::family(at.ip()), Be16::from_host(at.port())),
        service: of,
        // Each backend has the next hop at its own index.
        next_hop: index,
        address: address::to_words(at.ip()),
        virtual_address: address::to_words(service.at.address),
        tunnel_source,
        tunnel_spread,
        mode: service.mode as u8,
        family: address::family(service.at.address),
        tunnel_port: Be16::from_host(tunnel_port),
        overhead: service.mode.overhead(address::family(at.ip())) as u32,
        reserved: 0,
    }
}

/// Source address, mask of the source bits that come from the flow, and port.
fn tunnel(desired: Option<DesiredTunnel>) -> ([u32; 4], u32, u16) {
    let Some(DesiredTunnel { source, port }) = desired else {
        return ([0; 4], 0, 0);
    };
    // The mask covers the last word in use: the only one of IPv4, the fourth of IPv6.
    let mask = match source.hostmask() {
        IpAddr::V4(mask) => u32::from_ne_bytes(mask.octets()),
        mask @ IpAddr::V6(_) => address::to_words(mask)[3],
    };
    (address::to_words(source.network()), mask, port)
}

/// Address and port of the backend of an entry.
pub(super) fn backend_address(entry: &Backend) -> Option<SocketAddr> {
    let address = address::from_words(entry.status.family(), entry.address)?;
    Some(SocketAddr::new(address, entry.status.port().host()))
}

/// The allow and deny lists of a service at `index`.
pub(super) fn guards(index: u32, desired: &DesiredService) -> impl Iterator<Item = (Guarded, GuardVerdict)> + '_ {
    let listed = move |sources: &ipnet::IpNet, verdict| {
        let guarded = Guarded {
            service: index,
            sources: sources.trunc(),
        };
        (guarded, verdict)
    };
    let allow = desired
        .guard
        .allow
        .iter()
        .map(move |sources| listed(sources, GuardVerdict::Allow));
    let deny = desired
        .guard
        .deny
        .iter()
        .map(move |sources| listed(sources, GuardVerdict::Deny));
    allow.chain(deny)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_keep_their_positions() {
        let [a, b, c, d] =
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|source| source.parse::<IpAddr>().unwrap());
        let mut now = Service::ZERO;
        for (sources, then) in [
            (vec![a, b], vec![a, b]),
            (vec![b, a], vec![a, b]),
            (vec![b], vec![b, b]),
            (vec![b, c], vec![b, b, c]),
            (vec![c, a], vec![a, c, c]),
            (vec![a, b, c], vec![a, c, c, b]),
            (vec![d, a, b, c], vec![a, c, d, b]),
            (vec![], vec![]),
            (vec![c], vec![c]),
        ] {
            (now.sources, now.source_count) = places(&sources, Some(&now));
            let words: Vec<_> = then.iter().map(|source| address::to_words(*source)).collect();
            assert_eq!(now.sources[..now.source_count as usize], words[..], "{sources:?}");
        }
    }

    #[test]
    fn tunnels_spread_over_the_host_bits_of_their_prefix() {
        for (prefix, source, spread) in [
            ("10.1.2.0/24", vec![10, 1, 2, 0], [0, 0, 0, 0xff]),
            ("10.1.2.3/32", vec![10, 1, 2, 3], [0, 0, 0, 0]),
            ("10.0.0.0/8", vec![10, 0, 0, 0], [0, 0xff, 0xff, 0xff]),
            ("fd00:1::/96", vec![0xfd, 0, 0, 1], [0xff; 4]),
            ("fd00:1::/112", vec![0xfd, 0, 0, 1], [0, 0, 0xff, 0xff]),
            ("fd00:1::5/128", vec![0xfd, 0, 0, 1], [0; 4]),
        ] {
            let tunnel = tunnel(Some(DesiredTunnel {
                source: prefix.parse().unwrap(),
                port: 6080,
            }));
            assert_eq!(tunnel.0[0].to_ne_bytes(), source[..], "{prefix}");
            assert_eq!((tunnel.1.to_ne_bytes(), tunnel.2), (spread, 6080), "{prefix}");
        }
        assert_eq!(tunnel(None), ([0; 4], 0, 0));
    }
}
