//! All pinned maps of a node, opened and typed.

use std::net::IpAddr;

use aya::maps::{HashMap, IterableMap, Map, MapData, MapError, PerCpuArray};
use lb_common::{
    Backend, BackendCounters, BackendLoad, Be16, Family, NextHop, Outcome, RingSlot, Service, ServiceKey, ServiceState,
    V4, V6, family::address, maps,
};

use super::{DataplaneError, Pins, SharedArray, flows::Flows, raw::Raw, shared::Record};

/// Whether maps are opened to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only to be read.
    Read,
    /// To be changed.
    Write,
}

/// Address, port and protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualAddress {
    /// Virtual address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// All pinned maps of a node.
pub struct Tables {
    /// Services by index.
    pub services: SharedArray<Service>,
    /// What the packet path changes of a service.
    pub service_states: SharedArray<ServiceState>,
    /// Rings of all services.
    pub rings: SharedArray<RingSlot>,
    /// Backends by index.
    pub backends: SharedArray<Backend>,
    /// Flows of each backend now.
    pub loads: SharedArray<BackendLoad>,
    /// Next hops by index.
    pub next_hops: SharedArray<NextHop>,
    /// The flow table.
    pub flows: Flows,
    index_v4: HashMap<MapData, Raw<ServiceKey<V4>>, u32>,
    index_v6: HashMap<MapData, Raw<ServiceKey<V6>>, u32>,
    counters: PerCpuArray<MapData, Raw<BackendCounters>>,
    outcomes: PerCpuArray<MapData, u64>,
}

impl Tables {
    /// Opens the maps that are pinned for a node.
    ///
    /// # Errors
    ///
    /// When a map is not pinned, or has another layout than this program's.
    pub fn open(pins: &Pins, access: Access) -> Result<Self, DataplaneError> {
        Ok(Self {
            services: shared(pins, maps::SERVICES, access)?,
            service_states: shared(pins, maps::SERVICE_STATES, access)?,
            rings: shared(pins, maps::RINGS, access)?,
            backends: shared(pins, maps::BACKENDS, access)?,
            loads: shared(pins, maps::BACKEND_LOADS, access)?,
            next_hops: shared(pins, maps::NEXT_HOPS, access)?,
            flows: Flows::new(open(pins, maps::FLOWS_V4)?, open(pins, maps::FLOWS_V6)?)?,
            index_v4: typed(pins, maps::SERVICES_V4, Map::HashMap)?,
            index_v6: typed(pins, maps::SERVICES_V6, Map::HashMap)?,
            counters: typed(pins, maps::BACKEND_COUNTERS, Map::PerCpuArray)?,
            outcomes: typed(pins, maps::OUTCOMES, Map::PerCpuArray)?,
        })
    }

