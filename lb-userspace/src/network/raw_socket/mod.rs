//! Sends complete IP packets through the kernel, which finds route and neighbour and leaves the
//! packet as it is.
//!
//! It is used for packets whose next hop the XDP program does not know, and for challenges (see
//! [`challenge()`]). Their source is rarely an address of this machine; raw sockets with their own
//! IP header can send such packets.

mod challenge;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

pub use challenge::{ChallengeFamily, challenge};
use lb_common::wire::{ipv4, ipv6};
use socket2::{Domain, Protocol, Socket, Type};

/// Protocol 255, "raw": the packet has its own IP header, and the socket receives nothing.
const IPPROTO_RAW: i32 = 255;

/// A raw socket for each family.
#[derive(Debug)]
pub struct Sender {
    v4: Socket,
    /// `None`: the kernel has no IPv6.
    v6: Option<Socket>,
}

impl Sender {
    /// Opens the sockets in the network namespace of the calling thread. Needs CAP_NET_RAW.
    ///
    /// When a socket cannot be opened. A kernel without IPv6 is no error.
    /// When a socket cannot be opened. A kernel without IPv6 is no error.
    pub fn new() -> io::Result<Self> {
        let v6 = match open(Domain::IPV6) {
            Ok(socket) => Some(socket),
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            v4: open(Domain::IPV4)?,
            v6,
        })
    }

    /// Sends a packet to the destination in its IP header, without waiting. Bytes after the end of
    /// the packet are ignored.
    ///
    /// The kernel writes only the IPv4 header checksum, and the IPv4 identification if it is zero.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when `family` (4 or 6) or a length is wrong. Otherwise the
    /// kernel's error: no route, larger than the MTU, or [`io::ErrorKind::WouldBlock`] when its
    /// queue is full.
    pub fn send(&self, family: u8, packet: &[u8]) -> io::Result<()> {
        let (destination, packet) = match family {
            4 => bounds_v4(packet),
            6 => bounds_v6(packet),
            _ => Err(format!("family {family}, expected 4 or 6")),
        }
        .map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, format!("cannot send a packet: {reason}")))?;
        self.send_by(packet, destination)
    }

    /// Sends a packet as if it were for `next`, of the same family: `next` selects route and
    /// neighbour, the packet keeps its destination.
    ///
    /// # Errors
    /// As [`Sender::send`], but the packet is not checked.
    pub fn send_by(&self, packet: &[u8], next: IpAddr) -> io::Result<()> {
        let socket = match (next, &self.v6) {
            (IpAddr::V4(_), _) => &self.v4,
            (IpAddr::V6(_), Some(v6)) => v6,
            (IpAddr::V6(_), None) => return Err(io::Error::from_raw_os_error(nix::errno::Errno::EAFNOSUPPORT as i32)),
        };
        let sent = socket.send_to(packet, &SocketAddr::new(next, 0).into())?;
        if sent == packet.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}

fn open(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Destination and bytes of an IPv4 packet.
fn bounds_v4(bytes: &[u8]) -> Result<(IpAddr, &[u8]), String> {
    let header = bytes
        .first_chunk::<{ ipv4::LENGTH }>()
        .ok_or_else(|| short(bytes, ipv4::LENGTH))?;
    let (version, header_length) = (
        header[ipv4::VERSION_IHL] >> 4,
        usize::from(header[ipv4::VERSION_IHL] & 15) * 4,
    );
    if version != 4 || header_length < ipv4::LENGTH {
        return Err(format!("IPv4 header begins with {:#04x}", header[ipv4::VERSION_IHL]));
    }
    let length = usize::from(be16(header, ipv4::TOTAL_LENGTH));
    if length < header_length {
        return Err(format!(
            "total length {length} is less than the header length {header_length}"
        ));
    }
    let packet = bytes.get(..length).ok_or_else(|| short(bytes, length))?;
    let destination: [u8; 4] = std::array::from_fn(|i| header[ipv4::DESTINATION + i]);
    Ok((destination.into(), packet))
}

/// Destination and bytes of an IPv6 packet.
fn bounds_v6(bytes: &[u8]) -> Result<(IpAddr, &[u8]), String> {
    let header = bytes
        .first_chunk::<{ ipv6::LENGTH }>()
        .ok_or_else(|| short(bytes, ipv6::LENGTH))?;
    if header[ipv6::VERSION] >> 4 != 6 {
        return Err(format!("IPv6 header begins with {:#04x}", header[ipv6::VERSION]));
    }
    let length = ipv6::LENGTH + usize::from(be16(header, ipv6::PAYLOAD_LENGTH));
    let packet = bytes.get(..length).ok_or_else(|| short(bytes, length))?;
    let destination: [u8; 16] = std::array::from_fn(|i| header[ipv6::DESTINATION + i]);
    Ok((destination.into(), packet))
}

fn short(bytes: &[u8], expected: usize) -> String {
    format!("{} bytes, expected at least {expected}", bytes.len())
}

fn be16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}
