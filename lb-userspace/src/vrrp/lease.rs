//! The lease of a virtual router's addresses. The packet path reads it to decide whether it may
//! still reply for them, above all when the controller is dead.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use lb_common::{VirtualRouter, router::RouterKey};

use super::addresses::Link;
use crate::dataplane::{DataplaneError, Registered, Routers, lease_clock};
use lb_core::{config::Vrrp, vrrp::instance::Micros};

/// The least time that the controller has to react to an advert of another balancer, before the
/// packet path counts it as dead.
const MIN_PATIENCE: Duration = Duration::from_millis(50);

/// Time of the kernel's monotonic clock in microseconds. All instances use it.
pub(super) fn now() -> Micros {
    nanoseconds() / 1000
}

fn nanoseconds() -> u64 {
    // Every supported kernel has this clock.
    lease_clock().unwrap_or(0)
}

/// The entry of a virtual router in the packet path's maps.
pub(super) struct Lease {
    routers: Arc<Routers>,
    /// Key of the entry.
    pub(super) key: RouterKey,
    index: u32,
    length: Duration,
    patience: Duration,
    /// The addresses that the entry had before it was registered.
    pub(super) former_addresses: BTreeSet<IpAddr>,
}

impl Lease {
    /// Registers the virtual router in the packet path.
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
            // No backup takes over before three intervals have passed.
            length: config.grace.max(config.interval * 4),
            patience: (config.interval * 3).max(MIN_PATIENCE),
            former_addresses,
        })
    }

    /// Whether it expired, and another balancer may have taken over.
    pub(super) fn is_lost(&self) -> bool {
        self.read()
            .is_some_and(|entry| lb_core::vrrp::lease::is_lost(&entry, nanoseconds()))
    }

    /// Whether this balancer holds it.
    pub(super) fn holds(&self) -> bool {
        self.read().is_some_and(|entry| entry.answers(nanoseconds()))
    }

    /// Renews it for its full length.
    pub(super) fn renew(&self) {
        self.routers
            .renew(self.index, nanoseconds(), self.length, self.patience);
    }

    /// Ends it.
    pub(super) fn release(&self) {
        self.routers.end_lease(self.index);
    }

    /// Relays unknown connections to the former master for that time. `None`: ends the relay.
    pub(super) fn relay(&self, length: Option<Duration>) {
        self.routers.relay(self.index, nanoseconds(), length);
    }

    /// The former master: the balancer whose adverts were heard last.
    pub(super) fn former(&self) -> Option<IpAddr> {
        Some(self.routers.heard(self.index, self.key.family as u8)?.from)
    }

    /// When the packet path saw the last advert of that balancer. `None`: it did not see one.
    pub(super) fn heard(&self, from: IpAddr) -> Option<Micros> {
        let heard = self.routers.heard(self.index, self.key.family as u8)?;
        (heard.from == from).then_some(heard.at / 1000)
    }

    /// Time since the packet path saw an advert, in microseconds. `None`: it never saw one.
    pub(super) fn silence(&self) -> Option<Micros> {
        let heard = self.read()?.heard;
        (heard != 0).then(|| nanoseconds().saturating_sub(heard) / 1000)
    }

    fn read(&self) -> Option<VirtualRouter> {
        self.routers.read(self.index)
    }
}
