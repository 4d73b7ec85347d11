//! Tells everybody on a link where an address is now: gratuitous ARP and unsolicited neighbour advertisements.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::AsRawFd,
};

use lb_common::checksum;
use nix::libc;
use socket2::{Domain, Socket, Type};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
/// RFC 4861, section 4.4.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// RFC 4861, section 4.4: the override flag, "the advertisement should override an existing cache entry".
const OVERRIDE: u8 = 0x20;
/// RFC 4861, section 4.6.1: target link-layer address, in units of eight bytes.
const TARGET_ADDRESS: [u8; 2] = [2, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Sends frames by one interface.
pub(super) struct Announcer {
    socket: Socket,
    index: u32,
    mac: [u8; 6],
}

impl Announcer {
    /// Opens it; frames come from `mac`.
    pub(super) fn open(index: u32, mac: [u8; 6]) -> io::Result<Self> {
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        Ok(Self { socket, index, mac })
    }

    /// Tells where these addresses are. Returns those that it could not tell of, and why.
    pub(super) fn announce(&self, addresses: impl Iterator<Item = IpAddr>) -> Vec<(IpAddr, io::Error)> {
        let mut failed = Vec::new();
        for address in addresses {
            let frames = match address {
                IpAddr::V4(v4) => arp(self.mac, v4.octets()).to_vec(),
                IpAddr::V6(v6) => vec![advertisement(self.mac, v6)],
            };
            let sent = frames.iter().try_for_each(|frame| self.send(frame));
            failed.extend(sent.err().map(|error| (address, error)));
        }
        failed
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: plain numbers, for which zero is a valid value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = self.index.cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the frame and the address live through the call and have the lengths that are given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                length,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// A request and a reply (RFC 5227, section 3, says why some need the one and some the other).
fn arp(mac: [u8; 6], address: [u8; 4]) -> [Vec<u8>; 2] {
    [1_u8, 2].map(|operation| {
        let mut frame = [[0xff; 6], mac].concat();
        frame.extend_from_slice(&ARP.to_be_bytes());
        // Ethernet, IPv4, lengths of their addresses.
        frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&address);
        frame.extend_from_slice(&[0xff; 6]);
        frame.extend_from_slice(&address);
        frame
    })
}

/// RFC 4861, section 7.2.6: "unsolicited Neighbor Advertisements".
fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    message.extend_from_slice(&TARGET_ADDRESS);
    message.extend_from_slice(&mac);
    let length = message.len() as u16;
    let mut pseudo = [address.octets(), ALL_NODES.octets()].concat();
    pseudo.extend_from_slice(&u32::from(length).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, ICMPV6]);
    let sum = checksum::full(&message, u64::from(!checksum::full(&pseudo, 0)));
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1];
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&IPV6.to_be_bytes());
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    // RFC 4861, section 7.1.2: hop limit 255.
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&ALL_NODES.octets());
    frame.extend(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_say_whose_the_address_is() {
        let mac = [2, 0, 0, 0, 0, 7];
        let [request, reply] = arp(mac, [192, 0, 2, 10]);
        assert_eq!(request.len(), 42);
        assert_eq!((request[21], reply[21]), (1, 2));
        assert_eq!(
            (&request[22..28], &request[28..32], &request[38..]),
            (&mac[..], &[192, 0, 2, 10][..], &[192, 0, 2, 10][..])
        );
        let frame = advertisement(mac, "2001:db8::10".parse().unwrap());
        assert_eq!(frame.len(), 14 + 40 + 32);
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend_from_slice(&[0, 0, 0, 32, 0, 0, 0, 58]);
        let sum = u64::from(!checksum::full(&pseudo, 0));
        assert_eq!(checksum::full(&frame[54..], sum), 0);
        assert_eq!(frame[80..], mac);
    }
}
