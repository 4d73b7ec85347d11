//! The flow table as the controller sees it: both families behind one interface.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    ops::ControlFlow,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;
use lb_common::{
    Backend, BackendLoad, BackendSignals, Be16, Family, FlowKey, Mode, Phase, Ports, V4, V6,
    family::address,
    flow::Direction,
    flow_table::{self, Binding, Cells, Hit, Layout, Meta, Places, SLOTS},
    maps,
    service::MAX_SOURCES,
    wire::{tcp, udp},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{Access, DataplaneError, Tables};

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
    /// The 5-tuple of the reply packets.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    /// The key in the map's format. `F` must be the family of the addresses.
    pub fn as_key<F: Family>(self) -> FlowKey<F> {
        FlowKey {
            source: F::narrow(&address::to_words(self.source.ip())),
            destination: F::narrow(&address::to_words(self.destination.ip())),
            ports: Ports::new(
                Be16::from_host(self.source.port()),
                Be16::from_host(self.destination.port()),
            ),
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }
}

/// The 5-tuple of the packets that this entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// The 5-tuple that finds it.
    pub key: Tuple,
    /// The 5-tuple after translation; the same in modes without translation.
    pub rewrite: Tuple,
    /// Address and port of the backend; in the tunnel modes the end of the tunnel.
    pub worker: SocketAddr,
    /// Whether it is for the client's packets; otherwise it is for the worker's replies.
    pub to_worker: bool,
    /// Whether the backend entry still belongs to the same backend as when the flow began. Packets
    /// ignore a flow of a former backend.
    pub is_current: bool,
    /// The state of the connection.
    pub phase: Phase,
    /// Index of the backend.
    pub backend: u32,
    /// Index of the service.
    pub service: u32,
    /// Forwarding mode of the service.
    pub mode: Mode,
    /// Index in `CLIENT_HOPS` of the client's hop.
    pub hop: u32,
    /// The meta word of the entry when it was read.
    pub meta: Meta,
    place: Place,
}

/// The position of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    bucket: u32,
    slot: usize,
}

impl FlowEntry {
    /// The ticks since a packet used this entry.
    pub fn idle(&self, now: u32) -> u32 {
        self.meta.idle(now)
    }
}

/// The tables of both families, as memory shared with the packet path.
pub(super) struct Flows {
    v4: Buckets<V4>,
    v6: Buckets<V6>,
}

impl Flows {
    pub(super) fn new(v4: &MapData, v6: &MapData, access: Access) -> Result<Self, DataplaneError> {
        Ok(Self {
            v4: Buckets::map(v4, maps::FLOWS_V4, access)?,
            v6: Buckets::map(v6, maps::FLOWS_V6, access)?,
        })
    }
}

impl Tables {
    /// The number of entries that the tables for IPv4 and IPv6 are sized for.
    pub fn flow_capacity(&self) -> [u32; 2] {
        [self.flows.v4.count, self.flows.v6.count].map(|buckets| (u64::from(buckets) * 10 / 3) as u32)
    }

    /// The number of buckets of the tables for IPv4 and IPv6.
    pub(super) fn bucket_counts(&self) -> [u32; 2] {
        [self.flows.v4.count, self.flows.v6.count]
    }

    /// The number of entries in the tables for IPv4 and IPv6 now.
    pub fn count_flow_entries(&self) -> [u64; 2] {
        [self.flows.v4.count_live(), self.flows.v6.count_live()]
    }

    /// Calls `each` for every entry. Flows that begin or end meanwhile may be missed.
    pub fn for_each_flow(&self, mut each: impl FnMut(FlowEntry)) {
        let _ = self.walk_flows(0, |_, entry| {
            each(entry);
            ControlFlow::Continue(())
        });
    }

    /// As [`Tables::for_each_flow`], from position `from` on, until `each` breaks. `each` also gets
    /// the position of the entry, a number from 0 on. An entry keeps its position, so a walk can
    /// continue later. Returns whether the end was reached.
    pub fn walk_flows(&self, from: u64, mut each: impl FnMut(u64, FlowEntry) -> ControlFlow<()>) -> ControlFlow<()> {
        let v4 = u64::from(self.flows.v4.count) * SLOTS as u64;
        walk(self, &self.flows.v4, from, &mut each)?;
        walk(self, &self.flows.v6, from.saturating_sub(v4), &mut |place, entry| {
            each(v4 + place, entry)
        })
    }

    /// Calls `each` for every entry in its second bucket, with whether it is IPv6 and its first
    /// bucket.
    pub(super) fn for_each_spilled(&self, mut each: impl FnMut(bool, u32)) {
        self.for_each_flow(|entry| {
            let is_v6 = entry.key.source.is_ipv6();
            let first = if is_v6 {
                places(self, &self.flows.v6, entry.key).first
            } else {
                places(self, &self.flows.v4, entry.key).first
            };
            if first != entry.place.bucket {
                each(is_v6, first);
            }
        });
    }

