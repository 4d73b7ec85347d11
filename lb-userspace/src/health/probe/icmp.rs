//! The `icmp` check: the backend must reply to an echo request.
//!
//! RFC 792 and RFC 4443, section 4: "The data received in the Echo Request message MUST be returned
//! entirely and unmodified in the Echo Reply message."

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use lb_common::checksum;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use super::{ProbeFailure, udp};

/// Length of the header of an echo message, in bytes.
const HEADER: usize = 8;
/// Length of its data, in bytes.
const DATA: usize = 16;

/// ICMP types of an echo request and of its reply.
struct Kinds {
    request: u8,
    reply: u8,
}

const V4: Kinds = Kinds { request: 8, reply: 0 };
const V6: Kinds = Kinds {
    request: 128,
    reply: 129,
};

/// The number of requests that this process has sent.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Sends a request and waits for its reply.
pub(super) async fn probe(address: IpAddr) -> Result<(), ProbeFailure> {
    let socket = open(address)?;
    let kinds = if address.is_ipv4() { V4 } else { V6 };
    let request = echo(&kinds, REQUESTS.fetch_add(1, Ordering::Relaxed), std::process::id());
    let mut received = udp::request(&socket, &request).await?;
    while !is_reply(&received, &request, &kinds, address.is_ipv4()) {
        received = udp::receive(&socket).await?;
    }
    Ok(())
}

/// A raw socket that receives only from `address`. It is wrapped as a UDP socket, because the
/// runtime treats all datagram sockets alike.
fn open(address: IpAddr) -> Result<UdpSocket, ProbeFailure> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol)).map_err(ProbeFailure::Local)?;
    let peer = SockAddr::from(std::net::SocketAddr::new(address, 0));
    socket.connect(&peer).map_err(ProbeFailure::Connect)?;
    UdpSocket::from_std(socket.into()).map_err(ProbeFailure::Local)
}

/// An echo request. For ICMPv6 the kernel writes the checksum.
fn echo(kinds: &Kinds, number: u64, process: u32) -> [u8; HEADER + DATA] {
    let mut message = [0; HEADER + DATA];
    message[0] = kinds.request;
    message[4..6].copy_from_slice(&(process as u16).to_be_bytes());
    message[6..8].copy_from_slice(&(number as u16).to_be_bytes());
    message[8..16].copy_from_slice(&number.to_be_bytes());
    message[16..20].copy_from_slice(&process.to_be_bytes());
    if kinds.request == V4.request {
        let sum = checksum::full(&message, 0);
        message[2..4].copy_from_slice(&sum.to_ne_bytes());
    }
    message
}

/// Whether a packet is the reply to `request`. Raw IPv4 sockets deliver the IP header, too.
fn is_reply(packet: &[u8], request: &[u8], kinds: &Kinds, has_header: bool) -> bool {
    let message = match packet.first() {
        Some(first) if has_header => packet.get(usize::from(first & 0xf) * 4..),
        _ => Some(packet),
    };
    message.is_some_and(|message| {
        message.first() == Some(&kinds.reply) && message.get(4..).is_some() && message.get(4..) == request.get(4..)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reply_to_the_same_request_counts() {
        let request = echo(&V4, 7, 1000);
        assert_eq!(checksum::full(&request, 0), 0, "the checksum is valid");
        let reply = |message: &[u8]| [&[0x45; 20][..], message].concat();
        let mut valid = request;
        valid[0] = V4.reply;
        assert!(is_reply(&reply(&valid), &request, &V4, true));
        assert!(!is_reply(&reply(&request), &request, &V4, true), "the request itself");
        let mut other = echo(&V4, 8, 1000);
        other[0] = V4.reply;
        assert!(
            !is_reply(&reply(&other), &request, &V4, true),
            "the reply to another request"
        );
        for length in 0..valid.len() {
            assert!(
                !is_reply(&reply(&valid[..length]), &request, &V4, true),
                "{length} bytes"
            );
        }
        assert!(!is_reply(&[], &request, &V4, true));
        let request = echo(&V6, 7, 1000);
        let mut valid = request;
        valid[0] = V6.reply;
        assert!(is_reply(&valid, &request, &V6, false));
    }
}
