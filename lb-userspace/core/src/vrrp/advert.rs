//! AdvertSocket as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::checksum;

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// RFC 9568, section 5.1.1.3: "The TTL MUST be set to 255. A VRRP Router receiving a packet with the TTL not equal to
/// 255 MUST discard the packet." The same of the hop limit in section 5.1.2.3.
pub const HOP_LIMIT: u8 = 255;
/// RFC 9568, section 5.1.1.2.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// RFC 9568, section 5.1.2.2.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The only type of packet.
const ADVERTISEMENT: u8 = 1;
/// Bytes before the addresses.
const HEADER: usize = 8;
/// Bytes of the authentication data of version 2.
const PASSWORD: usize = 8;
/// Authentication type of version 2: a password in the clear.
const SIMPLE_TEXT: u8 = 1;
/// The longest interval of version 3, in hundredths of a second: 12 bits.
const LONGEST_V3: u16 = 0xfff;

/// What a master says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Version: 2 or 3.
    pub version: u8,
    /// Which virtual router.
    pub router: u8,
    /// Priority; 0: it gives up.
    pub priority: u8,
    /// From one advert to the next, in microseconds.
    pub interval: u64,
    /// The addresses, all of one family.
    pub addresses: Vec<IpAddr>,
    /// Version 2: its password.
    pub password: Option<[u8; PASSWORD]>,
}

/// What the checksum of version 3 over IPv4 covers besides the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumCoverage {
    /// The pseudo header too, as RFC 9568, section 5.2.8, wants it, and keepalived by default.
    #[default]
    PseudoHeader,
    /// Nothing, as some do.
    Message,
}

/// Why a packet is not an advert for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// It is too short for what it says.
    #[error("cut short")]
    Short,
    /// It is of another version than the instance's.
    #[error("another version")]
    Version,
    /// It is no advert.
    #[error("not an advert")]
    Type,
    /// Its checksum is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// It has crossed a router, or comes from beyond one.
    #[error("hop limit not 255")]
    HopLimit,
    /// It is about another virtual router.
    #[error("another virtual router")]
    Router,
    /// It comes from somebody who is not among the peers.
    #[error("not from a peer")]
    NotPeer,
    /// Version 2: its password is not ours.
    #[error("wrong password")]
    Password,
    /// It comes from this balancer's own address: another one has it, too.
    #[error("from our own address")]
    OwnAddress,
    /// It tells no interval; or, in version 2, another one than ours.
    #[error("another interval, or none")]
    Interval,
    /// Version 3: it is about no address.
    #[error("no addresses")]
    NoAddresses,
}

impl Refused {
    /// Every reason, with the word that the API uses.
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
    /// The message, without IP header.
    pub fn bytes(&self, source: IpAddr, destination: IpAddr, covered: ChecksumCoverage) -> Vec<u8> {
        let count = self.addresses.len() as u8;
        let mut message = vec![self.version << 4 | ADVERTISEMENT, self.router, self.priority, count];
        if self.version == 2 {
            let seconds = (self.interval / 1_000_000).clamp(1, 255) as u8;
            message.push(if self.password.is_some() { SIMPLE_TEXT } else { 0 });
            message.push(seconds);
        } else {
            let hundredths = (self.interval / 10_000).clamp(1, u64::from(LONGEST_V3)) as u16;
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
        let pseudo = match (self.version, source) {
            (2, _) => 0,
            (_, IpAddr::V4(_)) if covered == ChecksumCoverage::Message => 0,
            _ => pseudo(source, destination, message.len()),
        };
        let sum = checksum::full(&message, pseudo);
        message[6..8].copy_from_slice(&sum.to_ne_bytes());
        message
    }

    /// Reads a message, and says what its checksum covers.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
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
        let covered = covered(message, version, source, destination)?;
        // RFC 9568, section 5.2.5: "If the received count is 0, the VRRP advertisement MUST be ignored." Version 2 knows no such
        // rule, and keepalived sends such adverts where all addresses are excluded from them.
        if version == 3 && header[3] == 0 {
            return Err(Refused::NoAddresses);
        }
        let list = &message[HEADER..end];
        let addresses = if size == 4 {
            list.as_chunks::<4>()
                .0
                .iter()
                .map(|octets| IpAddr::from(*octets))
                .collect()
        } else {
            list.as_chunks::<16>()
                .0
                .iter()
                .map(|octets| IpAddr::from(*octets))
                .collect()
        };
        let password = (version == 2 && header[4] == SIMPLE_TEXT)
            .then(|| message[end..].first_chunk().copied())
            .flatten();
        let interval = if version == 2 {
            u64::from(header[5]) * 1_000_000
        } else {
            u64::from(u16::from_be_bytes([header[4], header[5]]) & LONGEST_V3) * 10_000
        };
        let advert = Self {
            version,
            router: header[1],
            priority: header[2],
            interval,
            addresses,
            password,
        };
        Ok((advert, covered))
    }
}

