//! The frames that the program is to send.

use std::net::{IpAddr, SocketAddr};

use super::{
    Backend, Hop,
    frame::{ICMP, Ip, TCP, Transport, UDP, word32},
    sums::{mend, mend_udp, octets, pseudo, set},
};
use crate::packet::{ACK, FIN, RST, SYN};
use lb_common::Mode;

/// The frame to a hop: its addresses, and its VLANs where the frame is in others.
pub fn to_hop(frame: &[u8], ip: &Ip, hop: &Hop) -> Vec<u8> {
    let mut out = [hop.to, hop.from].concat();
    if ip.vlans() == hop.vlans {
        out.extend(&frame[12..ip.l3]);
    } else {
        tags(&mut out, hop, ip.v6);
    }
    out.extend(&frame[ip.l3..]);
    out
}

fn tags(out: &mut Vec<u8>, hop: &Hop, v6: bool) {
    let vlans: Vec<u16> = hop.vlans.into_iter().filter(|vlan| *vlan != 0).collect();
    for (at, vlan) in vlans.iter().enumerate() {
        // IEEE 802.1ad: the outer one of two is a service tag.
        let kind: u16 = if at + 1 < vlans.len() { 0x88a8 } else { 0x8100 };
        out.extend(kind.to_be_bytes());
        out.extend(vlan.to_be_bytes());
    }
    out.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
}

/// The same packet with other addresses and one hop less; with other ports where its transport
/// header is here.
pub fn translated(frame: &[u8], ip: &Ip, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut out = one_hop_less(frame, ip);
    put_addresses(&mut out, ip.l3, ip.v6, from.ip(), to.ip());
    if !ip.v6 {
        let (before, after) = (&frame[ip.l3..header_end(frame, ip)], ip.l3..header_end(frame, ip));
        mend(before, &[], &mut out[after], &[], 10);
    }
    if ip.is_first {
        put_ports(&mut out, ip.l4, from.port(), to.port());
        let old = pseudo(ip.source, ip.destination, 0, 0);
        let new = pseudo(from.ip(), to.ip(), 0, 0);
        mend_transport(frame, &old, &mut out, &new, ip.protocol, ip.l4, ip.end);
    }
    out
}

fn header_end(frame: &[u8], ip: &Ip) -> usize {
    ip.l3 + usize::from(frame[ip.l3] & 15) * 4
}

fn put_addresses(out: &mut [u8], l3: usize, v6: bool, from: IpAddr, to: IpAddr) {
    let both = [octets(from), octets(to)].concat();
    let at = l3 + if v6 { 8 } else { 12 };
    out[at..at + both.len()].copy_from_slice(&both);
}

fn put_ports(out: &mut [u8], l4: usize, from: u16, to: u16) {
    out[l4..l4 + 2].copy_from_slice(&from.to_be_bytes());
    out[l4 + 2..l4 + 4].copy_from_slice(&to.to_be_bytes());
}

fn mend_transport(frame: &[u8], old: &[u8], out: &mut [u8], new: &[u8], protocol: u8, l4: usize, end: usize) {
    if protocol == UDP {
        mend_udp(&frame[l4..end], old, &mut out[l4..end], new, 6);
    } else if end - l4 >= 18 {
        mend(&frame[l4..end], old, &mut out[l4..end], new, 16);
    }
}

/// The same packet with one hop less.
pub fn one_hop_less(frame: &[u8], ip: &Ip) -> Vec<u8> {
    let mut out = frame.to_vec();
    if ip.v6 {
        out[ip.l3 + 7] -= 1;
    } else {
        out[ip.l3 + 8] -= 1;
        let header = ip.l3..header_end(frame, ip);
        mend(&frame[header.clone()], &[], &mut out[header], &[], 10);
    }
    out
}

/// An IP header without options.
fn fresh_ip(from: IpAddr, to: IpAddr, protocol: u8, class: u8, label: u32, payload: usize) -> Vec<u8> {
    let mut header = Vec::new();
    if from.is_ipv6() {
        header.extend((0x6000_0000 | u32::from(class) << 20 | label).to_be_bytes());
        header.extend((payload as u16).to_be_bytes());
        header.extend([protocol, 64]);
    } else {
        header.extend([0x45, class]);
        header.extend((20 + payload as u16).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    }
    header.extend(octets(from));
    header.extend(octets(to));
    if from.is_ipv4() {
        set(&mut header, &[], 10);
    }
    header
}

/// The frame's header back to where the frame came from.
fn turned(frame: &[u8], ip: &Ip) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..ip.l3]].concat()
}

