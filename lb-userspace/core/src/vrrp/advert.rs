//! Adverts: VRRP advertisements as values and as bytes (RFC 9568, section 5; RFC 3768, section 5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::checksum;

#[cfg(test)]
mod tests;

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// RFC 9568, section 5.1.1.3: "The TTL MUST be set to 255. A VRRP Router receiving a packet with
/// the TTL not equal to 255 MUST discard the packet." The same of the hop limit in section 5.1.2.3.
pub const HOP_LIMIT: u8 = 255;
/// Multicast group of IPv4: RFC 9568, section 5.1.1.2.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Multicast group of IPv6: RFC 9568, section 5.1.2.2.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The only type of VRRP packets.
const ADVERTISEMENT: u8 = 1;
/// Bytes before the addresses.
const HEADER: usize = 8;
/// Bytes of the authentication data of version 2.
const PASSWORD: usize = 8;
/// Authentication type of version 2: a password in clear text.
const SIMPLE_TEXT: u8 = 1;
/// The longest interval of version 3, in centiseconds: 12 bits.
const MAX_INTERVAL_V3: u16 = 0xfff;

/// An advert of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Version: 2 or 3.
    pub version: u8,
    /// Number of the virtual router (VRID): 1 to 255.
    pub router: u8,
    /// Priority of the master: 1 to 255. 0: the master resigns.
    pub priority: u8,
    /// Time between two adverts of the master, in microseconds.
    pub interval: u64,
    /// The virtual addresses, all of one family.
    pub addresses: Vec<IpAddr>,
    /// Version 2: the password, padded with zero bytes.
    pub password: Option<[u8; PASSWORD]>,
}

/// What the checksum of version 3 over IPv4 covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumCoverage {
    /// Message and pseudo-header: RFC 9568, section 5.2.8, and keepalived by default.
    #[default]
    PseudoHeader,
    /// The message only, as some implementations do.
    Message,
}

/// Why a packet does not count as an advert for a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// It is shorter than its header requires.
    #[error("cut short")]
    Short,
    /// It has another version than configured.
    #[error("another version")]
    Version,
    /// It is not an advertisement.
    #[error("not an advert")]
    Type,
    /// Its checksum is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// Its TTL or hop limit is not 255: it crossed a router.
    #[error("hop limit not 255")]
    HopLimit,
    /// It belongs to another virtual router.
    #[error("another virtual router")]
    Router,
    /// Its source is not one of `peers`.
    #[error("not from a peer")]
    NotPeer,
    /// Version 2: its password is wrong.
    #[error("wrong password")]
    Password,
    /// Its source is this balancer's own address: another host uses it.
    #[error("from this balancer's own address")]
    OwnAddress,
    /// Its interval is 0, or in version 2 another one than configured.
    #[error("another interval, or none")]
    Interval,
    /// Version 3: it contains no address.
    #[error("no addresses")]
    NoAddresses,
}

impl Refused {
    /// Every reason, with its word in the API.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Short, "short"),
        (Self::Version, "version"),
        (Self::Type, "type"),
        (Self::Checksum, "checksum"),
        (Self::HopLimit, "hop_limit"),
        (Self::Router, "router"),
        (Self::NotPeer, "not_peer"),
        (Self::Password, "password"),
        (Self::OwnAddress, "own_address"),
        (Self::Interval, "interval"),
        (Self::NoAddresses, "no_addresses"),
    ];
}