/// What the checksum of a message covers, so that it is right.
fn covered(message: &[u8], version: u8, source: IpAddr, destination: IpAddr) -> Result<ChecksumCoverage, Refused> {
    let is_right = |pseudo| checksum::full(message, pseudo) == 0;
    match (version, source) {
        (2, _) if is_right(0) => Ok(ChecksumCoverage::Message),
        (3, _) if is_right(pseudo(source, destination, message.len())) => Ok(ChecksumCoverage::PseudoHeader),
        (3, IpAddr::V4(_)) if is_right(0) => Ok(ChecksumCoverage::Message),
        _ => Err(Refused::Checksum),
    }
}

/// The sum over the pseudo header (RFC 8200, section 8.1, and the same for IPv4).
fn pseudo(source: IpAddr, destination: IpAddr, length: usize) -> u64 {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn advert(version: u8, addresses: &[&str]) -> Advert {
        Advert {
            version,
            router: 51,
            priority: 100,
            interval: 1_000_000,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            password: None,
        }
    }

    fn ends(v6: bool) -> (IpAddr, IpAddr) {
        if v6 {
            ("fe80::1".parse().unwrap(), GROUP_V6.into())
        } else {
            ("192.0.2.1".parse().unwrap(), GROUP_V4.into())
        }
    }

    #[test]
    fn adverts_are_written_as_the_documents_say() {
        let (source, destination) = ends(false);
        let message = advert(3, &["192.0.2.10"]).bytes(source, destination, ChecksumCoverage::Message);
        // Version and type, router, priority, count, 100 hundredths, checksum, address.
        assert_eq!(message[..6], [0x31, 51, 100, 1, 0, 100]);
        assert_eq!(message[8..], [192, 0, 2, 10]);
        assert_eq!(checksum::full(&message, 0), 0);
        // Sum by hand: 3133 + 6401 + 0064 + c000 + 020a = 157a2, folded 57a3, complement a85c.
        assert_eq!(message[6..8], [0xa8, 0x5c]);
        let message = advert(2, &["192.0.2.10"]).bytes(source, destination, ChecksumCoverage::PseudoHeader);
        assert_eq!(message[..6], [0x21, 51, 100, 1, 0, 1]);
        assert_eq!(message[8..], [192, 0, 2, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
        let secret = Advert {
            password: Some(*b"secret\0\0"),
            ..advert(2, &["192.0.2.10"])
        };
        let message = secret.bytes(source, destination, ChecksumCoverage::PseudoHeader);
        assert_eq!((message[4], &message[12..]), (1, &b"secret\0\0"[..]));
    }

    /// Bytes in hexadecimal digits; addresses, version, interval and password that they tell.
    type Vector = (&'static str, &'static [&'static str], u8, u64, Option<[u8; 8]>);

    /// AdvertSocket that keepalived 2.2.7 sent from 192.0.2.2 and fe80::2, without IP header.
    const KEEPALIVED: [Vector; 4] = [
        ("313396010014d41ac000020a", &["192.0.2.10"], 3, 200_000, None),
        (
            "3133960200140e32fe80000000000000000000000000000a20010db8000000000000000000000010",
            &["fe80::a", "2001:db8::10"],
            3,
            200_000,
            None,
        ),
        (
            "21339601000186bfc000020a0000000000000000",
            &["192.0.2.10"],
            2,
            1_000_000,
            None,
        ),
        (
            "2133960101014973c000020a7365637265740000",
            &["192.0.2.10"],
            2,
            1_000_000,
            Some(*b"secret\0\0"),
        ),
    ];

    #[test]
    fn adverts_of_keepalived_are_read_and_ours_are_the_same_bytes() {
        for (hex, addresses, version, interval, password) in KEEPALIVED {
            let bytes: Vec<_> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            let advert = Advert {
                priority: 150,
                interval,
                password,
                ..advert(version, addresses)
            };
            let (source, destination): (IpAddr, IpAddr) = if advert.addresses[0].is_ipv4() {
                ([192, 0, 2, 2].into(), GROUP_V4.into())
            } else {
                ("fe80::2".parse().unwrap(), GROUP_V6.into())
            };
            let covered = if version == 2 {
                ChecksumCoverage::Message
            } else {
                ChecksumCoverage::PseudoHeader
            };
            assert_eq!(advert.bytes(source, destination, covered), bytes, "{hex}");
            assert_eq!(
                Advert::parse(&bytes, source, destination),
                Ok((advert, covered)),
                "{hex}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (version, v6, covered) in [
            (2, false, ChecksumCoverage::Message),
            (3, false, ChecksumCoverage::Message),
            (3, false, ChecksumCoverage::PseudoHeader),
            (3, true, ChecksumCoverage::PseudoHeader),
        ] {
            let addresses: &[&str] = if v6 {
                &["fe80::10", "2001:db8::10"]
            } else {
                &["192.0.2.10", "192.0.2.11"]
            };
            let (source, destination) = ends(v6);
            let sent = advert(version, addresses);
            let message = sent.bytes(source, destination, covered);
            assert_eq!(
                Advert::parse(&message, source, destination),
                Ok((sent, covered)),
                "{version} {v6}"
            );
            for length in 0..message.len() {
                assert_eq!(
                    Advert::parse(&message[..length], source, destination),
                    Err(Refused::Short),
                    "{length}"
                );
            }
            for bit in 0..message.len() * 8 {
                let mut wrong = message.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(Advert::parse(&wrong, source, destination).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn other_versions_and_types_are_refused() {
        let (source, destination) = ends(false);
        for (first, why) in [
            (0x11, Refused::Version),
            (0x41, Refused::Version),
            (0x32, Refused::Type),
        ] {
            let mut message = advert(3, &["192.0.2.10"]).bytes(source, destination, ChecksumCoverage::Message);
            message[0] = first;
            assert_eq!(Advert::parse(&message, source, destination), Err(why));
        }
    }

    #[test]
    fn an_advert_without_addresses_is_none_in_version_3() {
        for (version, v6, is_taken) in [(2, false, true), (3, false, false), (3, true, false)] {
            let (source, destination) = ends(v6);
            let message = advert(version, &[]).bytes(source, destination, ChecksumCoverage::PseudoHeader);
            let parsed = Advert::parse(&message, source, destination).map(drop);
            let expected = if is_taken { Ok(()) } else { Err(Refused::NoAddresses) };
            assert_eq!(parsed, expected, "{version} {v6}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_are_too_strange(message in prop::collection::vec(any::<u8>(), 0..80), v6: bool) {
            let (source, destination) = ends(v6);
            let _ = Advert::parse(&message, source, destination);
        }

        #[test]
        fn whatever_is_taken_is_what_it_says(
            mut message in prop::collection::vec(any::<u8>(), 8..80),
            count in 0_u8..8,
            version in 2_u8..4,
            v6: bool,
        ) {
            // Of the form of an advert, with a checksum that is right: all else is what somebody else makes of it.
            message[0] = version << 4 | ADVERTISEMENT;
            message[3] = count;
            message[6..8].fill(0);
            let (source, destination) = ends(v6);
            let size = if v6 { 16 } else { 4 };
            let end = HEADER + usize::from(count) * size + if version == 2 { PASSWORD } else { 0 };
            if let Some(whole) = message.get(..end) {
                let with = if version == 2 { 0 } else { pseudo(source, destination, end) };
                let sum = checksum::full(whole, with);
                message[6..8].copy_from_slice(&sum.to_ne_bytes());
            }
            match Advert::parse(&message, source, destination) {
                Ok((advert, _)) => {
                    prop_assert_eq!(advert.addresses.len(), usize::from(count));
                    prop_assert!(count != 0 || version == 2);
                    prop_assert_eq!((advert.version, advert.router, advert.priority), (version, message[1], message[2]));
                }
                Err(Refused::NoAddresses) => prop_assert_eq!((version, count), (3, 0)),
                Err(why) => prop_assert!(matches!(why, Refused::Short) || v6 && version == 2, "{}", why),
            }
        }
    }
}