    /// Finds the entry for packets with this 5-tuple.
    pub fn find_flow(&self, key: Tuple) -> Option<FlowEntry> {
        if key.source.is_ipv4() {
            find(self, &self.flows.v4, key)
        } else {
            find(self, &self.flows.v6, key)
        }
    }

    /// Ends an entry, unless a packet used it since it was read. Returns whether it was ended.
    pub fn end_flow(&self, entry: &FlowEntry) -> bool {
        self.swap(entry, |cells, offset| {
            cells.swap_u64(offset, entry.meta.0, entry.meta.freed().0)
        })
    }

    /// Changes the phase of an entry, unless a packet used it since it was read. Returns whether it
    /// was changed.
    pub fn set_flow_phase(&self, entry: &FlowEntry, phase: Phase) -> bool {
        let touched = entry.meta.touched(phase, entry.meta.last_seen());
        self.swap(entry, |cells, offset| cells.swap_u64(offset, entry.meta.0, touched.0))
    }

    /// Clears the tables, for benchmarks. Flow counters of backends are set to zero too.
    pub fn clear_flows(&self) {
        self.flows.v4.clear();
        self.flows.v6.clear();
        self.clear_spills();
        for index in 0..self.loads.len() {
            self.loads.replace(index, &BackendLoad::ZERO);
            self.signals.replace(index, &BackendSignals::ZERO);
        }
    }

    fn swap(&self, entry: &FlowEntry, swap: impl Fn(Words<'_>, usize) -> bool) -> bool {
        let Place { bucket, slot } = entry.place;
        if entry.key.source.is_ipv4() {
            self.flows
                .v4
                .bucket(bucket)
                .is_some_and(|cells| swap(cells, V4::meta(slot)))
        } else {
            self.flows
                .v6
                .bucket(bucket)
                .is_some_and(|cells| swap(cells, V6::meta(slot)))
        }
    }

    /// The other entry of a flow in a mode with translation.
    pub fn other_direction(&self, entry: &FlowEntry) -> Option<FlowEntry> {
        if !entry.mode.translates() {
            return None;
        }
        let other = self.find_flow(entry.rewrite.reversed())?;
        (other.rewrite == entry.key.reversed() && other.meta.backend() == entry.meta.backend()).then_some(other)
    }
}

fn walk<F: Layout>(
    tables: &Tables,
    buckets: &Buckets<F>,
    from: u64,
    each: &mut impl FnMut(u64, FlowEntry) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let slots = SLOTS as u64;
    for bucket in u32::try_from(from / slots).unwrap_or(u32::MAX)..buckets.count {
        let Some(cells) = buckets.bucket(bucket) else { break };
        for slot in 0..SLOTS {
            let place = u64::from(bucket) * slots + slot as u64;
            if place >= from
                && let Some(hit) = flow_table::read::<F, _>(cells, slot)
                && let Some(entry) = entry(tables, Place { bucket, slot }, &hit)
            {
                each(place, entry)?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn places<F: Layout>(tables: &Tables, buckets: &Buckets<F>, key: Tuple) -> Places {
    flow_table::places(&key.as_key::<F>(), tables.hash_seed, buckets.count)
}

fn find<F: Layout>(tables: &Tables, buckets: &Buckets<F>, key: Tuple) -> Option<FlowEntry> {
    let places = places(tables, buckets, key);
    [places.first, places.second].into_iter().find_map(|bucket| {
        let cells = buckets.bucket(bucket)?;
        (0..SLOTS).find_map(|slot| {
            let hit = flow_table::read::<F, _>(cells, slot)?;
            entry(tables, Place { bucket, slot }, &hit).filter(|entry| entry.is_current && entry.key == key)
        })
    })
}

/// Combines an entry with its backend and service; `None` if these are gone.
fn entry<F: Layout>(tables: &Tables, place: Place, hit: &Hit<F>) -> Option<FlowEntry> {
    let backend = tables.backends.read(hit.meta.backend())?;
    let mode = Mode::from_number(backend.mode)?;
    let client = SocketAddr::new(ip::<F>(&hit.address)?, hit.ports.source().host());
    let service_address = address::from_words(F::NUMBER, backend.virtual_address)?;
    let protocol = if hit.meta.is_udp() {
        udp::PROTOCOL
    } else {
        tcp::PROTOCOL
    };
    let forward = Tuple {
        source: client,
        destination: SocketAddr::new(service_address, hit.ports.destination().host()),
        protocol,
    };
    let worker = SocketAddr::new(
        address::from_words(backend.status.family(), backend.address)?,
        match backend.status.port().host() {
            0 => hit.ports.destination().host(),
            port => port,
        },
    );
    let translated = if mode.translates() {
        Tuple {
            source: nat_source(tables, &backend, mode, hit.binding, client)?,
            destination: worker,
            protocol,
        }
    } else {
        forward
    };
    let to_worker = hit.meta.direction() == Direction::ToWorker;
    let (key, rewrite) = if to_worker {
        (forward, translated)
    } else {
        (translated.reversed(), forward.reversed())
    };
    Some(FlowEntry {
        key,
        rewrite,
        worker,
        to_worker,
        is_current: hit.meta.is_generation(backend.status.generation()),
        phase: hit.meta.phase(),
        backend: hit.meta.backend(),
        service: backend.service,
        mode,
        hop: hit.binding.hop(),
        meta: hit.meta,
        place,
    })
}

fn nat_source(
    tables: &Tables,
    backend: &Backend,
    mode: Mode,
    binding: Binding,
    client: SocketAddr,
) -> Option<SocketAddr> {
    if mode == Mode::Dnat {
        return Some(client);
    }
    let service = tables.services.read(backend.service)?;
    let source = service.sources[binding.source() as usize % MAX_SOURCES];
    Some(SocketAddr::new(
        address::from_words(backend.family, source)?,
        binding.port().host(),
    ))
}

fn ip<F: Family>(words: &F::Address) -> Option<IpAddr> {
    address::from_words(F::NUMBER, F::widen(words))
}

/// The buckets of one family.
struct Buckets<F> {
    memory: NonNull<AtomicU64>,
    count: u32,
    bytes: NonZeroUsize,
    _family: std::marker::PhantomData<F>,
}

// SAFETY: all access is atomic, except in `drop`.
unsafe impl<F> Send for Buckets<F> {}
// SAFETY: as above.
unsafe impl<F> Sync for Buckets<F> {}

impl<F: Layout> Buckets<F> {
    const WORDS: usize = size_of::<F::Bucket>() / 8;

    fn map(data: &MapData, map: maps::Map, access: Access) -> Result<Self, DataplaneError> {
        let failed = |cause: std::io::Error| DataplaneError::map(map.name, cause);
        let info = data.info().map_err(|cause| DataplaneError::map(map.name, cause))?;
        if info.value_size() as usize != size_of::<F::Bucket>() {
            return Err(DataplaneError::Layout {
                name: map.name.to_owned(),
                found: format!("values of {} bytes", info.value_size()),
                expected: format!("{} bytes", size_of::<F::Bucket>()),
            });
        }
        let count = info.max_entries();
        let bytes = NonZeroUsize::new(count as usize * size_of::<F::Bucket>())
            .ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
        let protection = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::Write => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        // SAFETY: a new mapping at an address that the kernel chooses.
        let memory = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, data.fd().as_fd(), 0) }
            .map_err(|error| failed(error.into()))?;
        Ok(Self {
            memory: memory.cast(),
            count,
            bytes,
            _family: std::marker::PhantomData,
        })
    }

    fn bucket(&self, index: u32) -> Option<Words<'_>> {
        if index >= self.count {
            return None;
        }
        // SAFETY: within the mapping, which is page-aligned and lives as long as `self`.
        let words =
            unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(index as usize * Self::WORDS), Self::WORDS) };
        Some(Words(words))
    }

