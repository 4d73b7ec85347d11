//! Raw frames of a master: gratuitous ARP, unsolicited neighbour advertisements, and adverts from
//! the virtual router's MAC address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use lb_common::{
    checksum,
    wire::{ipv4, vrrp},
};
use nix::libc;
use socket2::{Domain, Socket, Type};

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
/// RFC 4861, section 4.4.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// RFC 4861, section 4.4: the override flag, "the advertisement should override an existing cache
/// entry".
const OVERRIDE: u8 = 0x20;
/// RFC 4861, section 4.6.1: target link-layer address, in units of eight bytes.
const TARGET_ADDRESS: [u8; 2] = [2, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Traffic class of adverts. RFC 2474, section 4.2.2.2: precedence "Internetwork Control", as
/// routing protocols use it.
const CONTROL: u8 = 0xc0;

/// Sends frames on one interface.
pub(super) struct Announcer {
    socket: Socket,
    index: u32,
    mac: [u8; 6],
}

impl Announcer {
    /// Opens a socket. `mac` is the source of frames, and the address that announcements map to.
    pub(super) fn open(index: u32, mac: [u8; 6]) -> io::Result<Self> {
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        Ok(Self { socket, index, mac })
    }

    /// Announces these addresses. Returns those that failed, and why.
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

    /// Sends an advert to a multicast group.
    ///
    /// RFC 9568, section 7.2: "Set the source MAC address to the Virtual Router MAC Address".
    pub(super) fn send_advert(&self, message: &[u8], source: IpAddr, group: IpAddr) -> io::Result<()> {
        let frame = match (source, group) {
            (IpAddr::V4(source), IpAddr::V4(group)) => packet_v4(self.mac, source, group, message),
            (IpAddr::V6(source), IpAddr::V6(group)) => packet_v6(self.mac, source, group, vrrp::PROTOCOL, message),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        self.send(&frame)
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: plain numbers, for which zero is a valid value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = self.index.cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the frame and the address live through the call and have the lengths that are
        // given.
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

/// Gratuitous ARP as a request and as a reply: some hosts accept only one of them (RFC 5227,
/// section 3).
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
    packet_v6(mac, address, ALL_NODES, ICMPV6, &message)
}

/// An IPv4 packet with TTL 255 to a multicast group. RFC 1112, section 6.4: "placing the low-order
/// 23-bits of the IP address into the low-order 23 bits of the Ethernet multicast address
/// 01-00-5E-00-00-00".
fn packet_v4(mac: [u8; 6], source: Ipv4Addr, group: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let [_, b, c, d] = group.octets();
    let mut frame = vec![1, 0, 0x5e, b & 0x7f, c, d];
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&IPV4.to_be_bytes());
    let mut header = [0; ipv4::LENGTH];
    header[ipv4::VERSION_IHL] = 0x45;
    header[ipv4::VERSION_IHL + 1] = CONTROL;
    let length = (ipv4::LENGTH + message.len()) as u16;
    header[ipv4::TOTAL_LENGTH..][..2].copy_from_slice(&length.to_be_bytes());
    header[ipv4::TTL] = 255;
    header[ipv4::PROTOCOL] = vrrp::PROTOCOL;
    header[ipv4::SOURCE..][..4].copy_from_slice(&source.octets());
    header[ipv4::DESTINATION..][..4].copy_from_slice(&group.octets());
    let sum = checksum::full(&header, 0);
    header[ipv4::CHECKSUM..][..2].copy_from_slice(&sum.to_ne_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(message);
    frame
}

/// An IPv6 packet with hop limit 255 to a multicast group. RFC 2464, section 7: "the first two
/// octets are the value 3333 hexadecimal and whose last four octets are the last four octets of"
/// the group.
fn packet_v6(mac: [u8; 6], source: Ipv6Addr, group: Ipv6Addr, next_header: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x33, 0x33];
    frame.extend_from_slice(&group.octets()[12..]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&IPV6.to_be_bytes());
    // The traffic class is split over the first two bytes.
    frame.extend_from_slice(&[0x60 | CONTROL >> 4, CONTROL << 4, 0, 0]);
    frame.extend_from_slice(&(message.len() as u16).to_be_bytes());
    // RFC 4861, section 7.1.2, and RFC 9568, section 5.1.2.3: hop limit 255.
    frame.extend_from_slice(&[next_header, 255]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&group.octets());
    frame.extend_from_slice(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_map_the_address_to_the_mac_address() {
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

    #[test]
    fn adverts_are_sent_from_the_virtual_router_mac_address() {
        let mac = [0, 0, 0x5e, 0, 1, 51];
        let frame = packet_v4(mac, [192, 0, 2, 2].into(), lb_core::vrrp::advert::GROUP_V4, &[7; 12]);
        assert_eq!(frame[..6], [1, 0, 0x5e, 0, 0, 18]);
        assert_eq!((&frame[6..12], &frame[12..14]), (&mac[..], &[8, 0][..]));
        assert_eq!(checksum::full(&frame[14..34], 0), 0, "the header's checksum");
        assert_eq!((frame[22], frame[23], &frame[34..]), (255, 112, &[7; 12][..]));
        assert_eq!(frame[16..18], 32_u16.to_be_bytes());

        let mac = [0, 0, 0x5e, 0, 2, 51];
        let source = "fe80::2".parse().unwrap();
        let frame = packet_v6(mac, source, lb_core::vrrp::advert::GROUP_V6, vrrp::PROTOCOL, &[7; 24]);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 18]);
        assert_eq!(frame[14..22], [0x6c, 0, 0, 0, 0, 24, 112, 255]);
        assert_eq!((&frame[6..12], frame.len()), (&mac[..], 14 + 40 + 24));
    }
}
