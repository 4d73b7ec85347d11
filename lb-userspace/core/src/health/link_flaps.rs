//! Link flaps of this machine: failed checks through a flapping link say nothing about the backends
//! behind it.
//!
//! Without this rule one short link flap would take all backends down and reset their connections,
//! which survive the flap. A link that stays down longer than [`FLAP`] counts, because other
//! backends may be reachable through other links.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A link that is down for less than this time flaps. Checks through it count after this time.
const FLAP: Duration = Duration::from_secs(5);
/// After a flap, checks do not count for this time: neighbours must be resolved, and switches must
/// start to forward.
const SETTLE: Duration = Duration::from_secs(2);

/// The state of this machine's links, and the link to each backend.
#[derive(Debug, Default)]
pub struct LinkFlaps {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The interface that leads to each address, or led there last.
    routes: BTreeMap<IpAddr, String>,
    links: BTreeMap<String, Link>,
}

/// Recent changes of one link.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// When it went down. `None`: it is up.
    down_since: Option<Instant>,
    /// When it last came up, and how long it had been down.
    recovered: Option<(Instant, Duration)>,
}

impl Link {
    fn set_up(&mut self, is_up: bool, now: Instant) {
        match (self.down_since, is_up) {
            (None, false) => self.down_since = Some(now),
            (Some(since), true) => {
                *self = Self {
                    down_since: None,
                    recovered: Some((now, now.saturating_duration_since(since))),
                }
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// Whether it is in a flap, or has just ended one.
    fn flaps(&self, now: Instant) -> bool {
        let is_down = self
            .down_since
            .is_some_and(|since| now.saturating_duration_since(since) < FLAP);
        let was_down = |(at, length): (Instant, Duration)| length < FLAP && now.saturating_duration_since(at) < SETTLE;
        is_down || self.recovered.is_some_and(was_down)
    }
}

impl LinkFlaps {
    /// Stores the interface that leads to each address. An empty name means no route now; the last
    /// interface is kept.
    pub fn set_routes<'a>(&self, routes: impl IntoIterator<Item = (IpAddr, &'a str)>) {
        let mut known = self.lock();
        for (address, interface) in routes.into_iter().filter(|(_, interface)| !interface.is_empty()) {
            known.routes.insert(address, interface.to_owned());
        }
    }

    /// Stores whether an interface has a link.
    pub fn set_link(&self, interface: &str, is_up: bool, now: Instant) {
        let mut known = self.lock();
        known.links.entry(interface.to_owned()).or_default().set_up(is_up, now);
    }

    /// The flapping link that leads to this address, if there is one.
    pub fn flapping_link(&self, address: IpAddr, now: Instant) -> Option<String> {
        let known = self.lock();
        let interface = known.routes.get(&address)?;
        if let Some(link) = known.links.get(interface) {
            return link.flaps(now).then(|| interface.clone());
        }
        // The interface is not one of the balancer's, such as a VLAN on top of one: any of those
        // may carry it.
        let mut flapping = known.links.iter().filter(|(_, link)| link.flaps(now));
        flapping.next().map(|(name, _)| name.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No code panics while it holds the lock.
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
    fn failures_are_excused_only_behind_a_flapping_link_and_for_a_limited_time() {
        let links = LinkFlaps::default();
        let begin = Instant::now();
        let at = |milliseconds: u64| begin + Duration::from_millis(milliseconds);
        links.set_routes([(address(1), "eth0"), (address(2), "eth1"), (address(3), "eth0.7")]);
        links.set_link("eth0", true, begin);
        links.set_link("eth1", true, begin);
        assert_eq!(links.flapping_link(address(1), begin), None);
        links.set_link("eth0", false, at(100));
        // The route disappears with the link.
        links.set_routes([(address(1), "")]);
        let excused =
            |milliseconds| [1, 2, 3].map(|last| links.flapping_link(address(last), at(milliseconds)).is_some());
        assert_eq!(excused(200), [true, false, true]);
        assert_eq!(excused(5_200), [false; 3], "down for longer than a flap");
        links.set_link("eth0", true, at(3_000));
        assert_eq!(excused(4_900), [true, false, true]);
        assert_eq!(excused(5_100), [false; 3]);
        assert_eq!(
            links.flapping_link(address(9), at(200)),
            None,
            "the route to this address is unknown"
        );
    }
}