    /// The services that packets can find, with their indexes.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn service_index(&self) -> Result<Vec<(VirtualAddress, u32)>, DataplaneError> {
        let mut found = Vec::new();
        collect(&self.index_v4, maps::SERVICES_V4, &mut found)?;
        collect(&self.index_v6, maps::SERVICES_V6, &mut found)?;
        Ok(found)
    }

    /// Lets packets find the service at `index`.
    ///
    /// # Errors
    ///
    /// When the map is full or cannot be written.
    pub fn add_service(&mut self, at: VirtualAddress, index: u32) -> Result<(), DataplaneError> {
        match at.address {
            IpAddr::V4(_) => self.index_v4.insert(Raw(key::<V4>(at)), index, 0),
            IpAddr::V6(_) => self.index_v6.insert(Raw(key::<V6>(at)), index, 0),
        }
        .map_err(|cause| DataplaneError::map(maps::SERVICES_V4.name, cause))
    }

    /// Lets packets find the service no more. It is no error when they did not.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn remove_service(&mut self, at: VirtualAddress) -> Result<(), DataplaneError> {
        let result = match at.address {
            IpAddr::V4(_) => self.index_v4.remove(&Raw(key::<V4>(at))),
            IpAddr::V6(_) => self.index_v6.remove(&Raw(key::<V6>(at))),
        };
        match result {
            Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
            Err(cause) => Err(DataplaneError::map(maps::SERVICES_V4.name, cause)),
        }
    }

    /// The packets of a backend, over all CPUs.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn backend_counters(&self, index: u32) -> Result<BackendCounters, DataplaneError> {
        let values = self
            .counters
            .get(&index, 0)
            .map_err(|cause| DataplaneError::map(maps::BACKEND_COUNTERS.name, cause))?;
        Ok(values
            .iter()
            .fold(BackendCounters::ZERO, |sum, Raw(one)| BackendCounters {
                to_worker_packets: sum.to_worker_packets + one.to_worker_packets,
                to_worker_bytes: sum.to_worker_bytes + one.to_worker_bytes,
                to_client_packets: sum.to_client_packets + one.to_client_packets,
                to_client_bytes: sum.to_client_bytes + one.to_client_bytes,
            }))
    }

    /// Sets the packets of a backend to zero, for an entry that another backend takes.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn clear_backend_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| DataplaneError::Map {
            name: maps::BACKEND_COUNTERS.name.to_owned(),
            cause,
        };
        let cpus = aya::util::nr_cpus().map_err(|(_, cause)| failed(cause.into()))?;
        let zeros = vec![Raw(BackendCounters::ZERO); cpus]
            .try_into()
            .map_err(|cause: std::io::Error| failed(cause.into()))?;
        self.counters.set(index, zeros, 0).map_err(|cause| failed(cause.into()))
    }

    /// How often each outcome came, over all CPUs.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn outcomes(&self) -> Result<Vec<(Outcome, u64)>, DataplaneError> {
        Outcome::ALL
            .iter()
            .map(|outcome| {
                let values = self
                    .outcomes
                    .get(&(*outcome as u32), 0)
                    .map_err(|cause| DataplaneError::map(maps::OUTCOMES.name, cause))?;
                Ok((*outcome, values.iter().sum()))
            })
            .collect()
    }
}

fn key<F: Family>(at: VirtualAddress) -> ServiceKey<F> {
    ServiceKey {
        address: F::narrow(&address::to_words(at.address)),
        port: Be16::from_host(at.port),
        protocol: at.protocol,
        reserved: 0,
    }
}

fn collect<F: Family>(
    index: &HashMap<MapData, Raw<ServiceKey<F>>, u32>,
    map: maps::Map,
    found: &mut Vec<(VirtualAddress, u32)>,
) -> Result<(), DataplaneError> {
    super::syscall::for_each::<ServiceKey<F>, u32>(index.map().fd(), |key, index| {
        if let Some(address) = address::from_words(F::NUMBER, F::widen(&key.address)) {
            found.push((
                VirtualAddress {
                    address,
                    port: key.port.host(),
                    protocol: key.protocol,
                },
                *index,
            ));
        }
    })
    .map_err(|cause| DataplaneError::map(map.name, cause))
}

/// Opens the pin of a map.
pub(super) fn open(pins: &Pins, map: maps::Map) -> Result<MapData, DataplaneError> {
    let path = pins.map(map.name);
    if !path.exists() {
        return Err(DataplaneError::NotPinned {
            name: map.name.to_owned(),
            folder: pins.maps(),
        });
    }
    MapData::from_pin(path).map_err(|cause| DataplaneError::map(map.name, cause))
}

fn shared<T: Record>(pins: &Pins, map: maps::Map, access: Access) -> Result<SharedArray<T>, DataplaneError> {
    let data = open(pins, map)?;
    let info = data.info().map_err(|cause| DataplaneError::map(map.name, cause))?;
    if info.value_size() as usize != size_of::<T>() {
        return Err(DataplaneError::Layout {
            name: map.name.to_owned(),
            found: format!("values of {} bytes", info.value_size()),
            expected: format!("{} bytes", size_of::<T>()),
        });
    }
    SharedArray::map(data.fd(), info.max_entries(), access == Access::Write)
        .map_err(|cause| DataplaneError::map(map.name, cause))
}

fn typed<T>(pins: &Pins, map: maps::Map, kind: fn(MapData) -> Map) -> Result<T, DataplaneError>
where
    T: TryFrom<Map, Error = MapError>,
{
    T::try_from(kind(open(pins, map)?)).map_err(|cause| DataplaneError::map(map.name, cause))
}
