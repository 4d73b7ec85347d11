//! The maps of virtual routers: leases, the last advert heard, and the virtual addresses.

use std::{collections::BTreeSet, io, net::IpAddr, sync::atomic::Ordering, time::Duration};

use lb_common::{
    VirtualRouter,
    family::address,
    maps,
    router::{RouterAddress, RouterKey, mac, place},
};
use nix::time::{ClockId, clock_gettime};

use super::{Access, DataplaneError, Pins, SharedArray, table::Table, tables};

/// Positions of the 64-bit words of an entry that the controller writes.
const RENEWED: usize = 0;
const UNTIL: usize = 1;
const PATIENCE: usize = 2;
const RELAY_UNTIL: usize = 8;
const OWN_MAC: usize = 9;
const VERSION: usize = 10;

/// The kernel's monotonic clock in nanoseconds. Leases are measured by it.
///
/// # Errors
///
/// When the clock cannot be read.
pub fn lease_clock() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// An advert of another balancer that the packet path saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When it arrived, by [`lease_clock`].
    pub at: u64,
    /// The sender.
    pub from: IpAddr,
    /// The sender's priority.
    pub priority: u8,
}

/// What the packet path must know of a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Whether its addresses accept only packets of services.
    pub refuses: bool,
    /// The link-layer address of its interface.
    pub own_mac: [u8; 6],
    /// The VRRP version of adverts that it accepts.
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

    /// All virtual routers in the maps, with their indexes.
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

    /// All virtual addresses in the maps, with their [`place`]s.
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

    /// All virtual addresses on an interface.
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

    /// Registers a virtual router with its addresses. Returns its index, and the addresses that it
    /// had before. The state of a router that is already registered is kept.
    ///
    /// # Errors
    ///
    /// When the map is full or cannot be written.
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
                let free = free
                    .ok_or_else(|| DataplaneError::map(maps::ROUTER_IDS.name, "the map of virtual routers is full"))?;
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

    /// Removes a virtual router and its addresses: the kernel answers for the addresses as without
    /// a balancer.
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

    /// Renews the lease of a virtual router for `length` from `now` on. `patience` is how long
    /// adverts of others may stay unanswered.
    pub fn renew(&self, index: u32, now: u64, length: Duration, patience: Duration) {
        let Some(words) = self.entries.words(index) else { return };
        words[PATIENCE].store(patience.as_nanos() as u64, Ordering::SeqCst);
        words[RENEWED].store(now, Ordering::SeqCst);
        words[UNTIL].store(now + length.as_nanos() as u64, Ordering::SeqCst);
    }

    /// Ends the lease of a virtual router.
    pub fn end_lease(&self, index: u32) {
        if let Some(words) = self.entries.words(index) {
            words[UNTIL].store(0, Ordering::SeqCst);
        }
    }

    /// Relays segments of unknown connections to the former master for `length`; `None`: ends that.
    pub fn relay(&self, index: u32, now: u64, length: Option<Duration>) {
        if let Some(words) = self.entries.words(index) {
            let until = length.map_or(0, |length| now + length.as_nanos() as u64);
            words[RELAY_UNTIL].store(until, Ordering::SeqCst);
        }
    }

    /// The entry of a virtual router.
    pub fn read(&self, index: u32) -> Option<VirtualRouter> {
        self.entries.read(index)
    }

    /// The last advert of another balancer.
    pub fn heard(&self, index: u32, family: u8) -> Option<Heard> {
        let entry = self.read(index).filter(|entry| entry.heard != 0)?;
        Some(Heard {
            at: entry.heard,
            from: address::from_words(family, entry.heard_from)?,
            priority: entry.heard_priority as u8,
        })
    }
}
