//! Maps with their own key types: hash maps and LPM maps.

use aya::maps::MapData;
use lb_common::{Family, V6, abi::Abi, maps::Map};

use super::{DataplaneError, Pins, syscall, tables};

/// A hash map or LPM map.
pub(super) struct Table {
    data: MapData,
    map: Map,
}

impl Table {
    /// Opens the pin of a map.
    pub(super) fn open(pins: &Pins, map: Map) -> Result<Self, DataplaneError> {
        let data = tables::open(pins, map)?;
        Ok(Self { data, map })
    }

    /// Calls `each` for all entries. Entries that are added or removed meanwhile may be missed.
    pub(super) fn for_each<K: Abi, V: Abi>(&self, each: impl FnMut(&K, &V)) -> Result<(), DataplaneError> {
        self.check::<K>();
        syscall::for_each(self.data.fd(), each).map_err(|cause| DataplaneError::map(self.map.name, cause))
    }

    /// Adds an entry, or replaces its value.
    pub(super) fn put<K: Abi, V: Abi>(&self, key: &K, value: &V) -> Result<(), DataplaneError> {
        self.check::<K>();
        assert_eq!(size_of::<V>(), self.map.value_size, "value of {}", self.map.name);
        syscall::put(self.data.fd(), key, value).map_err(|cause| DataplaneError::map(self.map.name, cause))
    }

    /// Removes an entry, if it exists.
    pub(super) fn remove<K: Abi>(&self, key: &K) -> Result<(), DataplaneError> {
        self.check::<K>();
        syscall::remove(self.data.fd(), key).map_err(|cause| DataplaneError::map(self.map.name, cause))
    }

    /// Panics if the key has another size than the map's keys: the kernel would read beyond it.
    fn check<K: Abi>(&self) {
        assert_eq!(size_of::<K>(), self.map.key_size, "key of {}", self.map.name);
    }
}

/// One table for each address family.
pub(super) struct FamilyTables {
    v4: Table,
    v6: Table,
}

impl FamilyTables {
    pub(super) fn open(pins: &Pins, v4: Map, v6: Map) -> Result<Self, DataplaneError> {
        Ok(Self {
            v4: Table::open(pins, v4)?,
            v6: Table::open(pins, v6)?,
        })
    }

    /// The table of a family.
    pub(super) fn of<F: Family>(&self) -> &Table {
        if F::NUMBER == V6::NUMBER { &self.v6 } else { &self.v4 }
    }
}
