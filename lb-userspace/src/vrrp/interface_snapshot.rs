//! Snapshots of all interfaces and their addresses. All virtual routers share one, because a
//! snapshot takes longer the more addresses exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::Handle;
use tokio::sync::watch;

use super::{
    addresses::{self, Link},
    lease,
};
use crate::network::link_changes::LinkChanges;
use lb_core::vrrp::instance::Micros;

/// Time between two snapshots if nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// The least time after a snapshot in which changes are collected.
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// Time from a failed snapshot to the next one.
const RETRY: Duration = Duration::from_millis(20);
/// The pause after a snapshot, in durations of that snapshot. With thousands of addresses,
/// snapshots take a fifth of the time.
const PAUSE_FACTOR: u32 = 4;

/// All interfaces and addresses at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct InterfaceSnapshot {
    /// When the snapshot began. It does not contain later changes.
    pub(super) at: Micros,
    interfaces: BTreeMap<String, Interface>,
    addresses: BTreeMap<u32, Addresses>,
}

#[derive(Clone, Debug)]
struct Interface {
    link: Link,
    /// Whether it is set up. It may still have no carrier.
    is_up: bool,
}

#[derive(Clone, Debug, Default)]
struct Addresses {
    /// In the order of the kernel. The first one is the default source.
    all: Vec<IpAddr>,
    nets: BTreeSet<IpNet>,
}

impl InterfaceSnapshot {
    /// The interface with that name.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        Some(&self.interfaces.get(name)?.link)
    }

    /// Whether the interface with that name is set up. `None`: it does not exist.
    pub(super) fn is_up(&self, name: &str) -> Option<bool> {
        Some(self.interfaces.get(name)?.is_up)
    }

    /// An address of the interface with that index, with each prefix length that it has there.
    pub(super) fn nets(&self, index: u32, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let (least, most) = (IpNet::new(address, 0), IpNet::from(address));
        let all = self.addresses.get(&index).zip(least.ok());
        let same = all.map(|(all, least)| all.nets.range(least..=most).copied());
        same.into_iter().flatten()
    }

    /// The addresses of the interface with that index, in the order of the kernel.
    pub(super) fn addresses(&self, index: u32) -> &[IpAddr] {
        self.addresses.get(&index).map_or(&[], |all| &all.all)
    }

    /// Whether an interface has that address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.values().any(|of_one| of_one.all.contains(&address))
    }

    async fn take(handle: &Handle) -> io::Result<Self> {
        let at = lease::now();
        let mut found = Self { at, ..Self::default() };
        let failed = |error: rtnetlink::Error| io::Error::other(error.to_string());
        let mut links = handle.link().get().execute();
        while let Some(message) = links.try_next().await.map_err(failed)? {
            let name = message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            if let (Some(name), Some(link)) = (name, addresses::as_link(&message)) {
                let is_up = message.header.flags.contains(LinkFlags::Up);
                found.interfaces.insert(name, Interface { link, is_up });
            }
        }
        let mut all = handle.address().get().execute();
        while let Some(message) = all.try_next().await.map_err(failed)? {
            let Some(address) = addresses::address(&message) else {
                continue;
            };
            let of_interface = found.addresses.entry(message.header.index).or_default();
            of_interface.all.push(address);
            of_interface
                .nets
                .extend(IpNet::new(address, message.header.prefix_len).ok());
        }
        Ok(found)
    }
}

/// Takes a snapshot after each change, until all receivers are dropped.
pub(super) async fn follow(snapshots: watch::Sender<Option<Arc<InterfaceSnapshot>>>, handle: Handle) {
    let mut changes = LinkChanges::new(INTERVAL);
    while !snapshots.is_closed() {
        let begun = Instant::now();
        let Ok(snapshot) = InterfaceSnapshot::take(&handle).await else {
            // Changes interrupt it, such as those of virtual routers of this balancer.
            tokio::time::sleep(RETRY).await;
            continue;
        };
        snapshots.send_replace(Some(Arc::new(snapshot)));
        tokio::time::sleep(MIN_PAUSE.max(begun.elapsed() * PAUSE_FACTOR)).await;
        changes.next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_with_each_of_its_prefix_lengths() {
        let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect::<BTreeSet<IpNet>>();
        let present = nets(&["192.0.2.9/24", "192.0.2.10/24", "192.0.2.10/32", "2001:db8::1/64"]);
        let snapshot = InterfaceSnapshot {
            addresses: [(
                2,
                Addresses {
                    nets: present,
                    ..Addresses::default()
                },
            )]
            .into(),
            ..InterfaceSnapshot::default()
        };
        for (index, address, then) in [
            (2, "192.0.2.10", &["192.0.2.10/24", "192.0.2.10/32"][..]),
            (2, "2001:db8::1", &["2001:db8::1/64"]),
            (2, "192.0.2.11", &[]),
            (3, "192.0.2.10", &[]),
        ] {
            let found: BTreeSet<_> = snapshot.nets(index, address.parse().unwrap()).collect();
            assert_eq!(found, nets(then), "{index} {address}");
        }
    }
}
