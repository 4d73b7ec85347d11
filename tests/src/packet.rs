//! Raw packets: a builder and a parser of its own, which share no code with what they test.
//!
//! Checksums are computed over the whole segment, from all bytes, where the product adjusts them.

use std::net::{IpAddr, SocketAddr};

/// FIN flag of TCP.
pub const FIN: u8 = 0x01;
/// SYN flag of TCP.
pub const SYN: u8 = 0x02;
/// RST flag of TCP.
pub const RST: u8 = 0x04;
/// PSH flag of TCP.
pub const PSH: u8 = 0x08;
/// ACK flag of TCP.
pub const ACK: u8 = 0x10;

const ETHERNET: usize = 14;
const TYPE_V4: u16 = 0x0800;
const TYPE_V6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
        /// The flags, such as `SYN | ACK`.
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Whether it carries a checksum; if not, the field is zero.
        checksum: bool,
    },
}

/// An Ethernet frame with one TCP segment or UDP datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Hardware address it comes from.
    pub source_mac: [u8; 6],
    /// Hardware address it goes to.
    pub destination_mac: [u8; 6],
    /// Address and port it comes from.
    pub source: SocketAddr,
    /// Address and port it goes to; of the same family.
    pub destination: SocketAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// What is above IP.
    pub transport: Transport,
    /// What is above that.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A TCP segment with sequence number 1 and no payload.
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        let acknowledgement = if flags & ACK == 0 { 0 } else { 1 };
        Self::new(
            source,
            destination,
            Transport::Tcp {
                sequence: 1,
                acknowledgement,
                flags,
            },
        )
    }

    /// A UDP datagram with a checksum.
    pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        let packet = Self::new(source, destination, Transport::Udp { checksum: true });
        Self {
            payload: payload.to_vec(),
            ..packet
        }
    }

    fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source,
            destination,
            ttl: 64,
            transport,
            payload: Vec::new(),
        }
    }

    /// The frame of an ICMP error from `router` to the sender of this packet, which it quotes with
    /// `quoted` bytes behind its IP header. `rest` are the lower 16 (ICMP) or all 32 bits (ICMPv6)
    /// behind the checksum, such as an MTU.
    ///
    /// # Panics
    ///
    /// As [`Packet::bytes`].
    pub fn quoted_by(&self, router: SocketAddr, kind: u8, code: u8, rest: u16, quoted: usize) -> Vec<u8> {
        let frame = self.bytes();
        let ip = if self.source.is_ipv4() { 20 } else { 40 };
        let mut message = vec![kind, code, 0, 0, 0, 0];
        message.extend(rest.to_be_bytes());
        message.extend(&frame[ETHERNET..ETHERNET + (ip + quoted).min(frame.len() - ETHERNET)]);
        let carrier = Self::new(router, self.source, Transport::Udp { checksum: true });
        carrier.around(if self.source.is_ipv4() { 1 } else { 58 }, &message)
    }

    /// A frame with this packet's addresses and a message of ICMP or ICMPv6, whose checksum it
    /// sets.
    fn around(&self, protocol: u8, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        message[2..4].fill(0);
        let pseudo = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let length = u32::try_from(message.len()).expect("the message fits into a packet");
                let addresses = [source.octets(), destination.octets()].concat();
                [addresses, length.to_be_bytes().to_vec(), vec![0, 0, 0, protocol]].concat()
            }
            _ => Vec::new(),
        };
        let sum = checksum(&[&pseudo, &message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.carrying(protocol, &message)
    }

    /// The bytes of the frame.
    ///
    /// # Panics
    ///
    /// When the addresses are of different families, or the payload does not fit.
    pub fn bytes(&self) -> Vec<u8> {
        self.carrying(self.protocol(), &self.segment())
    }

    /// A frame with this packet's addresses and hop limit, and something else above IP.
    ///
    /// # Panics
    ///
    /// As [`Packet::bytes`].
    pub fn carrying(&self, protocol: u8, segment: &[u8]) -> Vec<u8> {
        let mut frame = [self.destination_mac, self.source_mac].concat();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend(TYPE_V4.to_be_bytes());
                let length = u16::try_from(20 + segment.len()).expect("the payload fits into a packet");
                let mut header = vec![0x45, 0];
                header.extend(length.to_be_bytes());
                header.extend([0, 0, 0x40, 0, self.ttl, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend(TYPE_V6.to_be_bytes());
                let length = u16::try_from(segment.len()).expect("the payload fits into a packet");
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([protocol, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => panic!("{} and {} are of different families", self.source, self.destination),
        }
        frame.extend(segment);
        frame
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp { .. } => UDP,
        }
    }

    /// Header and payload above IP, with the checksum.
    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.source.port().to_be_bytes());
        segment.extend(self.destination.port().to_be_bytes());
        let checksum_at = match self.transport {
            Transport::Tcp {
                sequence,
                acknowledgement,
                flags,
            } => {
                segment.extend(sequence.to_be_bytes());
                segment.extend(acknowledgement.to_be_bytes());
                segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                Some(16)
            }
            Transport::Udp { checksum } => {
                let length = u16::try_from(8 + self.payload.len()).expect("the payload fits into a datagram");
                segment.extend(length.to_be_bytes());
                segment.extend([0, 0]);
                checksum.then_some(6)
            }
        };
        segment.extend(&self.payload);
        if let Some(at) = checksum_at {
            let pseudo = pseudo_header(self.source.ip(), self.destination.ip(), self.protocol(), segment.len());
            let sum = match (checksum(&[&pseudo, &segment]), self.transport) {
                // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
                (0, Transport::Udp { .. }) => 0xffff,
                (sum, _) => sum,
            };
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    /// Reads a frame and verifies its lengths and checksums.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(frame: &[u8]) -> Result<Self, String> {
        let header = frame
            .get(..ETHERNET)
            .ok_or_else(|| format!("{} bytes are no Ethernet frame", frame.len()))?;
        let packet = &frame[ETHERNET..];
        let (source, destination, protocol, ttl, segment) = match u16::from_be_bytes([header[12], header[13]]) {
            TYPE_V4 => parse_v4(packet)?,
            TYPE_V6 => parse_v6(packet)?,
            other => return Err(format!("EtherType {other:#06x} is not IP")),
        };
        let pseudo = pseudo_header(source, destination, protocol, segment.len());
        let sum = checksum(&[&pseudo, segment]);
        let (transport, payload) = match protocol {
            TCP => parse_tcp(segment, sum)?,
            UDP => parse_udp(segment, sum)?,
            other => return Err(format!("protocol {other} is neither TCP nor UDP")),
        };
        Ok(Self {
            source_mac: header[6..12].try_into().expect("six bytes"),
            destination_mac: header[..6].try_into().expect("six bytes"),
            source: (source, word16(segment, 0)).into(),
            destination: (destination, word16(segment, 2)).into(),
            ttl,
            transport,
            payload: payload.to_vec(),
        })
    }
}

type Network<'a> = (IpAddr, IpAddr, u8, u8, &'a [u8]);

