//! The flow table as the controller sees it: both families alike.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use aya::maps::MapData;
use lb_common::{Family, Flow, FlowKey, Phase, V4, V6, family::address, flow, maps};
use nix::time::{ClockId, clock_gettime};

use super::{DataplaneError, syscall};

/// The maps of both families.
pub struct Flows {
    v4: MapData,
    v6: MapData,
    capacity: [u32; 2],
}

/// A 5-tuple of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// The 5-tuple of the packets that answer.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    /// As the packet path has it. `F` must be the family of the addresses.
    pub fn as_key<F: Family>(self) -> FlowKey<F> {
        FlowKey {
            source: F::narrow(&address::to_words(self.source.ip())),
            destination: F::narrow(&address::to_words(self.destination.ip())),
            source_port: lb_common::Be16::from_host(self.source.port()),
            destination_port: lb_common::Be16::from_host(self.destination.port()),
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }
}

/// An entry of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// The 5-tuple that finds it.
    pub key: Tuple,
    /// The 5-tuple after the translation.
    pub rewrite: Tuple,
    /// Whether it is the entry of the client's packets, which knows all of the flow.
    pub to_worker: bool,
    /// How far the connection has come.
    pub phase: Phase,
    /// When the last packet came, in [`flow::tick`]s.
    pub last_seen: u32,
    /// Index of the backend.
    pub backend: u32,
    /// Generation of the backend when the flow began.
    pub generation: u32,
    /// Index of the service.
    pub service: u32,
}

impl FlowEntry {
    fn new<F: Family>(key: &FlowKey<F>, flow: &Flow<F>) -> Self {
        Self {
            key: tuple(key),
            rewrite: tuple(&flow.rewrite),
            to_worker: flow.direction == flow::Direction::ToWorker as u32,
            phase: Phase::from_number(flow.phase),
            last_seen: flow.last_seen,
            backend: flow.backend,
            generation: flow.generation,
            service: flow.service,
        }
    }

    /// For how long no packet came, in [`flow::tick`]s.
    pub fn idle(&self, now: u32) -> u32 {
        // A packet may have come after `now` was read.
        let idle = now.wrapping_sub(self.last_seen);
        if idle > u32::MAX / 2 { 0 } else { idle }
    }
}

/// The time now, in [`flow::tick`]s of the clock that the packet path uses.
///
/// # Errors
///
/// When the clock cannot be read.
pub fn now() -> io::Result<u32> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(flow::tick(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64))
}

impl Flows {
    pub(super) fn new(v4: MapData, v6: MapData) -> Result<Self, DataplaneError> {
        let entries = |map: &MapData, name: &str| {
            map.info()
                .map(|info| info.max_entries())
                .map_err(|cause| DataplaneError::map(name, cause))
        };
        let capacity = [entries(&v4, maps::FLOWS_V4.name)?, entries(&v6, maps::FLOWS_V6.name)?];
        Ok(Self { v4, v6, capacity })
    }

    /// How many entries the tables for IPv4 and for IPv6 can hold.
    pub fn capacity(&self) -> [u32; 2] {
        self.capacity
    }

    /// Calls `each` for every entry. Flows that come or go meanwhile may be seen or not.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn for_each(&self, mut each: impl FnMut(FlowEntry)) -> Result<(), DataplaneError> {
        syscall::for_each(self.v4.fd(), |key: &FlowKey<V4>, flow| each(FlowEntry::new(key, flow)))
            .map_err(|cause| DataplaneError::map(maps::FLOWS_V4.name, cause))?;
        syscall::for_each(self.v6.fd(), |key: &FlowKey<V6>, flow| each(FlowEntry::new(key, flow)))
            .map_err(|cause| DataplaneError::map(maps::FLOWS_V6.name, cause))
    }

    /// Removes an entry; returns it as it was at that moment, or `None` when it was gone.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn take(&self, key: Tuple) -> Result<Option<FlowEntry>, DataplaneError> {
        if key.source.is_ipv4() {
            take::<V4>(&self.v4, key).map_err(|cause| DataplaneError::map(maps::FLOWS_V4.name, cause))
        } else {
            take::<V6>(&self.v6, key).map_err(|cause| DataplaneError::map(maps::FLOWS_V6.name, cause))
        }
    }

    /// Looks an entry up.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn find(&self, key: Tuple) -> Result<Option<FlowEntry>, DataplaneError> {
        if key.source.is_ipv4() {
            find::<V4>(&self.v4, key).map_err(|cause| DataplaneError::map(maps::FLOWS_V4.name, cause))
        } else {
            find::<V6>(&self.v6, key).map_err(|cause| DataplaneError::map(maps::FLOWS_V6.name, cause))
        }
    }
}

fn take<F: Family>(map: &MapData, key: Tuple) -> io::Result<Option<FlowEntry>> {
    let key = key.as_key::<F>();
    Ok(syscall::take::<_, Flow<F>>(map.fd(), &key)?.map(|flow| FlowEntry::new(&key, &flow)))
}

fn find<F: Family>(map: &MapData, key: Tuple) -> io::Result<Option<FlowEntry>> {
    let key = key.as_key::<F>();
    Ok(syscall::find::<_, Flow<F>>(map.fd(), &key)?.map(|flow| FlowEntry::new(&key, &flow)))
}

fn tuple<F: Family>(key: &FlowKey<F>) -> Tuple {
    let address = |words: &F::Address| {
        address::from_words(F::NUMBER, F::widen(words)).unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    };
    Tuple {
        source: SocketAddr::new(address(&key.source), key.source_port.host()),
        destination: SocketAddr::new(address(&key.destination), key.destination_port.host()),
        protocol: key.protocol,
    }
}