    fn count_live(&self) -> u64 {
        let live = |bucket| {
            self.bucket(bucket).map_or(0, |cells| {
                (0..SLOTS)
                    .filter(|slot| Meta(cells.load_u64(F::meta(*slot))).is_live())
                    .count() as u64
            })
        };
        (0..self.count).map(live).sum()
    }

    fn clear(&self) {
        for cells in (0..self.count).filter_map(|bucket| self.bucket(bucket)) {
            for slot in 0..SLOTS {
                cells.store_u64(F::meta(slot), 0);
            }
        }
    }
}

impl<F> Drop for Buckets<F> {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; nothing borrowed from it outlives `self`.
        let _ = unsafe { munmap(self.memory.cast(), self.bytes.get()) };
    }
}

/// The words of a bucket in shared memory.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [AtomicU64]);

impl Words<'_> {
    fn half(&self, offset: usize) -> &AtomicU32 {
        let word = &raw const self.0[offset / 8];
        // SAFETY: half of a word that lives as long as `self`, aligned to its size, and only ever
        // used atomically.
        unsafe { &*word.cast::<AtomicU32>().add(offset / 4 % 2) }
    }
}

impl Cells for Words<'_> {
    fn load_u64(self, offset: usize) -> u64 {
        self.0[offset / 8].load(Ordering::Acquire)
    }

    fn store_u64(self, offset: usize, value: u64) {
        self.0[offset / 8].store(value, Ordering::Release);
    }

    fn load_u32(self, offset: usize) -> u32 {
        self.half(offset).load(Ordering::Acquire)
    }

    fn store_u32(self, offset: usize, value: u32) {
        self.half(offset).store(value, Ordering::Release);
    }

    fn swap_u64(self, offset: usize, old: u64, new: u64) -> bool {
        self.0[offset / 8]
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn swap_u32(self, offset: usize, old: u32, new: u32) -> bool {
        self.half(offset)
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn fence(self) {
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    fn opaque(number: u64) -> u64 {
        number
    }
}
