//! The lease of a virtual router's addresses, which the packet path goes by when the controller is dead.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use lb_common::{VirtualRouter, router::RouterKey};

use super::addresses::Link;
use crate::dataplane::{DataplaneError, Registered, Routers, lease_clock};
use lb_core::config::Vrrp;
use lb_core::vrrp::instance::Micros;

/// The shortest time that an advert of another balancer may stay without the controller's reaction.
const LEAST_PATIENCE: Duration = Duration::from_millis(50);

/// Microseconds of the kernel's monotonic clock: the clock of all instances.
pub(super) fn now() -> Micros {
    nanoseconds() / 1000
}

fn nanoseconds() -> u64 {
    // Every kernel that runs this has the clock.
    lease_clock().unwrap_or(0)
}

/// The place of a virtual router in the maps.
pub(super) struct Lease {
    routers: Arc<Routers>,
    /// What the packet path knows it by.
    pub(super) key: RouterKey,
    index: u32,
    length: Duration,
    patience: Duration,
    /// The addresses that it was about before.
    pub(super) former_addresses: BTreeSet<IpAddr>,
}

impl Lease {
    /// Makes the virtual router known to the packet path.
    pub(super) fn register(
        routers: Arc<Routers>,
        link: &Link,
        config: &Vrrp,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Self, DataplaneError> {
        let is_v4 = addresses.first().is_none_or(IpAddr::is_ipv4);
        let key = RouterKey {
            interface: link.index,
            tags: 0,
            router: config.router.into(),
            family: if is_v4 { 4 } else { 6 },
        };
        let entry = Registered {
            refuses: !config.accept,
            own_mac: link.mac,
            version: config.version,
        };
        let (index, former_addresses) = routers.register(key, addresses, &entry)?;
        Ok(Self {
            routers,
            key,
            index,
            // Nobody takes over before three intervals are over.
            length: config.grace.max(config.interval * 4),
            patience: (config.interval * 3).max(LEAST_PATIENCE),
            former_addresses,
        })
    }

    /// Whether another balancer took over, or might have, while the controller did not renew it.
    pub(super) fn has_lapsed(&self) -> bool {
        self.read()
            .is_some_and(|entry| lb_core::vrrp::lease::has_lapsed(&entry, nanoseconds()))
    }

    /// Whether this balancer still holds it, from before its controller began.
    pub(super) fn holds(&self) -> bool {
        self.read().is_some_and(|entry| entry.answers(nanoseconds()))
    }

    /// Renews it.
    pub(super) fn renew(&self) {
        self.routers
            .renew(self.index, nanoseconds(), self.length, self.patience);
    }

    /// Ends it.
    pub(super) fn give_up(&self) {
        self.routers.end_lease(self.index);
    }

    /// Lets connections of the balancer that was master before go on by way of it, for so long; or not any more.
    pub(super) fn relay(&self, length: Option<Duration>) {
        self.routers.relay(self.index, nanoseconds(), length);
    }

    /// The balancer that was master before, where its adverts were heard.
    pub(super) fn former(&self) -> Option<IpAddr> {
        Some(self.routers.heard(self.index, self.key.family as u8)?.from)
    }

    /// When the packet path saw that balancer's last advert, where it is on this interface.
    pub(super) fn heard(&self, from: IpAddr) -> Option<Micros> {
        let heard = self.routers.heard(self.index, self.key.family as u8)?;
        (heard.from == from).then_some(heard.at / 1000)
    }

    /// For how long the packet path has seen no advert; `None`: it never saw one.
    pub(super) fn silence(&self) -> Option<Micros> {
        let heard = self.read()?.heard;
        (heard != 0).then(|| nanoseconds().saturating_sub(heard) / 1000)
    }

    fn read(&self) -> Option<VirtualRouter> {
        self.routers.read(self.index)
    }
}
