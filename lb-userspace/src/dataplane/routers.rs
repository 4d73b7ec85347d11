//! What the packet path knows of virtual routers: leases, and which addresses they are about.

use std::{collections::BTreeSet, io, net::IpAddr, sync::atomic::Ordering, time::Duration};

use lb_common::{
    VirtualRouter,
    family::address,
    maps,
    router::{RouterAddress, RouterKey, mac, place},
};
use nix::time::{ClockId, clock_gettime};

use super::{Access, DataplaneError, Pins, SharedArray, table::Table, tables};

/// 64-bit words of an entry that the controller writes.
const RENEWED: usize = 0;
const UNTIL: usize = 1;
const PATIENCE: usize = 2;
const RELAY_UNTIL: usize = 8;
const OWN_MAC: usize = 9;
const VERSION: usize = 10;

/// The kernel's monotonic clock, by which leases end, in nanoseconds.
///
/// # Errors
///
/// When the kernel has no such clock.
pub fn lease_clock() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// An advert of another balancer that the packet path saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When, by [`lease_clock`].
    pub at: u64,
    /// Whom it came from.
    pub from: IpAddr,
    /// Its priority.
    pub priority: u8,
}

/// What the packet path has to know of a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Whether its addresses take nothing but packets of services.
    pub refuses: bool,
    /// Its interface's link-layer address.
    pub own_mac: [u8; 6],
    /// Version of the adverts that it heeds.
    pub version: u8,
}

/// The maps of virtual routers.
pub struct Routers {
    entries: SharedArray<VirtualRouter>,
    ids: Table,
    addresses: Table,
}

impl Routers {
    /// Opens the maps that are pinned for a node.
    ///
    /// # Errors
    ///
    /// When one is not pinned, or has another layout than this program's.
    pub fn open(pins: &Pins, access: Access) -> Result<Self, DataplaneError> {
        Ok(Self {
            entries: tables::shared(pins, maps::VIRTUAL_ROUTERS, access)?,
            ids: Table::open(pins, maps::ROUTER_IDS)?,
            addresses: Table::open(pins, maps::ROUTER_ADDRESSES)?,
        })
    }

    /// All virtual routers that are known, and their places.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn known(&self) -> Result<Vec<(RouterKey, u32)>, DataplaneError> {
        let mut found = Vec::new();
        self.ids
            .for_each(|key: &RouterKey, index: &u32| found.push((*key, *index)))?;
        found.sort_unstable_by_key(|(_, index)| *index);
        Ok(found)
    }

    /// All addresses that are known, and their [`place`]s.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn addresses(&self) -> Result<Vec<(RouterAddress, u32)>, DataplaneError> {
        let mut found = Vec::new();
        self.addresses
            .for_each(|key: &RouterAddress, place: &u32| found.push((*key, *place)))?;
        found.sort_unstable_by_key(|(key, place)| (place::index(*place), key.address));
        Ok(found)
    }

    /// All addresses that move on an interface.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn addresses_on(&self, interface: u32) -> Result<BTreeSet<IpAddr>, DataplaneError> {
        let on_it = self
            .addresses()?
            .into_iter()
            .filter(|(address, _)| address.interface == interface);
        Ok(on_it
            .filter_map(|(address, _)| address::from_words(address.family as u8, address.address))
            .collect())
    }

    /// The addresses of the virtual router at an index.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn addresses_of(&self, index: u32) -> Result<BTreeSet<IpAddr>, DataplaneError> {
        let of_it = self
            .addresses()?
            .into_iter()
            .filter(|(_, other)| place::index(*other) == index);
        Ok(of_it
            .filter_map(|(address, _)| address::from_words(address.family as u8, address.address))
            .collect())
    }

    /// The index of a virtual router, its addresses put right, and those that it had before. What is known of it stays.
    ///
    /// # Errors
    ///
    /// When there is no room, or a map cannot be written.
    pub fn register(
        &self,
        key: RouterKey,
        addresses: &BTreeSet<IpAddr>,
        entry: &Registered,
    ) -> Result<(u32, BTreeSet<IpAddr>), DataplaneError> {
        let known = self.known()?;
        let (index, former) = match known.iter().find(|(other, _)| *other == key) {
            Some((_, index)) => (*index, self.addresses_of(*index)?),
            None => {
                let free = (0..self.entries.len()).find(|index| known.iter().all(|(_, other)| other != index));
                let free =
                    free.ok_or_else(|| DataplaneError::map(maps::ROUTER_IDS.name, "more virtual routers than fit"))?;
                self.clear(free);
                self.ids.put(&key, &free)?;
                (free, BTreeSet::new())
            }
        };
        if let Some(words) = self.entries.words(index) {
            words[OWN_MAC].store(mac::word(entry.own_mac), Ordering::SeqCst);
            words[VERSION].store(entry.version.into(), Ordering::SeqCst);
        }
        let place_of = |address: &IpAddr| RouterAddress::new(key.interface, key.tags, *address);
        for address in addresses {
            let place = place::new(index, entry.refuses);
            self.addresses.put(&place_of(address), &place)?;
        }
        for address in former.difference(addresses) {
            self.addresses.remove(&place_of(address))?;
        }
        Ok((index, former))
    }

    /// Forgets a virtual router and its addresses: the kernel answers for them as it would anyway.
    ///
    /// # Errors
    ///
    /// When a map cannot be written.
    pub fn forget(&self, key: &RouterKey) -> Result<(), DataplaneError> {
        let Some((_, index)) = self.known()?.into_iter().find(|(other, _)| other == key) else {
            return Ok(());
        };
        for (address, other) in self.addresses()? {
            if place::index(other) == index {
                self.addresses.remove(&address)?;
            }
        }
        self.ids.remove(key)
    }

    fn clear(&self, index: u32) {
        for word in self.entries.words(index).into_iter().flatten() {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// Renews the lease of a virtual router, from `now` on for `length`. `patience` is for how long adverts of others may stay
    /// without an answer.
    pub fn renew(&self, index: u32, now: u64, length: Duration, patience: Duration) {
        let Some(words) = self.entries.words(index) else { return };
        words[PATIENCE].store(patience.as_nanos() as u64, Ordering::SeqCst);
        words[RENEWED].store(now, Ordering::SeqCst);
        words[UNTIL].store(now + length.as_nanos() as u64, Ordering::SeqCst);
    }

    /// Ends the lease of a virtual router.
    pub fn give_up(&self, index: u32) {
        if let Some(words) = self.entries.words(index) {
            words[UNTIL].store(0, Ordering::SeqCst);
        }
    }

    /// Lets segments of connections that are not known here go to the balancer that was master before, for so long; or not.
    pub fn relay(&self, index: u32, now: u64, length: Option<Duration>) {
        if let Some(words) = self.entries.words(index) {
            let until = length.map_or(0, |length| now + length.as_nanos() as u64);
            words[RELAY_UNTIL].store(until, Ordering::SeqCst);
        }
    }

    /// What is known of a virtual router.
    pub fn read(&self, index: u32) -> Option<VirtualRouter> {
        self.entries.read(index)
    }

    /// The advert of another balancer that came last.
    pub fn heard(&self, index: u32, family: u8) -> Option<Heard> {
        let entry = self.read(index).filter(|entry| entry.heard != 0)?;
        Some(Heard {
            at: entry.heard,
            from: address::from_words(family, entry.heard_from)?,
            priority: entry.heard_priority as u8,
        })
    }
}
