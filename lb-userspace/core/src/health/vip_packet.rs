//! Rewrites the packets of a check that asks a virtual address through one worker: destination,
//! checksums, tunnel header.

use std::net::IpAddr;

use lb_common::{
    Mode,
    check_answer::AnswerKey,
    checksum,
    family::address,
    wire::{ipv4, ipv6, tcp, udp},
};

use super::VipPath;

/// IP protocol number of IPv4 in IP.
const IPIP: u8 = 4;
/// IP protocol number of IPv6 in IP.
const IPV6_IN_IP: u8 = 41;
/// TTL or hop limit of outer packets.
const OUTER_TTL: u8 = 64;
/// Source port of GUE. RFC 6335, section 6: the first of the dynamic ports.
const GUE_SOURCE_PORT: u16 = 0xc000;

/// A packet for a worker.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The address that the kernel routes it to.
    pub next_hop: IpAddr,
    /// The packet, from its outermost IP header on.
    pub bytes: Vec<u8>,
    /// Matches the worker's replies. `None`: the packet has no ports, so no reply can be matched.
    pub replies: Option<AnswerKey>,
}

/// The destination address of an IP packet, which is a placeholder. `None`: the packet is too
/// short, or not IP.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let bytes: [u8; 4] = packet.get(ipv4::DESTINATION..)?.first_chunk().copied()?;
            Some(bytes.into())
        }
        6 => {
            let bytes: [u8; 16] = packet.get(ipv6::DESTINATION..)?.first_chunk().copied()?;
            Some(bytes.into())
        }
        _ => None,
    }
}

/// Makes a check's packet ready for the worker: addresses it to the virtual address and adds the
/// tunnel header of the mode. `None`: checks send no such packet.
pub fn outgoing(packet: &[u8], path: &VipPath) -> Option<Outgoing> {
    let mut inner = packet.to_vec();
    let transport = redirect(&mut inner, path.virtual_address)?;
    let protocol = transport.protocol;
    let replies = ports(&inner, transport.offset).map(|[source, destination]| AnswerKey {
        source: address::to_words(path.virtual_address),
        source_port: destination,
        destination_port: source,
        family: address::family(path.virtual_address),
        protocol,
        reserved: 0,
    });
    let bytes = match path.mode {
        Mode::Ipip | Mode::Gue => {
            let (source, port) = path.tunnel?;
            encapsulate(&inner, (source, path.worker), (path.mode == Mode::Gue).then_some(port))?
        }
        Mode::Dsr | Mode::Nat | Mode::Dnat => inner,
    };
    Some(Outgoing {
        next_hop: path.worker,
        bytes,
        replies,
    })
}

/// Where the transport header is.
struct Transport {
    protocol: u8,
    /// Bytes from the start of the packet.
    offset: usize,
}

/// Replaces the destination address and recomputes the checksums.
fn redirect(packet: &mut [u8], to: IpAddr) -> Option<Transport> {
    let transport = match (packet.first()? >> 4, to) {
        (4, IpAddr::V4(to)) => {
            let offset = usize::from(packet[0] & 15) * 4;
            let header = packet.get_mut(..offset).filter(|header| header.len() >= ipv4::LENGTH)?;
            header[ipv4::DESTINATION..ipv4::LENGTH].copy_from_slice(&to.octets());
            header[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].fill(0);
            let sum = checksum::full(header, 0);
            header[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&sum.to_ne_bytes());
            Transport {
                protocol: header[ipv4::PROTOCOL],
                offset,
            }
        }
        (6, IpAddr::V6(to)) => {
            let header = packet.get_mut(..ipv6::LENGTH)?;
            header[ipv6::DESTINATION..].copy_from_slice(&to.octets());
            Transport {
                protocol: header[ipv6::NEXT_HEADER],
                offset: ipv6::LENGTH,
            }
        }
        _ => return None,
    };
    let field = match transport.protocol {
        tcp::PROTOCOL => tcp::CHECKSUM,
        udp::PROTOCOL => udp::CHECKSUM,
        _ => return None,
    };
    let pseudo = pseudo(packet, &transport)?;
    let segment = packet.get_mut(transport.offset..)?;
    segment.get_mut(field..field + 2)?.fill(0);
    let sum = match checksum::full(segment, pseudo) {
        // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
        0 if transport.protocol == udp::PROTOCOL => 0xffff,
        sum => sum,
    };
    segment[field..field + 2].copy_from_slice(&sum.to_ne_bytes());
    Some(transport)
}

/// The checksum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
fn pseudo(packet: &[u8], transport: &Transport) -> Option<u64> {
    let addresses = match packet.first()? >> 4 {
        4 => packet.get(ipv4::SOURCE..ipv4::LENGTH)?,
        _ => packet.get(ipv6::SOURCE..ipv6::LENGTH)?,
    };
    let length = u32::try_from(packet.len().checked_sub(transport.offset)?).ok()?;
    let mut words = addresses.to_vec();
    words.extend_from_slice(&length.to_be_bytes());
    words.extend_from_slice(&[0, 0, 0, transport.protocol]);
    Some(u64::from(!checksum::full(&words, 0)))
}

/// Source and destination port, in network byte order.
fn ports(packet: &[u8], transport: usize) -> Option<[u16; 2]> {
    let bytes = packet.get(transport..)?.first_chunk::<4>()?;
    Some([
        u16::from_ne_bytes([bytes[0], bytes[1]]),
        u16::from_ne_bytes([bytes[2], bytes[3]]),
    ])
}

