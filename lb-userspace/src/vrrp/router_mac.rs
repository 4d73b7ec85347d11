//! The macvlan device with the virtual router's MAC address (`router_mac = true`).
//!
//! RFC 9568, section 7.3: "The virtual router MAC address associated with a virtual router". The
//! device has the virtual addresses. It is up only on the master, so that a backup's card does not
//! accept frames for the master.

use std::{fs, io, path::PathBuf};

use futures_util::TryStreamExt;
use lb_common::router::mac;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode};
use nix::libc;
use rtnetlink::{Handle, LinkMacVlan, LinkUnspec};

use super::addresses::Link;

/// Value of `addr_gen_mode` that creates no link-local address.
const NO_ADDRESSES: &str = "1";

/// Identifies the device of a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouterMac {
    /// Index of the interface below.
    pub(super) interface: u32,
    /// 4 or 6.
    pub(super) family: u8,
    /// Number of the virtual router.
    pub(super) router: u8,
}

impl RouterMac {
    /// Name of the device, such as `vr4-2-51`. It fits into 15 characters if the index has at most
    /// seven digits.
    pub(super) fn name(self) -> String {
        format!("vr{}-{}-{}", self.family, self.interface, self.router)
    }

    /// The MAC address.
    pub(super) const fn mac(self) -> [u8; 6] {
        mac::of(self.family, self.router)
    }

    /// Creates the device, or uses the one that a former controller left. Keeps the interface below
    /// from replying to ARP for its addresses. Returns its index.
    pub(super) async fn make(self, handle: &Handle, below: &Link, below_name: &str) -> io::Result<u32> {
        let found = match self.find(handle).await? {
            Some(message) if self.is_it(&message) => Some(message),
            Some(message) if is_macvlan(&message) => {
                remove(handle, message.header.index).await?;
                None
            }
            Some(_) => {
                return Err(io::Error::other(format!(
                    "interface {} exists and is not a macvlan device",
                    self.name()
                )));
            }
            None => None,
        };
        let index = match found {
            Some(message) => message.header.index,
            None => {
                // In private mode the device would keep adverts of another master, and the
                // interface would not see them.
                let device = LinkMacVlan::new(&self.name(), below.index, MacVlanMode::Bridge)
                    .address(self.mac().to_vec())
                    .down()
                    .build();
                failed(handle.link().add(device).execute().await)?;
                let made = self.find(handle).await?;
                made.ok_or_else(|| io::Error::other("the device was removed as soon as it was created"))?
                    .header
                    .index
            }
        };
        self.set_up(below_name)?;
        Ok(index)
    }

    /// Removes the device, if it exists.
    pub(super) async fn remove(self, handle: &Handle) -> io::Result<()> {
        match self.find(handle).await? {
            Some(message) if self.is_it(&message) => remove(handle, message.header.index).await,
            _ => Ok(()),
        }
    }

    async fn find(self, handle: &Handle) -> io::Result<Option<LinkMessage>> {
        match handle.link().get().match_name(self.name()).execute().try_next().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
            found => failed(found),
        }
    }

    fn is_it(self, message: &LinkMessage) -> bool {
        let has = |wanted: &LinkAttribute| message.attributes.contains(wanted);
        is_macvlan(message)
            && has(&LinkAttribute::Link(self.interface))
            && has(&LinkAttribute::Address(self.mac().to_vec()))
    }

    /// Sets the sysctls so that device and interface reply only for their own addresses.
    fn set_up(self, below: &str) -> io::Result<()> {
        let device = self.name();
        // Also for IPv6: by default the kernel replies to ARP on any interface for the addresses of
        // all interfaces.
        set("ipv4", &device, "arp_ignore", "1")?;
        if self.family == 6 {
            set("ipv6", &device, "addr_gen_mode", NO_ADDRESSES)?;
            return set("ipv6", &device, "accept_ra", "0");
        }
        // A kernel without IPv6 has no such file.
        let _ = set("ipv6", &device, "disable_ipv6", "1");
        // Packets of clients arrive here and replies leave below, so reverse path filtering must be
        // loose.
        set("ipv4", &device, "rp_filter", "2")?;
        at_least("ipv4", below, "arp_ignore", 1)?;
        at_least("ipv4", below, "arp_announce", 2)
    }
}

/// Sets the device up or down.
pub(super) async fn set_up(handle: &Handle, index: u32, is_up: bool) -> io::Result<()> {
    let message = LinkUnspec::new_with_index(index);
    let message = if is_up { message.up() } else { message.down() };
    failed(handle.link().set(message.build()).execute().await)
}

async fn remove(handle: &Handle, index: u32) -> io::Result<()> {
    failed(handle.link().del(index).execute().await)
}

fn is_macvlan(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::MacVlan)))
    })
}

fn at_least(family: &str, interface: &str, key: &str, least: u32) -> io::Result<()> {
    let path = path(family, interface, key);
    let now = fs::read_to_string(&path).map_err(|error| of_file(&path, &error))?;
    if now.trim().parse::<u32>().is_ok_and(|now| now >= least) {
        return Ok(());
    }
    set(family, interface, key, &least.to_string())
}

fn set(family: &str, interface: &str, key: &str, value: &str) -> io::Result<()> {
    let path = path(family, interface, key);
    fs::write(&path, value).map_err(|error| of_file(&path, &error))
}

fn path(family: &str, interface: &str, key: &str) -> PathBuf {
    ["/proc/sys/net", family, "conf", interface, key].iter().collect()
}

fn of_file(path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

fn failed<T>(response: Result<T, rtnetlink::Error>) -> io::Result<T> {
    response.map_err(|error| match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io(),
        other => io::Error::other(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_into_the_limit() {
        let of = |interface, family, router| RouterMac {
            interface,
            family,
            router,
        };
        assert_eq!(of(2, 4, 51).name(), "vr4-2-51");
        // IFNAMSIZ is 16, with the zero at the end.
        assert!(of(9_999_999, 6, 255).name().len() <= 15);
        assert_ne!(of(2, 4, 51).mac(), of(2, 6, 51).mac());
    }
}