/// The RST that answers a segment. RFC 9293, section 3.10.7.1: "If the ACK bit is off, sequence
/// number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. If the ACK bit is on,
/// <SEQ=SEG.ACK><CTL=RST>."
pub fn reset(frame: &[u8], ip: &Ip, transport: &Transport) -> Vec<u8> {
    let flags = transport.flags;
    let word = |at| word32(frame, ip.l4 + at).expect("the header was read");
    let (sequence, acknowledgement, answer) = if flags & ACK != 0 {
        (word(8), 0, RST)
    } else {
        let data = ip.end - ip.l4 - usize::from(frame[ip.l4 + 12] >> 4) * 4;
        let length = data as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (0, word(4).wrapping_add(length), RST | ACK)
    };
    let mut segment = Vec::new();
    segment.extend(transport.destination.to_be_bytes());
    segment.extend(transport.source.to_be_bytes());
    segment.extend(u32::to_be_bytes(sequence));
    segment.extend(u32::to_be_bytes(acknowledgement));
    segment.extend([0x50, answer, 0, 0, 0, 0, 0, 0]);
    set(&mut segment, &pseudo(ip.destination, ip.source, TCP, 20), 16);
    let mut out = turned(frame, ip);
    out.extend(fresh_ip(ip.destination, ip.source, TCP, 0, 0, 20));
    out.extend(segment);
    out
}

/// The ICMP error with an MTU: RFC 1191, section 4; RFC 4443, section 3.2. It quotes 128
/// bytes.
pub fn too_big(frame: &[u8], ip: &Ip, mtu: usize) -> Vec<u8> {
    let protocol = ICMP[usize::from(ip.v6)];
    let mut message = if ip.v6 { vec![2, 0, 0, 0] } else { vec![3, 4, 0, 0] };
    message.extend((mtu as u32).to_be_bytes());
    message.extend(&frame[ip.l3..ip.l3 + 128]);
    let outside = if ip.v6 {
        pseudo(ip.destination, ip.source, protocol, message.len())
    } else {
        Vec::new()
    };
    set(&mut message, &outside, 2);
    let mut out = turned(frame, ip);
    out.extend(fresh_ip(ip.destination, ip.source, protocol, 0, 0, message.len()));
    out.extend(message);
    out
}

/// What a tunnel chooses from the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The outer source address.
    pub source: IpAddr,
    /// The outer flow label, in IPv6.
    pub label: u32,
    /// The outer source port, in `gue`.
    pub port: u16,
}

/// The packet in another one, and the rest of the frame.
pub fn tunnelled(frame: &[u8], ip: &Ip, mode: Mode, backend: &Backend, spread: Spread) -> Vec<u8> {
    let length = ip.end - ip.l3;
    let (protocol, udp) = match (mode, ip.v6) {
        (Mode::Gue, _) => {
            let mut header = Vec::new();
            header.extend(spread.port.to_be_bytes());
            header.extend(backend.tunnel_port.to_be_bytes());
            header.extend((length as u16 + 8).to_be_bytes());
            // RFC 6935, section 5: a tunnel may send no checksum.
            header.extend([0, 0]);
            (UDP, header)
        }
        (_, false) => (4, Vec::new()),
        (_, true) => (41, Vec::new()),
    };
    // RFC 2983, section 4.1; RFC 6040, section 4.1.
    let class = if ip.v6 {
        frame[ip.l3] << 4 | frame[ip.l3 + 1] >> 4
    } else {
        frame[ip.l3 + 1]
    };
    let hop = &backend.hop;
    let mut out = [hop.to, hop.from].concat();
    let to = backend.address.ip();
    tags(&mut out, hop, to.is_ipv6());
    out.extend(fresh_ip(
        spread.source,
        to,
        protocol,
        class,
        spread.label,
        udp.len() + length,
    ));
    out.extend(udp);
    out.extend(&one_hop_less(frame, ip)[ip.l3..]);
    out
}

/// What an ICMP error quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quote {
    /// Offset of its IP header.
    pub l3: usize,
    /// Offset of its transport header.
    pub l4: usize,
    /// TCP or UDP.
    pub protocol: u8,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went to.
    pub destination: SocketAddr,
}

/// An ICMP error with other addresses, which quotes a packet with other addresses and ports. RFC
/// 5508, section 4.2.
pub fn requoted(frame: &[u8], ip: &Ip, quote: &Quote, ends: [IpAddr; 2], quoted: [SocketAddr; 2]) -> Vec<u8> {
    let mut out = one_hop_less(frame, ip);
    put_addresses(&mut out, ip.l3, ip.v6, ends[0], ends[1]);
    put_addresses(&mut out, quote.l3, ip.v6, quoted[0].ip(), quoted[1].ip());
    if !ip.v6 {
        for header in [ip.l3..ip.l4, quote.l3..quote.l4] {
            mend(&frame[header.clone()], &[], &mut out[header], &[], 10);
        }
    }
    put_ports(&mut out, quote.l4, quoted[0].port(), quoted[1].port());
    let old = pseudo(quote.source.ip(), quote.destination.ip(), 0, 0);
    let new = pseudo(quoted[0].ip(), quoted[1].ip(), 0, 0);
    mend_transport(frame, &old, &mut out, &new, quote.protocol, quote.l4, ip.end);
    let (old, new) = if ip.v6 {
        (pseudo(ip.source, ip.destination, 0, 0), pseudo(ends[0], ends[1], 0, 0))
    } else {
        (Vec::new(), Vec::new())
    };
    mend(&frame[ip.l4..ip.end], &old, &mut out[ip.l4..ip.end], &new, 2);
    out
}