/// Adds the outer header of a tunnel. `gue` is the UDP destination port of GUE; `None`: IP in IP.
fn encapsulate(inner: &[u8], (source, worker): (IpAddr, IpAddr), gue: Option<u16>) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    let protocol = match gue {
        Some(port) => {
            let length = u16::try_from(udp::LENGTH + inner.len()).ok()?;
            payload.extend_from_slice(&GUE_SOURCE_PORT.to_be_bytes());
            payload.extend_from_slice(&port.to_be_bytes());
            payload.extend_from_slice(&length.to_be_bytes());
            // RFC 6935, section 5: a tunnel may omit the checksum (zero), because the inner packet
            // has its own.
            payload.extend_from_slice(&[0, 0]);
            udp::PROTOCOL
        }
        None if inner.first()? >> 4 == 4 => IPIP,
        None => IPV6_IN_IP,
    };
    payload.extend_from_slice(inner);
    let mut outer = Vec::new();
    match (source, worker) {
        (IpAddr::V4(source), IpAddr::V4(worker)) => {
            let length = u16::try_from(ipv4::LENGTH + payload.len()).ok()?.to_be_bytes();
            // The kernel writes identification and checksum.
            outer.extend_from_slice(&[0x45, 0, length[0], length[1], 0, 0, 0, 0, OUTER_TTL, protocol, 0, 0]);
            outer.extend_from_slice(&source.octets());
            outer.extend_from_slice(&worker.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(worker)) => {
            let length = u16::try_from(payload.len()).ok()?.to_be_bytes();
            outer.extend_from_slice(&[0x60, 0, 0, 0, length[0], length[1], protocol, OUTER_TTL]);
            outer.extend_from_slice(&source.octets());
            outer.extend_from_slice(&worker.octets());
        }
        _ => return None,
    }
    outer.extend(payload);
    Some(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment with four bytes of data to a placeholder address; its checksums are wrong.
    fn segment(v6: bool) -> Vec<u8> {
        let tcp = [
            0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 1, 2, 0, 0, b'b', b'o', b'd', b'y',
        ];
        let mut packet = if v6 {
            let mut header = vec![0x60, 0, 0, 0, 0, 24, 6, 64];
            header.extend_from_slice(&"2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
            header.extend_from_slice(&"100::5".parse::<std::net::Ipv6Addr>().unwrap().octets());
            header
        } else {
            vec![0x45, 0, 0, 44, 0, 1, 0x40, 0, 64, 6, 9, 9, 192, 0, 2, 1, 240, 0, 0, 5]
        };
        packet.extend_from_slice(&tcp);
        packet
    }

    fn path(virtual_address: &str, worker: &str, mode: Mode, tunnel: Option<&str>) -> VipPath {
        VipPath {
            virtual_address: virtual_address.parse().unwrap(),
            worker: worker.parse().unwrap(),
            mode,
            tunnel: tunnel.map(|source| (source.parse().unwrap(), 6080)),
            device: "lbd0".to_owned(),
            source: None,
        }
    }

    fn assert_checksums(packet: &[u8]) {
        let v6 = packet[0] >> 4 == 6;
        let offset = if v6 { ipv6::LENGTH } else { ipv4::LENGTH };
        if !v6 {
            assert_eq!(checksum::full(&packet[..ipv4::LENGTH], 0), 0, "of the header");
        }
        let transport = Transport { protocol: 6, offset };
        let pseudo = pseudo(packet, &transport).unwrap();
        assert_eq!(checksum::full(&packet[offset..], pseudo), 0, "of the segment");
    }

    #[test]
    fn a_packet_reaches_the_worker_like_one_from_a_client() {
        for (v6, virtual_address) in [(false, "192.0.2.80"), (true, "2001:db8::80")] {
            let like: IpAddr = virtual_address.parse().unwrap();
            for (mode, worker, source, overhead) in [
                (Mode::Dsr, if v6 { "2001:db8::7" } else { "192.0.2.7" }, None, 0),
                (Mode::Ipip, "10.0.0.7", Some("198.18.0.0"), 20),
                (Mode::Ipip, "2001:db8:9::7", Some("2001:db8:18::"), 40),
                (Mode::Gue, "10.0.0.7", Some("198.18.0.0"), 28),
                (Mode::Gue, "2001:db8:9::7", Some("2001:db8:18::"), 48),
            ] {
                let packet = segment(v6);
                let out = outgoing(&packet, &path(virtual_address, worker, mode, source)).unwrap();
                assert_eq!(out.next_hop, worker.parse::<IpAddr>().unwrap());
                assert_eq!(out.bytes.len(), packet.len() + overhead, "{mode:?} {worker}");
                if overhead > 0 {
                    assert_eq!(destination(&out.bytes), Some(out.next_hop));
                }
                let inner = &out.bytes[overhead..];
                assert_eq!(destination(inner), Some(like));
                assert_checksums(inner);
                let key = out.replies.unwrap();
                assert_eq!(
                    (key.source_port, key.destination_port),
                    (80_u16.to_be(), 40_000_u16.to_be())
                );
                assert_eq!(address::from_words(key.family, key.source), Some(like));
                assert_eq!(key.protocol, 6);
            }
        }
    }

    #[test]
    fn packets_that_checks_do_not_send_are_dropped() {
        let to = path("192.0.2.80", "192.0.2.7", Mode::Dsr, None);
        let packet = segment(false);
        for length in 0..36 {
            assert_eq!(outgoing(&packet[..length], &to), None, "{length} bytes");
        }
        assert_eq!(outgoing(&segment(true), &to), None, "of the other family");
        let mut other = packet.clone();
        other[ipv4::PROTOCOL] = 1;
        assert_eq!(outgoing(&other, &to), None, "neither TCP nor UDP");
        let mut short_header = packet;
        short_header[0] = 0x44;
        assert_eq!(outgoing(&short_header, &to), None, "the header length is too small");
        assert_eq!(destination(&[]), None);
        assert_eq!(destination(&[0x60; 30]), None);
    }
}
