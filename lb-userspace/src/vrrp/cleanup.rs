//! Removes what a dead controller left: addresses and devices of virtual routers that are not
//! configured any longer.

use std::{collections::BTreeSet, net::IpAddr};

use lb_common::router::RouterKey;
use rtnetlink::Handle;

use super::{VrrpError, addresses, router_mac::RouterMac};
use crate::dataplane::{Access, Pins, Routers};
use lb_core::{config::Vrrp, vrrp::instance::OWNER};

/// The virtual routers that stay, each with the name of its interface.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Family (4 or 6) and number of each virtual router.
    routers: BTreeSet<(String, u8, u8)>,
    /// Their addresses.
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

/// Removes addresses and devices of all virtual routers that are not wanted. Returns a sentence for
/// each failure.
pub(super) async fn remove_unwanted(handle: &Handle, routers: &Routers, wanted: &Wanted) -> Vec<String> {
    let known = match routers.known() {
        Ok(known) => known,
        Err(error) => return vec![format!("leftover virtual routers cannot be read: {error}")],
    };
    let mut failures = Vec::new();
    for (key, index) in known {
        let name = match addresses::name(handle, key.interface).await {
            Ok(Some(name)) => name,
            Ok(None) => {
                // Its interface does not exist any longer, and neither do the addresses.
                failures.extend(forget(routers, &key));
                continue;
            }
            Err(error) => {
                failures.push(format!("interface {} cannot be read: {error}", key.interface));
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
                failures.push(format!("leftover virtual routers cannot be read: {error}"));
                continue;
            }
        };
        if let Err(error) = addresses::clear(handle, key.interface, &stray).await {
            failures.push(format!("leftover addresses could not be removed from {name}: {error}"));
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
    Some(format!(
        "the entry of a former virtual router could not be removed: {error}"
    ))
}

/// Removes all addresses and devices of virtual routers, except addresses that the balancer owns.
/// No controller runs. Returns a sentence for each failure.
///
/// # Errors
///
/// When netlink cannot be used.
pub fn remove_all(pins: &Pins, configs: &[Vrrp]) -> Result<Vec<String>, VrrpError> {
    let Ok(routers) = Routers::open(pins, Access::Write) else {
        // No maps are pinned, or maps of another layout.
        return Ok(Vec::new());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let own: Wanted = configs.iter().filter(|config| config.priority == OWNER).collect();
        Ok(remove_unwanted(&handle, &routers, &own).await)
    })
}
