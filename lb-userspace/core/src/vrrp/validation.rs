//! Which adverts count. Pure.

use std::net::IpAddr;

use super::advert::{Advert, ChecksumCoverage, HOP_LIMIT, Refused};
use crate::config::Vrrp;

/// What came.
#[derive(Debug)]
pub struct Received {
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it was sent to, where that is known.
    pub destination: Option<IpAddr>,
    /// TTL or hop limit of its IP header.
    pub hop_limit: u8,
    /// The message, without IP header.
    pub message: Vec<u8>,
}

/// Whether what came counts, and what it says. `own` is where this balancer's adverts come from.
pub fn validate(received: &Received, own: IpAddr, config: &Vrrp) -> Result<(Advert, ChecksumCoverage), Refused> {
    if received.hop_limit != HOP_LIMIT {
        return Err(Refused::HopLimit);
    }
    if received.source == own {
        return Err(Refused::OwnAddress);
    }
    let destination = received.destination.unwrap_or(own);
    let (advert, covered) = Advert::parse(&received.message, received.source, destination)?;
    if advert.router != config.router {
        return Err(Refused::Router);
    }
    if advert.version != config.version {
        return Err(Refused::Version);
    }
    if !config.peers.is_empty() && !config.peers.contains(&received.source) {
        return Err(Refused::NotPeer);
    }
    if advert.version == 2 && advert.password != config.password {
        return Err(Refused::Password);
    }
    // Whoever says that adverts come all the time would be missed at once.
    let is_other = advert.version == 2 && advert.interval != config.parameters().interval;
    if is_other || advert.interval == 0 {
        return Err(Refused::Interval);
    }
    Ok((advert, covered))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\n\
                          router_id = 51\naddresses = [\"192.0.2.10/24\"]\n";

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn right(version: u8) -> Advert {
        Advert {
            version,
            router: 51,
            priority: 100,
            interval: 1_000_000,
            addresses: vec![address(10)],
            password: (version == 2).then_some(*b"secret\0\0"),
        }
    }

    /// As it comes from the balancer with that address, by multicast.
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
    fn only_adverts_of_others_about_this_virtual_router_count() {
        let version_2 = "version = 2\npassword = \"secret\"\n";
        let other = |change: &dyn Fn(&mut Advert), version| {
            let mut advert = right(version);
            change(&mut advert);
            received(&advert, 3)
        };
        let mut far = received(&right(3), 3);
        far.hop_limit = 254;
        let mut torn = received(&right(3), 3);
        torn.message.truncate(9);
        let mut broken = received(&right(3), 3);
        broken.message[2] ^= 1;
        // No interval: what is one less in the message is one more in its checksum.
        let mut endless = received(
            &Advert {
                interval: 10_000,
                ..right(3)
            },
            3,
        );
        endless.message[5] -= 1;
        endless.message[7] += 1;
        // Keys, what comes, why it does not count.
        for (keys, received, refused) in [
            ("", received(&right(3), 3), None),
            (version_2, received(&right(2), 3), None),
            ("peers = [\"192.0.2.3\"]\n", received(&right(3), 3), None),
            ("", far, Some(Refused::HopLimit)),
            ("", torn, Some(Refused::Short)),
            ("", broken, Some(Refused::Checksum)),
            ("", received(&right(3), 2), Some(Refused::OwnAddress)),
            ("", other(&|advert| advert.router = 52, 3), Some(Refused::Router)),
            ("", received(&right(2), 3), Some(Refused::Version)),
            (version_2, received(&right(3), 3), Some(Refused::Version)),
            (
                "peers = [\"192.0.2.4\"]\n",
                received(&right(3), 3),
                Some(Refused::NotPeer),
            ),
            (
                version_2,
                other(&|advert| advert.password = None, 2),
                Some(Refused::Password),
            ),
            (
                version_2,
                other(&|advert| advert.password = Some(*b"secreT\0\0"), 2),
                Some(Refused::Password),
            ),
            ("version = 2\n", received(&right(2), 3), Some(Refused::Password)),
            (
                version_2,
                other(&|advert| advert.interval = 2_000_000, 2),
                Some(Refused::Interval),
            ),
            ("", endless, Some(Refused::Interval)),
            // Another interval is told, and followed (RFC 9568, section 6.4.2).
            ("", other(&|advert| advert.interval = 2_000_000, 3), None),
        ] {
            let config = crate::config::parse("lbd.toml", &format!("{CONFIG}{keys}")).unwrap();
            let judged = validate(&received, address(2), &config.vrrp[0]);
            assert_eq!(judged.as_ref().err(), refused.as_ref(), "{keys} {received:?}");
        }
    }
}
