//! Where checks of virtual addresses come from.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    sys::socket::SockaddrStorage,
};

use super::Way;

/// The address of this machine that a check comes from: the one that packets to the worker come from, but none of
/// `avoided`, which are virtual addresses. Workers would keep answers to those for themselves.
pub(crate) fn origin(way: &Way, avoided: &BTreeSet<IpAddr>) -> io::Result<IpAddr> {
    if let Some(source) = way.source {
        return Ok(source);
    }
    let routed = routed(way.worker)?;
    if !avoided.contains(&routed) {
        return Ok(routed);
    }
    let known: Vec<_> = getifaddrs()?
        .filter_map(|found| Some((address(&found)?, found)))
        .collect();
    let there = known.iter().find(|(address, _)| *address == routed);
    let interface = there.map(|(_, found)| found.interface_name.as_str());
    let others = known
        .iter()
        .filter(|(address, found)| Some(found.interface_name.as_str()) == interface && !avoided.contains(address))
        .map(|(address, _)| *address);
    nearest(others, way.worker).ok_or_else(|| {
        io::Error::other(format!(
            "packets to {} come from the virtual address {routed}, and there is no other; `source` in the health check names one",
            way.worker
        ))
    })
}

/// The source of packets to a worker. It sends none, but asks the kernel.
fn routed(worker: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match worker {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // The port does not matter.
    socket.connect((worker, 9))?;
    Ok(socket.local_addr()?.ip())
}

fn address(found: &InterfaceAddress) -> Option<IpAddr> {
    let address: SockaddrStorage = found.address?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The address of the worker's family that has most leading bits in common with it (RFC 6724, section 5, rule 8), and
/// that is not of the link alone.
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
    fn the_nearest_address_of_the_family_is_taken() {
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
