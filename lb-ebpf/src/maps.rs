//! The maps, with the names and default sizes of `lb_common::maps`. The controller sets the sizes when it loads.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use lb_common::{
    Backend, BackendCounters, BackendLoad, BackendSignals, GuardKey, NextHop, PortRangeKey, RateKey, RingSlot, Service,
    ServiceKey, ServiceState, Settings, V4, V6, VirtualRouter,
    flow_table::{BucketV4, BucketV6, Spills},
    fragment::{FragmentKey, FragmentPorts},
    maps,
    next_hop::ClientHop,
    punt::PuntRecord,
    router::{RouterAddress, RouterKey},
};

use crate::{icmp::Draft, room::Room};

/// Arrays are shared memory with the controller, which so changes a word of an entry in one store.
const SHARED: usize = BPF_F_MMAPABLE as usize;
/// Elements are freed after a grace period, so a pointer to one stays good as long as the program runs.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// All of a key of a longest-prefix map but its first word, the length of the prefix.
type Rest<const N: usize> = Key<[u8; N]>;
const _: () = {
    assert!(
        size_of::<Rest<8>>() == size_of::<PortRangeKey<V4>>() && size_of::<Rest<20>>() == size_of::<PortRangeKey<V6>>()
    );
    assert!(size_of::<Rest<8>>() == size_of::<GuardKey<V4>>() && size_of::<Rest<20>>() == size_of::<GuardKey<V6>>());
};

#[btf_map]
pub static SERVICES_V4: HashMap<ServiceKey<V4>, u32, { maps::SERVICES_V4.capacity }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static SERVICES_V6: HashMap<ServiceKey<V6>, u32, { maps::SERVICES_V6.capacity }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static PORT_RANGES_V4: LpmTrie<[u8; 8], u32, { maps::PORT_RANGES_V4.capacity }> = LpmTrie::new();
#[btf_map]
pub static PORT_RANGES_V6: LpmTrie<[u8; 20], u32, { maps::PORT_RANGES_V6.capacity }> = LpmTrie::new();
#[btf_map]
pub static ADDRESS_CLASSES: Array<u64, { maps::ADDRESS_CLASSES.capacity }, SHARED> = Array::new();
#[btf_map]
pub static SETTINGS: Array<Settings, { maps::SETTINGS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static SERVICES: Array<Service, { maps::SERVICES.capacity }, SHARED> = Array::new();
#[btf_map]
pub static SERVICE_STATES: Array<ServiceState, { maps::SERVICE_STATES.capacity }, SHARED> = Array::new();
#[btf_map]
pub static RINGS: Array<RingSlot, { maps::RINGS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static BACKENDS: Array<Backend, { maps::BACKENDS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static BACKEND_LOADS: Array<BackendLoad, { maps::BACKEND_LOADS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static BACKEND_SIGNALS: Array<BackendSignals, { maps::BACKEND_SIGNALS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static BACKEND_COUNTERS: PerCpuArray<BackendCounters, { maps::BACKEND_COUNTERS.capacity }> = PerCpuArray::new();
#[btf_map]
pub static NEXT_HOPS: Array<NextHop, { maps::NEXT_HOPS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static FLOWS_V4: Array<BucketV4, { maps::FLOWS_V4.capacity }, SHARED> = Array::new();
#[btf_map]
pub static FLOWS_V6: Array<BucketV6, { maps::FLOWS_V6.capacity }, SHARED> = Array::new();
#[btf_map]
pub static SPILLS_V4: Array<Spills, { maps::SPILLS_V4.capacity }, SHARED> = Array::new();
#[btf_map]
pub static SPILLS_V6: Array<Spills, { maps::SPILLS_V6.capacity }, SHARED> = Array::new();
#[btf_map]
pub static CLIENT_HOPS: Array<ClientHop, { maps::CLIENT_HOPS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static FRAGMENTS_V4: LruHashMap<FragmentKey<V4>, FragmentPorts, { maps::FRAGMENTS_V4.capacity }> =
    LruHashMap::new();
#[btf_map]
pub static FRAGMENTS_V6: LruHashMap<FragmentKey<V6>, FragmentPorts, { maps::FRAGMENTS_V6.capacity }> =
    LruHashMap::new();
#[btf_map]
pub static GUARDS_V4: LpmTrie<[u8; 8], u32, { maps::GUARDS_V4.capacity }> = LpmTrie::new();
#[btf_map]
pub static GUARDS_V6: LpmTrie<[u8; 20], u32, { maps::GUARDS_V6.capacity }> = LpmTrie::new();
#[btf_map]
pub static RATES_V4: LruHashMap<RateKey<V4>, u64, { maps::RATES_V4.capacity }> = LruHashMap::new();
#[btf_map]
pub static RATES_V6: LruHashMap<RateKey<V6>, u64, { maps::RATES_V6.capacity }> = LruHashMap::new();
#[btf_map]
pub static VIRTUAL_ROUTERS: Array<VirtualRouter, { maps::VIRTUAL_ROUTERS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static ROUTER_IDS: HashMap<RouterKey, u32, { maps::ROUTER_IDS.capacity }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static ROUTER_ADDRESSES: HashMap<RouterAddress, u32, { maps::ROUTER_ADDRESSES.capacity }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub static OUTCOMES: PerCpuArray<u64, { maps::OUTCOMES.capacity }> = PerCpuArray::new();
#[btf_map]
pub static EVENTS: PerCpuArray<u64, { maps::EVENTS.capacity }> = PerCpuArray::new();
#[btf_map]
pub static PUNTS: RingBuf<PuntRecord, { maps::PUNTS.capacity }> = RingBuf::new();

#[btf_map]
pub static ERRORS_V4: PerCpuArray<Draft<V4>, 1> = PerCpuArray::new();
#[btf_map]
pub static ERRORS_V6: PerCpuArray<Draft<V6>, 1> = PerCpuArray::new();

#[btf_map]
pub static ROOM_V4: PerCpuArray<Room<V4>, 1> = PerCpuArray::new();
#[btf_map]
pub static ROOM_V6: PerCpuArray<Room<V6>, 1> = PerCpuArray::new();
#[btf_map]
pub static PROGRAMS: ProgramArray<{ maps::PROGRAMS.capacity }> = ProgramArray::new();

/// The node's settings; none before the controller wrote them, which it does before it attaches the program.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}
