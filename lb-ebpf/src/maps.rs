//! The maps, with the names and default sizes of `lb_common::maps`. The controller sets the sizes when it loads.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use lb_common::{
    Backend, BackendCounters, BackendLoad, Flow, FlowKey, NextHop, RingSlot, Service, ServiceKey, ServiceState, V4, V6,
    maps, punt::PuntRecord,
};

use crate::track::Draft;

/// Arrays are shared memory with the controller, which so changes a word of an entry in one store.
const SHARED: usize = BPF_F_MMAPABLE as usize;
/// Elements are freed after a grace period, so a pointer to one stays good as long as the program runs.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub static SERVICES_V4: HashMap<ServiceKey<V4>, u32, { maps::SERVICES_V4.capacity }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static SERVICES_V6: HashMap<ServiceKey<V6>, u32, { maps::SERVICES_V6.capacity }, ON_DEMAND> = HashMap::new();
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
pub static BACKEND_COUNTERS: PerCpuArray<BackendCounters, { maps::BACKEND_COUNTERS.capacity }> = PerCpuArray::new();
#[btf_map]
pub static NEXT_HOPS: Array<NextHop, { maps::NEXT_HOPS.capacity }, SHARED> = Array::new();
#[btf_map]
pub static FLOWS_V4: HashMap<FlowKey<V4>, Flow<V4>, { maps::FLOWS_V4.capacity }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static FLOWS_V6: HashMap<FlowKey<V6>, Flow<V6>, { maps::FLOWS_V6.capacity }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static OUTCOMES: PerCpuArray<u64, { maps::OUTCOMES.capacity }> = PerCpuArray::new();
#[btf_map]
pub static PUNTS: RingBuf<PuntRecord, { maps::PUNTS.capacity }> = RingBuf::new();
#[btf_map]
pub static DRAFT_V4: PerCpuArray<Draft<V4>, 1> = PerCpuArray::new();
#[btf_map]
pub static DRAFT_V6: PerCpuArray<Draft<V6>, 1> = PerCpuArray::new();
