//! Takes away what a controller left when it died: addresses and devices of virtual routers that nobody wants any more.

use std::{collections::BTreeSet, net::IpAddr};

use lb_common::router::{RouterKey, place};
use rtnetlink::Handle;

use super::{VrrpError, addresses, router_mac::RouterMac};
use crate::{
    config::Vrrp,
    dataplane::{Access, Pins, Routers},
};

/// The priority of the balancer whose own the addresses are: RFC 9568, section 5.2.4.
const OWNER: u8 = 255;

/// Addresses, each with the name of its interface, that virtual routers are about.
pub(super) fn wanted<'a>(configs: impl Iterator<Item = &'a Vrrp>) -> BTreeSet<(String, IpAddr)> {
    configs
        .flat_map(|config| config.hosts().map(|address| (config.interface.clone(), address)))
        .collect()
}

/// Takes off what is left of all others. Returns what could not be done, and why.
pub(super) async fn reap(handle: &Handle, routers: &Routers, wanted: &BTreeSet<(String, IpAddr)>) -> Vec<String> {
    let (known, left) = match (routers.known(), routers.addresses()) {
        (Ok(known), Ok(left)) => (known, left),
        (Err(error), _) | (_, Err(error)) => return vec![format!("what virtual routers left cannot be read: {error}")],
    };
    let mut failures = Vec::new();
    for (key, index) in known {
        let Some(name) = addresses::name(handle, key.interface).await else {
            // Its interface went, and so did the addresses.
            failures.extend(forget(routers, &key));
            continue;
        };
        let of_it = left.iter().filter(|(_, other)| place::index(*other) == index);
        let of_it: BTreeSet<_> = of_it
            .filter_map(|(address, _)| lb_common::family::address::from_words(address.family as u8, address.address))
            .collect();
        let (kept, stray): (BTreeSet<_>, BTreeSet<_>) = of_it
            .into_iter()
            .partition(|address| wanted.contains(&(name.clone(), *address)));
        if let Err(error) = addresses::remove(handle, key.interface, &stray).await {
            failures.push(format!(
                "addresses of a former virtual router could not be taken off {name}: {error}"
            ));
        }
        if kept.is_empty() {
            let device = RouterMac {
                interface: key.interface,
                family: key.family as u8,
                router: key.router as u8,
            };
            if let Err(error) = device.remove(handle).await {
                failures.push(format!("{} could not be removed: {error}", device.name()));
            }
            failures.extend(forget(routers, &key));
        }
    }
    failures
}

fn forget(routers: &Routers, key: &RouterKey) -> Option<String> {
    let error = routers.forget(key).err()?;
    Some(format!("a former virtual router cannot be forgotten: {error}"))
}

/// Takes off all that virtual routers of a node left, but for addresses that are the balancer's own. Nothing runs. Returns
/// what could not be done, and why.
///
/// # Errors
///
/// When the kernel cannot be asked.
pub fn clear(pins: &Pins, configs: &[Vrrp]) -> Result<Vec<String>, VrrpError> {
    let Ok(routers) = Routers::open(pins, Access::Write) else {
        // Nothing is pinned, or nothing that this program knows.
        return Ok(Vec::new());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let own = wanted(configs.iter().filter(|config| config.priority == OWNER));
        Ok(reap(&handle, &routers, &own).await)
    })
}
