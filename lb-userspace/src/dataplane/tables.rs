//! All pinned maps of a node, opened with their types.

use std::net::IpAddr;

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use lb_common::{
    Backend, BackendCounters, BackendLoad, BackendSignals, Event, Family, NextHop, Outcome, RateKey, RingSlot, Service,
    ServiceState, Settings, V4, V6, family::address, flow_table::Spills, maps, next_hop::ClientHop,
};

use super::{
    DataplaneError, Pins, SharedArray, flows::Flows, raw::Raw, settings::Clock, shared::Record, table::FamilyTables,
};

/// Whether maps are opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// All pinned maps of a node.
pub struct Tables {
    /// Services by index.
    pub services: SharedArray<Service>,
    /// What the packet path changes of a service: cursor, number of flows.
    pub service_states: SharedArray<ServiceState>,
    /// Rings of all services.
    pub rings: SharedArray<RingSlot>,
    /// Backends by index.
    pub backends: SharedArray<Backend>,
    /// Number of flows of each backend.
    pub loads: SharedArray<BackendLoad>,
    /// How each backend responds to SYNs.
    pub signals: SharedArray<BackendSignals>,
    /// Next hops by index.
    pub next_hops: SharedArray<NextHop>,
    /// Where clients' packets come from and replies go.
    pub client_hops: SharedArray<ClientHop>,
    /// The clock of the flow table.
    pub clock: Clock,
    pub(super) hash_seed: u64,
    pub(super) settings: SharedArray<Settings>,
    /// Spill marks of the buckets for IPv4 and for IPv6.
    pub(super) spills: [SharedArray<Spills>; 2],
    pub(super) flows: Flows,
    /// What each address is: virtual, source, worker.
    pub address_classes: SharedArray<u64>,
    pub(super) services_by_port: FamilyTables,
    pub(super) services_by_block: FamilyTables,
    pub(super) guard_tables: FamilyTables,
    rates: FamilyTables,
    counters: PerCpuArray<MapData, Raw<BackendCounters>>,
    outcomes: PerCpuArray<MapData, u64>,
    events: PerCpuArray<MapData, u64>,
}

impl Tables {
    /// Opens the maps that are pinned for a node.
    ///
    /// # Errors
    ///
    /// When a map is not pinned, or has another layout than this program's.
    pub fn open(pins: &Pins, access: Access) -> Result<Self, DataplaneError> {
        let shared_settings: SharedArray<Settings> = shared(pins, maps::SETTINGS, access)?;
        let settings = shared_settings.read(0).unwrap_or(Settings::ZERO);
        Ok(Self {
            services: shared(pins, maps::SERVICES, access)?,
            service_states: shared(pins, maps::SERVICE_STATES, access)?,
            rings: shared(pins, maps::RINGS, access)?,
            backends: shared(pins, maps::BACKENDS, access)?,
            loads: shared(pins, maps::BACKEND_LOADS, access)?,
            signals: shared(pins, maps::BACKEND_SIGNALS, access)?,
            next_hops: shared(pins, maps::NEXT_HOPS, access)?,
            client_hops: shared(pins, maps::CLIENT_HOPS, access)?,
            clock: Clock::new(&settings),
            hash_seed: settings.hash_seed,
            settings: shared_settings,
            spills: [
                shared(pins, maps::SPILLS_V4, access)?,
                shared(pins, maps::SPILLS_V6, access)?,
            ],
            flows: Flows::new(&open(pins, maps::FLOWS_V4)?, &open(pins, maps::FLOWS_V6)?, access)?,
            address_classes: shared(pins, maps::ADDRESS_CLASSES, access)?,
            services_by_port: FamilyTables::open(pins, maps::SERVICES_V4, maps::SERVICES_V6)?,
            services_by_block: FamilyTables::open(pins, maps::PORT_RANGES_V4, maps::PORT_RANGES_V6)?,
            rates: FamilyTables::open(pins, maps::RATES_V4, maps::RATES_V6)?,
            guard_tables: FamilyTables::open(pins, maps::GUARDS_V4, maps::GUARDS_V6)?,
            counters: typed(pins, maps::BACKEND_COUNTERS, Map::PerCpuArray)?,
            outcomes: typed(pins, maps::OUTCOMES, Map::PerCpuArray)?,
            events: typed(pins, maps::EVENTS, Map::PerCpuArray)?,
        })
    }

    /// When sources may begin their next flow: index of the service, source, and the time at which
    /// the next flow is due if flows are evenly spaced, in nanoseconds of the monotonic clock.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn rates(&self, v4: bool) -> Result<Vec<(u32, IpAddr, u64)>, DataplaneError> {
        if v4 {
            self.rates_of::<V4>()
        } else {
            self.rates_of::<V6>()
        }
    }

    fn rates_of<F: Family>(&self) -> Result<Vec<(u32, IpAddr, u64)>, DataplaneError> {
        let mut found = Vec::new();
        self.rates.of::<F>().for_each(|key: &RateKey<F>, due: &u64| {
            if let Some(source) = address::from_words(F::NUMBER, F::widen(&key.address)) {
                found.push((key.service, source, *due));
            }
        })?;
        Ok(found)
    }

    /// The packet counters of a backend, summed over all CPUs.
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

    /// Sets the packet counters of a backend to zero, for an entry that another backend gets.
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

    /// How often each event occurred, over all CPUs.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn events(&self) -> Result<Vec<(Event, u64)>, DataplaneError> {
        let sum = |event: &Event| {
            let values = self.events.get(&(*event as u32), 0);
            let values = values.map_err(|cause| DataplaneError::map(maps::EVENTS.name, cause))?;
            Ok((*event, values.iter().sum()))
        };
        Event::ALL.iter().map(sum).collect()
    }

    /// How often each outcome occurred, over all CPUs.
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

pub(super) fn shared<T: Record>(pins: &Pins, map: maps::Map, access: Access) -> Result<SharedArray<T>, DataplaneError> {
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
