//! Reads a frame as far as the program is to look.

use std::net::IpAddr;

use lb_common::Outcome;

use crate::packet::ACK;

const TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
/// Protocol numbers of ICMP and ICMPv6.
pub const ICMP: [u8; 2] = [1, 58];
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// A frame with an IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Tag control information of each VLAN tag.
    pub tags: Vec<u16>,
    /// Whether it is IPv6.
    pub v6: bool,
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of what follows the IP header, and later that of the transport header.
    pub l4: usize,
    /// Offset behind the packet; the frame may have padding there.
    pub end: usize,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol of the header at `l4`.
    pub protocol: u8,
    /// Identification of a fragment.
    pub fragment: Option<u32>,
    /// Whether the transport header would be here: not in later fragments.
    pub is_first: bool,
}

/// Ports and flags of a segment or datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Flags of TCP; 0 for UDP; ACK for a later fragment of a segment.
    pub flags: u8,
}

impl Transport {
    /// Of what is neither.
    pub const NONE: Self = Self {
        source: 0,
        destination: 0,
        flags: 0,
    };
}

/// The big-endian number at an offset.
pub fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The big-endian number at an offset.
pub fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The address at an offset.
pub fn address(bytes: &[u8], at: usize, v6: bool) -> Option<IpAddr> {
    Some(if v6 {
        IpAddr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?)
    } else {
        IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?)
    })
}

impl Ip {
    /// Reads the frame's header and the fixed IP header.
    ///
    /// # Errors
    ///
    /// What becomes of a frame without them.
    pub fn read(frame: &[u8]) -> Result<Self, Outcome> {
        // The program looks at a frame only when it could have two tags.
        if frame.len() < 22 {
            return Err(Outcome::Malformed);
        }
        let mut tags = Vec::new();
        let mut l3 = 14;
        while tags.len() < 2 && matches!(word16(frame, l3 - 2), Some(TAG | SERVICE_TAG)) {
            tags.push(word16(frame, l3).ok_or(Outcome::Malformed)?);
            l3 += 4;
        }
        match word16(frame, l3 - 2) {
            Some(0x0800) => Self::read_v4(frame, l3, tags).ok_or(Outcome::Malformed),
            Some(0x86dd) => Self::read_v6(frame, l3, tags).ok_or(Outcome::Malformed),
            _ => Err(Outcome::NotIp),
        }
    }

    fn read_v4(frame: &[u8], l3: usize, tags: Vec<u16>) -> Option<Self> {
        let header = frame.get(l3..l3 + 20)?;
        let header_length = usize::from(header[0] & 15) * 4;
        let length = usize::from(word16(header, 2)?);
        let word = word16(header, 6)?;
        let end = l3 + length;
        (header[0] >> 4 == 4 && header_length >= 20 && length >= header_length && end <= frame.len()).then_some(Self {
            tags,
            v6: false,
            l3,
            l4: l3 + header_length,
            end,
            ttl: header[8],
            source: address(header, 12, false)?,
            destination: address(header, 16, false)?,
            protocol: header[9],
            // RFC 791: "more fragments" or an offset.
            fragment: (word & 0x3fff != 0).then_some(u32::from(word16(header, 4)?)),
            is_first: word & 0x1fff == 0,
        })
    }

    fn read_v6(frame: &[u8], l3: usize, tags: Vec<u16>) -> Option<Self> {
        let header = frame.get(l3..l3 + 40)?;
        let end = l3 + 40 + usize::from(word16(header, 4)?);
        (header[0] >> 4 == 6 && end <= frame.len()).then_some(Self {
            tags,
            v6: true,
            l3,
            l4: l3 + 40,
            end,
            ttl: header[7],
            source: address(header, 8, true)?,
            destination: address(header, 24, true)?,
            protocol: header[6],
            fragment: None,
            is_first: true,
        })
    }

    /// Walks over up to four IPv6 extension headers (RFC 8200, section 4).
    ///
    /// # Errors
    ///
    /// Where one does not fit into the packet.
    pub fn skip_extensions(&mut self, frame: &[u8]) -> Result<(), Outcome> {
        for _ in 0..4 {
            let rest = &frame[self.l4..self.end];
            let unit = match self.protocol {
                44 => 0,
                0 | 43 | 60 => 8,
                51 => 4,
                _ => return Ok(()),
            };
            if !self.v6 {
                return Ok(());
            }
            if rest.len() < 8 || rest.len() < 8 + unit * usize::from(rest[1]) {
                return Err(Outcome::Malformed);
            }
            if self.protocol == 44 {
                let word = word16(rest, 2).ok_or(Outcome::Malformed)?;
                // RFC 6946: an "atomic fragment" is a whole packet.
                self.fragment = (word & 0xfff9 != 0).then_some(word32(rest, 4).ok_or(Outcome::Malformed)?);
                self.is_first = word & 0xfff8 == 0;
            }
            self.protocol = rest[0];
            self.l4 += 8 + unit * usize::from(rest[1]);
            if !self.is_first {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the transport header.
    ///
    /// # Errors
    ///
    /// Where there is none, or it contradicts itself.
    pub fn transport(&self, frame: &[u8]) -> Result<Transport, Outcome> {
        let rest = &frame[self.l4..self.end];
        let read = || {
            let flags = match self.protocol {
                TCP => {
                    let length = usize::from(rest.get(12)? >> 4) * 4;
                    if length < 20 || length > rest.len() {
                        return None;
                    }
                    rest[13]
                }
                _ => {
                    let length = usize::from(word16(rest, 4)?);
                    // The first fragment carries the length of the whole datagram.
                    if length < 8 || rest.len() < 8 || (length > rest.len() && self.fragment.is_none()) {
                        return None;
                    }
                    0
                }
            };
            Some(Transport {
                source: word16(rest, 0)?,
                destination: word16(rest, 2)?,
                flags,
            })
        };
        match self.protocol {
            TCP | UDP => read().ok_or(Outcome::Malformed),
            _ => Err(Outcome::NotTcpUdp),
        }
    }

    /// What a later fragment is taken for, whose first one had these ports.
    pub fn later(&self, (source, destination): (u16, u16)) -> Transport {
        Transport {
            source,
            destination,
            flags: if self.protocol == TCP { ACK } else { 0 },
        }
    }

    /// The VLANs of the frame; 0 for none, and for a tag that has only a priority.
    pub fn vlans(&self) -> [u16; 2] {
        [0, 1].map(|at| self.tags.get(at).map_or(0, |tag| tag & 0xfff))
    }
}
