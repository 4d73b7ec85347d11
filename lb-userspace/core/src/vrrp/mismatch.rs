//! What is odd about adverts of other balancers, in a sentence for the operator, and that not too often. Pure, time is an
//! argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    advert::{Advert, ChecksumCoverage, Refused},
    instance::{Micros, OWNER},
};
use crate::{config::Vrrp, text::duration};

/// How often at most the same thing is told of the same balancer.
const AGAIN: Micros = 3_600_000_000;
/// How many things are told in that time at most: whoever may send on the link may send from any address.
const MOST: usize = 32;

/// A way in which adverts are not as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mismatch {
    Refused(Refused),
    Checksum,
    Interval,
    Addresses,
    Owner,
}

/// When what was told, and of whom.
#[derive(Debug, Default)]
pub struct Mismatches(BTreeMap<(Mismatch, IpAddr), Micros>);

impl Mismatches {
    /// An advert of that balancer does not count.
    pub fn refused(&mut self, reason: Refused, from: IpAddr, config: &Vrrp, now: Micros) -> Option<String> {
        let what = match reason {
            // Every virtual router's come by multicast.
            Refused::Router => return None,
            Refused::OwnAddress => {
                return self.once((Mismatch::Refused(reason), from), now, || {
                    format!("adverts of another balancer come from {from}, which is this one's address")
                });
            }
            Refused::Version => format!("of another version than {}", config.version),
            Refused::Interval => format!("with no interval, or another one than {}", duration(config.interval)),
            Refused::NotPeer => "`peers` does not name it".to_owned(),
            Refused::Short
            | Refused::Type
            | Refused::Checksum
            | Refused::HopLimit
            | Refused::Password
            | Refused::NoAddresses => reason.to_string(),
        };
        self.once((Mismatch::Refused(reason), from), now, || {
            format!("adverts of {from} are refused: {what}")
        })
    }

    /// An advert of that balancer counts.
    pub fn accepted(
        &mut self,
        (advert, covered): (&Advert, ChecksumCoverage),
        from: IpAddr,
        config: &Vrrp,
        now: Micros,
    ) -> Vec<String> {
        let mut odd = Vec::new();
        if config.version == 3 && from.is_ipv4() && covered != config.checksum {
            odd.extend(self.once((Mismatch::Checksum, from), now, || {
                format!(
                    "adverts of {from} come with the other form of the checksum of version 3 (`checksum`): both are accepted \
                     here, perhaps not there"
                )
            }));
        }
        let own = config.parameters().interval;
        if advert.interval != own {
            odd.extend(self.once((Mismatch::Interval, from), now, || {
                let [theirs, own] = [advert.interval, own].map(|micros| duration(Duration::from_micros(micros)));
                format!("{from} sends an advert every {theirs}, this balancer every {own} (`interval`)")
            }));
        }
        let theirs: BTreeSet<_> = advert.addresses.iter().copied().collect();
        let ours: BTreeSet<_> = config.hosts().collect();
        if theirs != ours {
            odd.extend(self.once((Mismatch::Addresses, from), now, || {
                let list = |all: BTreeSet<IpAddr>| Vec::from_iter(all.iter().map(IpAddr::to_string)).join(", ");
                format!(
                    "{from} has other addresses: {}; this balancer has {}",
                    list(theirs),
                    list(ours)
                )
            }));
        }
        if advert.priority == OWNER && config.priority == OWNER {
            odd.extend(self.once((Mismatch::Owner, from), now, || {
                format!("{from} has priority {OWNER}, as this balancer has: both keep the addresses")
            }));
        }
        odd
    }

    fn once(&mut self, oddity: (Mismatch, IpAddr), now: Micros, tell: impl FnOnce() -> String) -> Option<String> {
        self.0.retain(|_, told| now < *told + AGAIN);
        if self.0.contains_key(&oddity) || self.0.len() >= MOST {
            return None;
        }
        self.0.insert(oddity, now);
        Some(tell())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[node]\nname = \"a\"\ninterfaces = [\"eth0\"]\n[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\n\
                          router_id = 51\naddresses = [\"192.0.2.10/24\"]\n";

    fn config(keys: &str) -> Vrrp {
        let config = crate::config::parse("lbd.toml", &format!("{CONFIG}{keys}")).unwrap();
        config.vrrp.into_iter().next().unwrap()
    }

    fn other() -> IpAddr {
        [192, 0, 2, 3].into()
    }

    fn advert(priority: u8, interval: u64, addresses: &[IpAddr]) -> Advert {
        Advert {
            version: 3,
            router: 51,
            priority,
            interval,
            addresses: addresses.to_vec(),
            password: None,
        }
    }

    #[test]
    fn what_is_refused_is_told_once_an_hour_for_each_reason() {
        let (config, mut mismatches) = (config("version = 2\npassword = \"secret\"\n"), Mismatches::default());
        let mut told = |reason, now| mismatches.refused(reason, other(), &config, now);
        assert_eq!(told(Refused::Router, 1), None, "others' adverts come by multicast");
        assert_eq!(
            told(Refused::Password, 1).unwrap(),
            "adverts of 192.0.2.3 are refused: wrong password"
        );
        assert_eq!(told(Refused::Password, AGAIN), None);
        assert_eq!(
            told(Refused::Version, 2).unwrap(),
            "adverts of 192.0.2.3 are refused: of another version than 2"
        );
        assert!(told(Refused::Password, 1 + AGAIN).is_some());
        assert!(
            told(Refused::OwnAddress, 3)
                .unwrap()
                .ends_with("which is this one's address")
        );
        let third = mismatches.refused(Refused::Password, [192, 0, 2, 4].into(), &config, 4);
        assert!(third.is_some(), "another balancer is another matter");
        for last in 0..=255 {
            mismatches.refused(Refused::HopLimit, [198, 51, 100, last].into(), &config, 5);
        }
        assert_eq!(mismatches.0.len(), MOST);
    }

    #[test]
    fn what_differs_from_the_configuration_is_told_of_adverts_that_count() {
        let address: IpAddr = [192, 0, 2, 10].into();
        let right = advert(100, 1_000_000, &[address]);
        // Keys, advert, what its checksum covers; then words of what is told.
        for (keys, advert, covered, words) in [
            ("", right.clone(), ChecksumCoverage::PseudoHeader, &[][..]),
            (
                "",
                right.clone(),
                ChecksumCoverage::Message,
                &["the other form of the checksum"],
            ),
            (
                "",
                advert(100, 10_000, &[address, [192, 0, 2, 11].into()]),
                ChecksumCoverage::PseudoHeader,
                &[
                    "an advert every 10ms, this balancer every 1s",
                    "other addresses: 192.0.2.10, 192.0.2.11; this balancer has 192.0.2.10",
                ],
            ),
            (
                "priority = 255\n",
                advert(255, 1_000_000, &[address]),
                ChecksumCoverage::PseudoHeader,
                &["both keep the addresses"],
            ),
        ] {
            let (config, mut mismatches) = (config(keys), Mismatches::default());
            let told = mismatches.accepted((&advert, covered), other(), &config, 1);
            assert_eq!(told.len(), words.len(), "{told:?}");
            for (told, words) in told.iter().zip(words) {
                assert!(told.contains(words), "{told}");
            }
            assert!(mismatches.accepted((&advert, covered), other(), &config, 2).is_empty());
        }
    }
}