fn parse_v4(packet: &[u8]) -> Result<Network<'_>, String> {
    if packet.len() < 20 || packet[0] != 0x45 {
        return Err("not an IPv4 header without options".into());
    }
    let length = usize::from(word16(packet, 2));
    // Ethernet pads short frames: what is behind the length does not count.
    let packet = packet
        .get(..length)
        .filter(|_| length >= 20)
        .ok_or("the IPv4 total length is wrong")?;
    if checksum(&[&packet[..20]]) != 0 {
        return Err("the IPv4 header checksum is wrong".into());
    }
    let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four bytes"));
    Ok((address(12), address(16), packet[9], packet[8], &packet[20..]))
}

fn parse_v6(packet: &[u8]) -> Result<Network<'_>, String> {
    if packet.len() < 40 || packet[0] >> 4 != 6 {
        return Err("not an IPv6 header".into());
    }
    let segment = packet[40..]
        .get(..usize::from(word16(packet, 4)))
        .ok_or("the IPv6 payload length is wrong")?;
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen bytes"));
    Ok((address(8), address(24), packet[6], packet[7], segment))
}

fn parse_tcp(segment: &[u8], sum: u16) -> Result<(Transport, &[u8]), String> {
    let offset = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    if offset < 20 || segment.len() < offset {
        return Err("the TCP header is cut short".into());
    }
    if sum != 0 {
        return Err("the TCP checksum is wrong".into());
    }
    let transport = Transport::Tcp {
        sequence: word32(segment, 4),
        acknowledgement: word32(segment, 8),
        flags: segment[13],
    };
    Ok((transport, &segment[offset..]))
}

fn parse_udp(segment: &[u8], sum: u16) -> Result<(Transport, &[u8]), String> {
    if segment.len() < 8 || usize::from(word16(segment, 4)) != segment.len() {
        return Err("the UDP length is wrong".into());
    }
    let checksum = word16(segment, 6) != 0;
    if checksum && sum != 0 {
        return Err("the UDP checksum is wrong".into());
    }
    Ok((Transport::Udp { checksum }, &segment[8..]))
}

fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The pseudo-header of RFC 9293 or RFC 8200; the sum is the same for both layouts of length and
/// protocol.
fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => header.extend(v4.octets()),
            IpAddr::V6(v6) => header.extend(v6.octets()),
        }
    }
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

/// The Internet checksum of RFC 1071 over pieces that each start at an even offset; 0 over data
/// with a right checksum.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [(SocketAddr, SocketAddr); 2] {
        [
            ("10.77.0.2:4711", "10.77.0.100:80"),
            ("[fd77::2]:4711", "[fd77::100]:80"),
        ]
        .map(|(source, destination)| (source.parse().unwrap(), destination.parse().unwrap()))
    }

    #[test]
    fn what_is_built_is_what_is_parsed() {
        for (source, destination) in pairs() {
            let mut without_checksum = Packet::udp(source, destination, b"odd");
            without_checksum.transport = Transport::Udp { checksum: false };
            for packet in [
                Packet::tcp(source, destination, SYN),
                Packet {
                    payload: b"hello".to_vec(),
                    ttl: 3,
                    ..Packet::tcp(source, destination, PSH | ACK)
                },
                Packet::udp(source, destination, b""),
                without_checksum,
            ] {
                assert_eq!(Packet::parse(&packet.bytes()), Ok(packet));
            }
        }
    }

    #[test]
    fn a_flipped_bit_of_addresses_ports_or_payload_is_noticed() {
        for (source, destination) in pairs() {
            let good = Packet::udp(source, destination, b"payload").bytes();
            let addresses = if source.is_ipv4() { ETHERNET + 12 } else { ETHERNET + 8 };
            for at in addresses..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                Packet::parse(&bad).unwrap_err();
            }
        }
    }

    #[test]
    fn the_checksum_is_the_one_of_a_known_header() {
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn padding_behind_a_short_packet_is_ignored() {
        let (source, destination) = pairs()[0];
        let packet = Packet::tcp(source, destination, RST);
        let mut padded = packet.bytes();
        padded.resize(60, 0);
        assert_eq!(Packet::parse(&padded), Ok(packet));
    }
}
