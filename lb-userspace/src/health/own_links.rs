//! Links of this machine that fail for a moment: nothing is concluded about backends behind them meanwhile.
//!
//! A link that flaps would otherwise take all backends down, and end their connections, which outlive the flap themselves.
//! What stays down for longer counts: other backends may be reached by other links.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// So long a link may be down before checks through it count.
const FLAP: Duration = Duration::from_secs(5);
/// How long after it is up again checks through it do not count: neighbours have to be found, switches begin to forward.
const SETTLE: Duration = Duration::from_secs(2);

/// The links of this machine, and which backends are behind them.
#[derive(Debug, Default)]
pub struct OwnLinks {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Interface by which each address is reached, or was last.
    ways: BTreeMap<IpAddr, String>,
    links: BTreeMap<String, Link>,
}

/// What is known of a link.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Since when it is down.
    down: Option<Instant>,
    /// When it came up again, and how long it had been down.
    up: Option<(Instant, Duration)>,
}

impl Link {
    fn note(&mut self, is_up: bool, now: Instant) {
        match (self.down, is_up) {
            (None, false) => self.down = Some(now),
            (Some(since), true) => {
                *self = Self {
                    down: None,
                    up: Some((now, now.saturating_duration_since(since))),
                }
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// Whether it fails for a moment, as far as one can say.
    fn flaps(&self, now: Instant) -> bool {
        let is_down = self
            .down
            .is_some_and(|since| now.saturating_duration_since(since) < FLAP);
        let was_down = |(at, length): (Instant, Duration)| length < FLAP && now.saturating_duration_since(at) < SETTLE;
        is_down || self.up.is_some_and(was_down)
    }
}

impl OwnLinks {
    /// Learns by which interfaces addresses are reached. Those without a way now are behind the last one.
    pub fn learn<'a>(&self, ways: impl IntoIterator<Item = (IpAddr, &'a str)>) {
        let mut known = self.lock();
        for (address, interface) in ways.into_iter().filter(|(_, interface)| !interface.is_empty()) {
            known.ways.insert(address, interface.to_owned());
        }
    }

    /// Learns whether an interface has a link.
    pub fn note(&self, interface: &str, is_up: bool, now: Instant) {
        let mut known = self.lock();
        known.links.entry(interface.to_owned()).or_default().note(is_up, now);
    }

    /// The link that fails for a moment, where the address is behind it.
    pub fn trouble(&self, address: IpAddr, now: Instant) -> Option<String> {
        let known = self.lock();
        let way = known.ways.get(&address)?;
        let mut flapping = known
            .links
            .iter()
            .filter(|(_, link)| link.flaps(now))
            .map(|(name, _)| name);
        match known.links.get(way) {
            Some(link) => link.flaps(now).then(|| way.clone()),
            // Something upon one of the interfaces, such as a VLAN.
            None => flapping.next().cloned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn only_what_is_behind_a_flapping_link_is_excused_and_not_for_long() {
        let links = OwnLinks::default();
        let begin = Instant::now();
        let at = |milliseconds: u64| begin + Duration::from_millis(milliseconds);
        links.learn([(address(1), "eth0"), (address(2), "eth1"), (address(3), "eth0.7")]);
        links.note("eth0", true, begin);
        links.note("eth1", true, begin);
        assert_eq!(links.trouble(address(1), begin), None);
        links.note("eth0", false, at(100));
        // The way is gone with the link.
        links.learn([(address(1), "")]);
        let excused = |milliseconds| [1, 2, 3].map(|last| links.trouble(address(last), at(milliseconds)).is_some());
        assert_eq!(excused(200), [true, false, true]);
        assert_eq!(excused(5_200), [false; 3], "that is no flap any more");
        links.note("eth0", true, at(3_000));
        assert_eq!(excused(4_900), [true, false, true]);
        assert_eq!(excused(5_100), [false; 3]);
        assert_eq!(
            links.trouble(address(9), at(200)),
            None,
            "nobody knows how it is reached"
        );
    }
}
