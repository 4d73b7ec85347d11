//! Validation: whether a received packet is an advert that counts for a virtual router. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    advert::{Advert, ChecksumCoverage, HOP_LIMIT, Refused},
    instance::Micros,
};

/// A packet of protocol 112.
#[derive(Debug)]
pub struct Received {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, if it is known.
    pub destination: Option<IpAddr>,
    /// TTL or hop limit of the IP header.
    pub hop_limit: u8,
    /// The VRRP message, without IP header.
    pub message: Vec<u8>,
}

/// What adverts of a virtual router must, or should, contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedAdverts {
    /// Version: 2 or 3.
    pub version: u8,
    /// Number of the virtual router (VRID): 1 to 255.
    pub router: u8,
    /// Priority of this balancer: 1 to 255.
    pub priority: u8,
    /// Advert interval of this balancer, in microseconds.
    pub interval: Micros,
    /// The only accepted sources. Empty: adverts come by multicast, and any source is accepted.
    pub peers: Vec<IpAddr>,
    /// Version 2: the password. `None`: adverts carry none.
    pub password: Option<[u8; 8]>,
    /// What this balancer's own checksums of version 3 over IPv4 cover.
    pub checksum: ChecksumCoverage,
    /// The virtual addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// Parses a packet and checks whether it counts. `own` is the source of this balancer's adverts.
///
/// # Errors
///
/// Why the packet does not count.
pub fn validate(
    received: &Received,
    own: IpAddr,
    expected: &ExpectedAdverts,
) -> Result<(Advert, ChecksumCoverage), Refused> {
    if received.hop_limit != HOP_LIMIT {
        return Err(Refused::HopLimit);
    }
    if received.source == own {
        return Err(Refused::OwnAddress);
    }
    let destination = received.destination.unwrap_or(own);
    let (advert, coverage) = Advert::parse(&received.message, received.source, destination)?;
    if advert.router != expected.router {
        return Err(Refused::Router);
    }
    if advert.version != expected.version {
        return Err(Refused::Version);
    }
    if !expected.peers.is_empty() && !expected.peers.contains(&received.source) {
        return Err(Refused::NotPeer);
    }
    if advert.version == 2 && advert.password != expected.password {
        return Err(Refused::Password);
    }
    // A master with an interval of zero would count as gone at once.
    let is_other = advert.version == 2 && advert.interval != expected.interval;
    if is_other || advert.interval == 0 {
        return Err(Refused::Interval);
    }
    Ok((advert, coverage))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 3 by multicast, with an interval of one second.
    fn expected() -> ExpectedAdverts {
        ExpectedAdverts {
            version: 3,
            router: 51,
            priority: 100,
            interval: 1_000_000,
            peers: Vec::new(),
            password: None,
            checksum: ChecksumCoverage::PseudoHeader,
            addresses: BTreeSet::from([address(10)]),
        }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn valid(version: u8) -> Advert {
        Advert {
            version,
            router: 51,
            priority: 100,
            interval: 1_000_000,
            addresses: vec![address(10)],
            password: (version == 2).then_some(*b"secret\0\0"),
        }
    }

    /// The packet that the balancer with that address sends by multicast.
    fn received(advert: &Advert, from: u8) -> Received {
        let group = IpAddr::from([224, 0, 0, 18]);
        Received {
            source: address(from),
            destination: Some(group),
            hop_limit: HOP_LIMIT,
            message: advert.bytes(address(from), group, ChecksumCoverage::PseudoHeader),
        }
    }

    #[test]
    fn only_adverts_of_other_balancers_for_this_virtual_router_count() {
        let multicast = expected();
        let version_2 = ExpectedAdverts {
            version: 2,
            password: Some(*b"secret\0\0"),
            ..expected()
        };
        let without_password = ExpectedAdverts {
            password: None,
            ..version_2.clone()
        };
        let peers = |last| ExpectedAdverts {
            peers: vec![address(last)],
            ..expected()
        };
        let other = |change: &dyn Fn(&mut Advert), version| {
            let mut advert = valid(version);
            change(&mut advert);
            received(&advert, 3)
        };
        let mut far = received(&valid(3), 3);
        far.hop_limit = 254;
        let mut torn = received(&valid(3), 3);
        torn.message.truncate(9);
        let mut broken = received(&valid(3), 3);
        broken.message[2] ^= 1;
        // Interval 0. A word that is one less makes the checksum one more.
        let mut no_interval = received(
            &Advert {
                interval: 10_000,
                ..valid(3)
            },
            3,
        );
        no_interval.message[5] -= 1;
        no_interval.message[7] += 1;
        // What is expected, what is received, why it does not count.
        for (expected, received, refused) in [
            (&multicast, received(&valid(3), 3), None),
            (&version_2, received(&valid(2), 3), None),
            (&peers(3), received(&valid(3), 3), None),
            (&multicast, far, Some(Refused::HopLimit)),
            (&multicast, torn, Some(Refused::Short)),
            (&multicast, broken, Some(Refused::Checksum)),
            (&multicast, received(&valid(3), 2), Some(Refused::OwnAddress)),
            (
                &multicast,
                other(&|advert| advert.router = 52, 3),
                Some(Refused::Router),
            ),
            (&multicast, received(&valid(2), 3), Some(Refused::Version)),
            (&version_2, received(&valid(3), 3), Some(Refused::Version)),
            (&peers(4), received(&valid(3), 3), Some(Refused::NotPeer)),
            (
                &version_2,
                other(&|advert| advert.password = None, 2),
                Some(Refused::Password),
            ),
            (
                &version_2,
                other(&|advert| advert.password = Some(*b"secreT\0\0"), 2),
                Some(Refused::Password),
            ),
            (&without_password, received(&valid(2), 3), Some(Refused::Password)),
            (
                &version_2,
                other(&|advert| advert.interval = 2_000_000, 2),
                Some(Refused::Interval),
            ),
            (&multicast, no_interval, Some(Refused::Interval)),
            // Version 3: another interval is reported, and used (RFC 9568, section 6.4.2).
            (&multicast, other(&|advert| advert.interval = 2_000_000, 3), None),
        ] {
            let found = validate(&received, address(2), expected);
            assert_eq!(found.as_ref().err(), refused.as_ref(), "{expected:?} {received:?}");
        }
    }
}