impl Advert {
    /// The message as bytes, without IP header.
    pub fn bytes(&self, source: IpAddr, destination: IpAddr, coverage: ChecksumCoverage) -> Vec<u8> {
        let count = self.addresses.len() as u8;
        let mut message = vec![self.version << 4 | ADVERTISEMENT, self.router, self.priority, count];
        if self.version == 2 {
            let seconds = (self.interval / 1_000_000).clamp(1, 255) as u8;
            message.push(if self.password.is_some() { SIMPLE_TEXT } else { 0 });
            message.push(seconds);
        } else {
            let hundredths = (self.interval / 10_000).clamp(1, u64::from(MAX_INTERVAL_V3)) as u16;
            message.extend_from_slice(&hundredths.to_be_bytes());
        }
        message.extend_from_slice(&[0, 0]);
        for address in &self.addresses {
            match address {
                IpAddr::V4(v4) => message.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => message.extend_from_slice(&v6.octets()),
            }
        }
        if self.version == 2 {
            // RFC 2338, section 5.3.10; RFC 3768 leaves eight zero bytes.
            message.extend_from_slice(&self.password.unwrap_or_default());
        }
        let pseudo_sum = match (self.version, source) {
            (2, _) => 0,
            (_, IpAddr::V4(_)) if coverage == ChecksumCoverage::Message => 0,
            _ => pseudo_header(source, destination, message.len()),
        };
        let sum = checksum::full(&message, pseudo_sum);
        message[6..8].copy_from_slice(&sum.to_ne_bytes());
        message
    }

    /// Parses a message without IP header. Also returns what its checksum covers.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn parse(message: &[u8], source: IpAddr, destination: IpAddr) -> Result<(Self, ChecksumCoverage), Refused> {
        let header: &[u8; HEADER] = message.first_chunk().ok_or(Refused::Short)?;
        let version = header[0] >> 4;
        if !(2..=3).contains(&version) || (version == 2 && source.is_ipv6()) {
            return Err(Refused::Version);
        }
        if header[0] & 15 != ADVERTISEMENT {
            return Err(Refused::Type);
        }
        let size = if source.is_ipv4() { 4 } else { 16 };
        let end = HEADER + usize::from(header[3]) * size;
        let whole = if version == 2 { end + PASSWORD } else { end };
        let message = message.get(..whole).ok_or(Refused::Short)?;
        let coverage = coverage(message, version, source, destination)?;
        // RFC 9568, section 5.2.5: "If the received count is 0, the VRRP advertisement MUST be
        // ignored." Version 2 has no such rule, and keepalived sends such adverts if all its
        // addresses are excluded from them.
        if version == 3 && header[3] == 0 {
            return Err(Refused::NoAddresses);
        }
        let password = (version == 2 && header[4] == SIMPLE_TEXT)
            .then(|| message[end..].first_chunk().copied())
            .flatten();
        let interval = if version == 2 {
            u64::from(header[5]) * 1_000_000
        } else {
            u64::from(u16::from_be_bytes([header[4], header[5]]) & MAX_INTERVAL_V3) * 10_000
        };
        let advert = Self {
            version,
            router: header[1],
            priority: header[2],
            interval,
            addresses: addresses(&message[HEADER..end], source.is_ipv4()),
            password,
        };
        Ok((advert, coverage))
    }
}

fn addresses(list: &[u8], is_v4: bool) -> Vec<IpAddr> {
    if is_v4 {
        let all = list.as_chunks::<4>().0.iter();
        all.map(|octets| IpAddr::from(*octets)).collect()
    } else {
        let all = list.as_chunks::<16>().0.iter();
        all.map(|octets| IpAddr::from(*octets)).collect()
    }
}

/// What the checksum of a message covers, if it is valid.
fn coverage(message: &[u8], version: u8, source: IpAddr, destination: IpAddr) -> Result<ChecksumCoverage, Refused> {
    let is_valid = |pseudo_sum| checksum::full(message, pseudo_sum) == 0;
    match (version, source) {
        (2, _) if is_valid(0) => Ok(ChecksumCoverage::Message),
        (3, _) if is_valid(pseudo_header(source, destination, message.len())) => Ok(ChecksumCoverage::PseudoHeader),
        (3, IpAddr::V4(_)) if is_valid(0) => Ok(ChecksumCoverage::Message),
        _ => Err(Refused::Checksum),
    }
}

/// The sum over the pseudo-header (RFC 8200, section 8.1, and the same for IPv4).
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u64 {
    let mut words = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => words.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => words.extend_from_slice(&v6.octets()),
        }
    }
    words.extend_from_slice(&(length as u32).to_be_bytes());
    words.extend_from_slice(&[0, 0, 0, PROTOCOL]);
    u64::from(!checksum::full(&words, 0))
}
