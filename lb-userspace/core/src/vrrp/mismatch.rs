//! Mismatches: what in the adverts of other balancers differs from this balancer's configuration.
//! Each is reported to the operator once an hour. Pure, time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    advert::{Advert, ChecksumCoverage, Refused},
    instance::{Micros, OWNER},
    validation::ExpectedAdverts,
};
use crate::text::duration;

#[cfg(test)]
mod tests;

/// The least time between two reports of the same mismatch of the same balancer, in microseconds.
const REPORT_INTERVAL: Micros = 3_600_000_000;
/// How many mismatches are reported in that time. Anybody on the link may send from any address.
const MAX_REPORTS: usize = 32;

/// Kind of a mismatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mismatch {
    Refused(Refused),
    Checksum,
    Interval,
    Addresses,
    Owner,
}

/// Which mismatches were reported, of which balancer, and when.
#[derive(Debug, Default)]
pub struct Mismatches(BTreeMap<(Mismatch, IpAddr), Micros>);

impl Mismatches {
    /// An advert of that balancer was refused. Returns a sentence if it is to be reported.
    pub fn refused(
        &mut self,
        reason: Refused,
        from: IpAddr,
        expected: &ExpectedAdverts,
        now: Micros,
    ) -> Option<String> {
        // Multicast delivers the adverts of all virtual routers.
        let is_reported = reason != Refused::Router && self.is_due((Mismatch::Refused(reason), from), now);
        is_reported.then(|| refusal(reason, from, expected))
    }

    /// An advert of that balancer counts. Returns a sentence for each mismatch that is to be
    /// reported.
    pub fn accepted(
        &mut self,
        (advert, coverage): (&Advert, ChecksumCoverage),
        from: IpAddr,
        expected: &ExpectedAdverts,
        now: Micros,
    ) -> Vec<String> {
        let theirs: BTreeSet<_> = advert.addresses.iter().copied().collect();
        let is_checksum_other = expected.version == 3 && from.is_ipv4() && coverage != expected.checksum;
        let mut sentences = Vec::new();
        if is_checksum_other && self.is_due((Mismatch::Checksum, from), now) {
            sentences.push(format!(
                "adverts of {from} use the other form of the checksum of version 3 (`checksum`): this balancer accepts \
                 both, {from} may not"
            ));
        }
        if advert.interval != expected.interval && self.is_due((Mismatch::Interval, from), now) {
            let [theirs, own] = [advert.interval, expected.interval].map(|time| duration(Duration::from_micros(time)));
            sentences.push(format!(
                "{from} sends an advert every {theirs}, this balancer every {own} (`interval`)"
            ));
        }
        if theirs != expected.addresses && self.is_due((Mismatch::Addresses, from), now) {
            let list = |all: &BTreeSet<IpAddr>| Vec::from_iter(all.iter().map(IpAddr::to_string)).join(", ");
            let (theirs, own) = (list(&theirs), list(&expected.addresses));
            sentences.push(format!("{from} has other addresses: {theirs}; this balancer has {own}"));
        }
        let are_owners = advert.priority == OWNER && expected.priority == OWNER;
        if are_owners && self.is_due((Mismatch::Owner, from), now) {
            sentences.push(format!(
                "{from} has priority {OWNER}, as this balancer has: both keep the addresses"
            ));
        }
        sentences
    }

    /// Whether a mismatch is to be reported now.
    fn is_due(&mut self, mismatch: (Mismatch, IpAddr), now: Micros) -> bool {
        self.0.retain(|_, reported| now < *reported + REPORT_INTERVAL);
        if self.0.contains_key(&mismatch) || self.0.len() >= MAX_REPORTS {
            return false;
        }
        self.0.insert(mismatch, now);
        true
    }
}

/// Why adverts of a balancer are refused, for the operator.
fn refusal(reason: Refused, from: IpAddr, expected: &ExpectedAdverts) -> String {
    let why = match reason {
        Refused::OwnAddress => {
            return format!("another balancer sends adverts from {from}, the address of this balancer");
        }
        Refused::Version => format!("expected version {}", expected.version),
        Refused::Interval => {
            let interval = duration(Duration::from_micros(expected.interval));
            format!("expected interval {interval}")
        }
        Refused::NotPeer => "`peers` does not contain it".to_owned(),
        other => other.to_string(),
    };
    format!("adverts of {from} are refused: {why}")
}
