//! Takes away what a controller left when it died: addresses and devices of virtual routers that nobody wants any more.

use std::{collections::BTreeSet, net::IpAddr};

use lb_common::router::RouterKey;
use rtnetlink::Handle;

use super::{VrrpError, addresses, router_mac::RouterMac};
use crate::dataplane::{Access, Pins, Routers};
use lb_core::config::Vrrp;
use lb_core::vrrp::instance::OWNER;

/// What virtual routers are there to stay, each with the name of its interface.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Family (4 or 6) and number of each.
    routers: BTreeSet<(String, u8, u8)>,
    /// What they are about.
    addresses: BTreeSet<(String, IpAddr)>,
}

impl<'a> FromIterator<&'a Vrrp> for Wanted {
    fn from_iter<T: IntoIterator<Item = &'a Vrrp>>(configs: T) -> Self {
        let mut wanted = Self::default();
        for config in configs {
            let family = if config.hosts().all(|address| address.is_ipv4()) {
                4
            } else {
                6
            };
            wanted.routers.insert((config.interface.clone(), family, config.router));
            let addresses = config.hosts().map(|address| (config.interface.clone(), address));
            wanted.addresses.extend(addresses);
        }
        wanted
    }
}

/// Takes off what is left of all others; those that are wanted look after themselves. Returns what could not be done, and
/// why.
pub(super) async fn reap(handle: &Handle, routers: &Routers, wanted: &Wanted) -> Vec<String> {
    let known = match routers.known() {
        Ok(known) => known,
        Err(error) => return vec![format!("what virtual routers left cannot be read: {error}")],
    };
    let mut failures = Vec::new();
    for (key, index) in known {
        let name = match addresses::name(handle, key.interface).await {
            Ok(Some(name)) => name,
            Ok(None) => {
                // Its interface went, and so did the addresses.
                failures.extend(forget(routers, &key));
                continue;
            }
            Err(error) => {
                failures.push(format!("interface {} cannot be asked for: {error}", key.interface));
                continue;
            }
        };
        let device = RouterMac {
            interface: key.interface,
            family: key.family as u8,
            router: key.router as u8,
        };
        if wanted.routers.contains(&(name.clone(), device.family, device.router)) {
            continue;
        }
        let stray = match routers.addresses_of(index) {
            Ok(addresses) => addresses
                .into_iter()
                .filter(|address| !wanted.addresses.contains(&(name.clone(), *address)))
                .collect(),
            Err(error) => {
                failures.push(format!("what virtual routers left cannot be read: {error}"));
                continue;
            }
        };
        if let Err(error) = addresses::clear(handle, key.interface, &stray).await {
            failures.push(format!(
                "addresses of a former virtual router could not be taken off {name}: {error}"
            ));
        }
        if let Err(error) = device.remove(handle).await {
            failures.push(format!("{} could not be removed: {error}", device.name()));
        }
        failures.extend(forget(routers, &key));
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
        let own: Wanted = configs.iter().filter(|config| config.priority == OWNER).collect();
        Ok(reap(&handle, &routers, &own).await)
    })
}
