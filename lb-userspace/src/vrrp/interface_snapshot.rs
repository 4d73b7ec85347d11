//! What interfaces there are and which addresses they have, as one look at the kernel saw it: all virtual routers go by the
//! same one, since a look takes longer the more of them there are.

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

/// How often it is looked without cause.
const LOOK: Duration = Duration::from_secs(1);
/// How long changes are gathered at least.
const REST: Duration = Duration::from_millis(5);
/// When it is looked again after a look that failed.
const AGAIN: Duration = Duration::from_millis(20);
/// So many times as long as the last look took they are gathered: whoever has thousands of addresses does not look all the time.
const REST_PER_LOOK: u32 = 4;

/// What one look saw.
#[derive(Clone, Debug, Default)]
pub(super) struct InterfaceSnapshot {
    /// When it began: what was changed later is not in it.
    pub(super) at: Micros,
    interfaces: BTreeMap<String, Interface>,
    addresses: BTreeMap<u32, Addresses>,
}

#[derive(Clone, Debug)]
struct Interface {
    link: Link,
    /// Whether somebody put it up, whatever it is connected to.
    is_up: bool,
}

#[derive(Clone, Debug, Default)]
struct Addresses {
    /// As the kernel lists them: the first one is what it sends from.
    all: Vec<IpAddr>,
    nets: BTreeSet<IpNet>,
}

impl InterfaceSnapshot {
    /// The interface with that name.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        Some(&self.interfaces.get(name)?.link)
    }

    /// Whether the interface with that name is put up; `None`: there is none.
    pub(super) fn is_up(&self, name: &str) -> Option<bool> {
        Some(self.interfaces.get(name)?.is_up)
    }

    /// An address of the interface with that index, with each length that its network has there.
    pub(super) fn nets(&self, index: u32, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let (least, most) = (IpNet::new(address, 0), IpNet::from(address));
        let all = self.addresses.get(&index).zip(least.ok());
        let same = all.map(|(all, least)| all.nets.range(least..=most).copied());
        same.into_iter().flatten()
    }

    /// The addresses of the interface with that index, as the kernel lists them.
    pub(super) fn addresses(&self, index: u32) -> &[IpAddr] {
        self.addresses.get(&index).map_or(&[], |all| &all.all)
    }

    /// Whether some interface has that address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.values().any(|of_one| of_one.all.contains(&address))
    }

    async fn look(handle: &Handle) -> io::Result<Self> {
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

/// Looks whenever something may have changed, until nobody wants to know any more. Nothing is known at first.
pub(super) async fn follow(seen: watch::Sender<Option<Arc<InterfaceSnapshot>>>, handle: Handle) {
    let mut changes = LinkChanges::new(LOOK);
    while !seen.is_closed() {
        let begun = Instant::now();
        let Ok(ground) = InterfaceSnapshot::look(&handle).await else {
            // It is interrupted by changes, such as those of virtual routers here.
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        seen.send_replace(Some(Arc::new(ground)));
        tokio::time::sleep(REST.max(begun.elapsed() * REST_PER_LOOK)).await;
        changes.next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_with_each_length_of_its_network() {
        let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect::<BTreeSet<IpNet>>();
        let there = nets(&["192.0.2.9/24", "192.0.2.10/24", "192.0.2.10/32", "2001:db8::1/64"]);
        let ground = InterfaceSnapshot {
            addresses: [(
                2,
                Addresses {
                    nets: there,
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
            let found: BTreeSet<_> = ground.nets(index, address.parse().unwrap()).collect();
            assert_eq!(found, nets(then), "{index} {address}");
        }
    }
}
