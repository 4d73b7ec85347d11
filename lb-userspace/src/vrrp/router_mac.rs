//! The device that has a virtual router's addresses where these are at a link-layer address of their own.
//!
//! RFC 9568, section 7.3: "The virtual router MAC address associated with a virtual router". A macvlan device on the
//! interface has it. It is up while this balancer is master, so that a backup's card takes no frames that are for the
//! master.

use std::{fs, io, path::PathBuf};

use futures_util::TryStreamExt;
use lb_common::router::mac;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode};
use nix::libc;
use rtnetlink::{Handle, LinkMacVlan, LinkUnspec};

use super::addresses::Link;

/// Creates no link-local address.
const NO_ADDRESSES: &str = "1";

/// Who has which virtual router.
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
    /// The device's name. It says whose it is, and fits wherever interfaces' names do as long as the interface's index has
    /// at most seven digits.
    pub(super) fn name(self) -> String {
        format!("vr{}-{}-{}", self.family, self.interface, self.router)
    }

    /// The link-layer address.
    pub(super) const fn mac(self) -> [u8; 6] {
        mac::of(self.family, self.router)
    }

    /// Makes the device, or takes over what a former controller left, and keeps the interface below from answering for its
    /// addresses. Returns its index.
    pub(super) async fn make(self, handle: &Handle, below: &Link, below_name: &str) -> io::Result<u32> {
        let found = match self.find(handle).await? {
            Some(message) if self.is_it(&message) => Some(message),
            Some(message) if is_macvlan(&message) => {
                remove(handle, message.header.index).await?;
                None
            }
            Some(_) => {
                return Err(io::Error::other(format!(
                    "there is an interface {} that is no macvlan device",
                    self.name()
                )));
            }
            None => None,
        };
        let index = match found {
            Some(message) => message.header.index,
            None => {
                // Private devices would take adverts of another master for their own, and the interface never saw them.
                let device = LinkMacVlan::new(&self.name(), below.index, MacVlanMode::Bridge)
                    .address(self.mac().to_vec())
                    .down()
                    .build();
                failed(handle.link().add(device).execute().await)?;
                let made = self.find(handle).await?;
                made.ok_or_else(|| io::Error::other("the device went as it came"))?
                    .header
                    .index
            }
        };
        self.set_up(below_name)?;
        Ok(index)
    }

    /// Removes the device, where there is one.
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

    /// How kernel and device answer: neither for the other's addresses.
    fn set_up(self, below: &str) -> io::Result<()> {
        let device = self.name();
        // Also where it has no such addresses: the kernel would answer on any interface for what any other one has.
        set("ipv4", &device, "arp_ignore", "1")?;
        if self.family == 6 {
            set("ipv6", &device, "addr_gen_mode", NO_ADDRESSES)?;
            return set("ipv6", &device, "accept_ra", "0");
        }
        // Without IPv6 there is nothing to switch off.
        let _ = set("ipv6", &device, "disable_ipv6", "1");
        // Clients' packets come in here and answers leave below: loose, whatever all interfaces have.
        set("ipv4", &device, "rp_filter", "2")?;
        at_least("ipv4", below, "arp_ignore", 1)?;
        at_least("ipv4", below, "arp_announce", 2)
    }
}

/// Lets the device take frames, or not.
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

fn failed<T>(answer: Result<T, rtnetlink::Error>) -> io::Result<T> {
    answer.map_err(|error| match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io(),
        other => io::Error::other(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_tell_devices_apart() {
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
