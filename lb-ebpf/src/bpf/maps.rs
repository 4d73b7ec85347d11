//! The maps, from the rows of `lb_common::maps`. The controller sets their capacity when it loads
//! the programs.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
    macros::btf_map,
};
use lb_common::{
    Backend, BackendCounters, BackendLoad, BackendSignals, GuardKey, NextHop, PortRangeKey, RateKey, RingSlot, Service,
    ServiceKey, ServiceState, Settings, V4, V6, VirtualRouter,
    flow_table::{BucketV4, BucketV6, Spills},
    for_each_map,
    fragment::{FragmentKey, FragmentPorts},
    maps,
    next_hop::ClientHop,
    punt::PuntRecord,
    router::{RouterAddress, RouterKey},
};

/// The controller maps arrays into its memory. It changes a word of an entry with one store.
const SHARED: usize = BPF_F_MMAPABLE as usize;
/// Elements are freed after a grace period: a pointer to one is valid as long as the program runs.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

macro_rules! statics {
    ($( $kind:ident $name:ident: $key:ty => $value:ty [$capacity:expr, $sized_by:ident] $help:literal; )+) => {
        $( statics!($kind $name, $key, $value, { maps::$name.capacity }); )+
    };
    (Array $name:ident, $key:ty, $value:ty, $capacity:block) => {
        #[btf_map]
        pub static $name: Array<$value, $capacity, SHARED> = Array::new();
    };
    (PerCpuArray $name:ident, $key:ty, $value:ty, $capacity:block) => {
        #[btf_map]
        pub static $name: PerCpuArray<$value, $capacity> = PerCpuArray::new();
    };
    (Hash $name:ident, $key:ty, $value:ty, $capacity:block) => {
        #[btf_map]
        pub static $name: HashMap<$key, $value, $capacity, ON_DEMAND> = HashMap::new();
    };
    (LruHash $name:ident, $key:ty, $value:ty, $capacity:block) => {
        #[btf_map]
        pub static $name: LruHashMap<$key, $value, $capacity> = LruHashMap::new();
    };
    (LpmTrie $name:ident, $key:ty, $value:ty, $capacity:block) => {
        #[btf_map]
        pub static $name: LpmTrie<[u8; size_of::<$key>() - size_of::<u32>()], $value, $capacity> = LpmTrie::new();
    };
    (ProgramArray $name:ident, $key:ty, $value:ty, $capacity:block) => {
        #[btf_map]
        pub static $name: ProgramArray<$capacity> = ProgramArray::new();
    };
    (RingBuf $name:ident, $key:ty, $value:ty, $capacity:block) => {
        #[btf_map]
        pub static $name: RingBuf<$value, $capacity> = RingBuf::new();
    };
}

for_each_map!(statics);

/// The node's settings. The controller writes them before it attaches the program.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}
