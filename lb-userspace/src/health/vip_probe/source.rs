//! The source address of checks that ask a virtual address.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    sys::socket::SockaddrStorage,
};

use lb_core::health::VipPath;

/// The source address of a check: the configured one, else the one that this machine uses towards
/// the worker. It is never one of `avoided`, the virtual addresses: workers have these addresses
/// themselves, so their replies would not leave them.
pub(crate) fn source(path: &VipPath, avoided: &BTreeSet<IpAddr>) -> io::Result<IpAddr> {
    if let Some(source) = path.source {
        return Ok(source);
    }
    let routed = routed(path.worker)?;
    if !avoided.contains(&routed) {
        return Ok(routed);
    }
    let known: Vec<_> = getifaddrs()?
        .filter_map(|found| Some((address(&found)?, found)))
        .collect();
    let chosen = known.iter().find(|(address, _)| *address == routed);
    let interface = chosen.map(|(_, found)| found.interface_name.as_str());
    let others = known
        .iter()
        .filter(|(address, found)| Some(found.interface_name.as_str()) == interface && !avoided.contains(address))
        .map(|(address, _)| *address);
    nearest(others, path.worker).ok_or_else(|| {
        io::Error::other(format!(
            "the source address towards {} is the virtual address {routed}, and the interface has no other: set `source` in the \
             health check",
            path.worker
        ))
    })
}

/// The source address that the kernel chooses for packets to a worker. Nothing is sent.
fn routed(worker: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match worker {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Any port does.
    socket.connect((worker, 9))?;
    Ok(socket.local_addr()?.ip())
}

fn address(found: &InterfaceAddress) -> Option<IpAddr> {
    let address: SockaddrStorage = found.address?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The address of the worker's family with the longest prefix in common (RFC 6724, section 5, rule
/// 8). Link-local addresses do not count.
fn nearest(addresses: impl Iterator<Item = IpAddr>, worker: IpAddr) -> Option<IpAddr> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    addresses
        .filter(|address| address.is_ipv4() == worker.is_ipv4())
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .max_by_key(|address| (bits(*address) ^ bits(worker)).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_with_the_longest_common_prefix_is_chosen() {
        for (addresses, worker, then) in [
            (&["192.0.2.1", "10.0.0.1", "10.0.1.1"][..], "10.0.1.7", Some("10.0.1.1")),
            (
                &["fe80::1", "2001:db8:1::1", "2001:db8:2::1"],
                "2001:db8:2::7",
                Some("2001:db8:2::1"),
            ),
            (&["fe80::1", "10.0.0.1"], "2001:db8::7", None),
        ] {
            let parsed = addresses.iter().map(|address| address.parse().unwrap());
            let found = nearest(parsed, worker.parse().unwrap());
            assert_eq!(found, then.map(|then| then.parse().unwrap()), "{worker}");
        }
    }
}
