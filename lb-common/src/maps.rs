//! The maps of the packet path: one row for each, from which everything else about a map follows.
//!
//! The kernel side declares its statics from the rows, the loader takes from them which layout and
//! size it expects, and `lbctl map list` and `docs/maps.md` show them.

use crate::{
    Backend, BackendCounters, BackendLoad, BackendSignals, Event, GuardKey, NextHop, Outcome, PortRangeKey, RateKey,
    RingSlot, Service, ServiceKey, ServiceState, Settings, V4, V6, VirtualRouter, address_class,
    flow_table::{BucketV4, BucketV6, Spills, binding, spills_for},
    fragment::{FragmentKey, FragmentPorts},
    next_hop::ClientHop,
    punt::PuntRecord,
    router::{RouterAddress, RouterKey},
};

/// Calls the macro `$consumer` with all rows.
///
/// A row is `Kind NAME: Key => Value [default capacity, SizedBy] "help";`. The consumer imports the
/// types that rows name.
#[macro_export]
macro_rules! for_each_map {
    ($consumer:ident) => {
        $consumer! {
            Hash SERVICES_V4: ServiceKey<V4> => u32 [4096, Services]
                "index of a service by IPv4 address, port and protocol";
            Hash SERVICES_V6: ServiceKey<V6> => u32 [4096, Services]
                "index of a service by IPv6 address, port and protocol";
            LpmTrie PORT_RANGES_V4: PortRangeKey<V4> => u32 [4096, Constant]
                "index of a service with a port range, by IPv4 address, protocol and leading bits of the port";
            LpmTrie PORT_RANGES_V6: PortRangeKey<V6> => u32 [4096, Constant]
                "index of a service with a port range, by IPv6 address, protocol and leading bits of the port";
            Array ADDRESS_CLASSES: u32 => u64 [address_class::WORDS, Constant]
                "what an address can be, by its hash; eight addresses in an entry";
            Array SETTINGS: u32 => Settings [1, Constant]
                "settings of the node: hash seed and clock of the flow table, port range of `nat`";
            Array SERVICES: u32 => Service [4096, Services]
                "services by index: ring and scheduler, mode, limits, NAT sources";
            Array SERVICE_STATES: u32 => ServiceState [4096, Services]
                "state of each service: round-robin counter, flows, new flows in this second";
            Array RINGS: u32 => RingSlot [1 << 20, RingSlots]
                "rings of all services, one after the other: backend and weight in each slot";
            Array BACKENDS: u32 => Backend [16384, Backends]
                "backends by index: state and generation, address, port, mode, tunnel";
            Array BACKEND_LOADS: u32 => BackendLoad [16384, Backends]
                "flows of each backend: half-open, established, total";
            Array BACKEND_SIGNALS: u32 => BackendSignals [16384, Backends]
                "SYNs in a row that each backend refused or did not answer; only modes with replies through the balancer";
            PerCpuArray BACKEND_COUNTERS: u32 => BackendCounters [16384, Backends]
                "packets and bytes of each backend";
            Array NEXT_HOPS: u32 => NextHop [16384, Backends]
                "resolved next hops by index of their backend: link-layer addresses, interface, VLAN tags, MTU";
            Array FLOWS_V4: u32 => BucketV4 [1 << 20, FlowsV4]
                "IPv4 flows, six entries in a bucket";
            Array FLOWS_V6: u32 => BucketV6 [1 << 18, FlowsV6]
                "IPv6 flows, six entries in a bucket";
            Array SPILLS_V4: u32 => Spills [spills_for(1 << 20) as usize, SpillsV4]
                "which IPv4 buckets have entries in their second bucket; 64 buckets in an entry";
            Array SPILLS_V6: u32 => Spills [spills_for(1 << 18) as usize, SpillsV6]
                "which IPv6 buckets have entries in their second bucket; 64 buckets in an entry";
            Array CLIENT_HOPS: u32 => ClientHop [binding::HOPS, Constant]
                "client hops: where packets of clients come from, so where replies go";
            LruHash FRAGMENTS_V4: FragmentKey<V4> => FragmentPorts [16384, Constant]
                "ports of fragmented IPv4 packets, by addresses, identification and protocol";
            LruHash FRAGMENTS_V6: FragmentKey<V6> => FragmentPorts [4096, Constant]
                "ports of fragmented IPv6 packets, by addresses, identification and protocol";
            LpmTrie GUARDS_V4: GuardKey<V4> => u32 [65536, Constant]
                "IPv4 sources that services allow or deny";
            LpmTrie GUARDS_V6: GuardKey<V6> => u32 [65536, Constant]
                "IPv6 sources that services allow or deny";
            LruHash RATES_V4: RateKey<V4> => u64 [65536, Constant]
                "when the next flow of an IPv4 source to a service is due, for the rate limit of sources";
            LruHash RATES_V6: RateKey<V6> => u64 [65536, Constant]
                "when the next flow of an IPv6 source to a service is due, for the rate limit of sources";
            PerCpuArray OUTCOMES: u32 => u64 [Outcome::ALL.len(), Constant]
                "packets by outcome";
            PerCpuArray EVENTS: u32 => u64 [Event::ALL.len(), Constant]
                "occurrences that are no outcome: evictions, packets without an entry";
            Array VIRTUAL_ROUTERS: u32 => VirtualRouter [256, Constant]
                "virtual routers by index: lease of the controller, last advert of another balancer, relay";
            Hash ROUTER_IDS: RouterKey => u32 [256, Constant]
                "index of a virtual router by interface, VLAN, family and router id";
            Hash ROUTER_ADDRESSES: RouterAddress => u32 [5120, Constant]
                "index of a virtual router by interface, VLAN and virtual address";
            ProgramArray PROGRAMS: u32 => u32 [3, Constant]
                "programs that the first one calls: slow path of IPv4, slow path of IPv6, VRRP";
            RingBuf PUNTS: () => PuntRecord [1 << 18, Constant]
                "packets for the controller to send, because their next hop is not resolved";
        }
    };
}

/// Kind of a map, by the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Array in memory that the controller shares.
    Array,
    /// Array with a value for each CPU.
    PerCpuArray,
    /// Hash map without preallocation.
    Hash,
    /// Hash map that evicts the entry least recently used.
    LruHash,
    /// Longest-prefix map.
    LpmTrie,
    /// Array of programs for tail calls.
    ProgramArray,
    /// Ring buffer from the packet path to the controller.
    RingBuf,
}

/// What determines the capacity of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizedBy {
    /// Nothing: it is always the default.
    Constant,
    /// The configured number of services.
    Services,
    /// The configured number of backends.
    Backends,
    /// The configured number of ring slots.
    RingSlots,
    /// The configured number of IPv4 flows: a bucket holds six, and is meant to hold fewer.
    FlowsV4,
    /// The configured number of IPv6 flows.
    FlowsV6,
    /// The number of IPv4 buckets.
    SpillsV4,
    /// The number of IPv6 buckets.
    SpillsV6,
}

/// A map of the packet path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Name in the object and in the pin folder.
    pub name: &'static str,
    /// What kind of map it is.
    pub kind: Kind,
    /// Type of its keys.
    pub key: &'static str,
    /// Size of a key in bytes; 0 for a ring buffer.
    pub key_size: usize,
    /// Type of its values.
    pub value: &'static str,
    /// Size of a value in bytes; 0 for a ring buffer, whose records the kernel does not know.
    pub value_size: usize,
    /// Default number of entries; for a ring buffer, its size in bytes.
    pub capacity: usize,
    /// What determines the number of entries.
    pub sized_by: SizedBy,
    /// What it holds.
    pub help: &'static str,
}

/// Size of what the kernel knows as values of a map of this kind.
const fn value_size<V>(kind: Kind) -> usize {
    if matches!(kind, Kind::RingBuf) {
        0
    } else {
        size_of::<V>()
    }
}

macro_rules! constants {
    ($( $kind:ident $name:ident: $key:ty => $value:ty [$capacity:expr, $sized_by:ident] $help:literal; )+) => {
        $(
            #[doc = $help]
            pub const $name: Map = Map {
                name: stringify!($name),
                kind: Kind::$kind,
                key: stringify!($key),
                key_size: size_of::<$key>(),
                value: stringify!($value),
                value_size: value_size::<$value>(Kind::$kind),
                capacity: $capacity,
                sized_by: SizedBy::$sized_by,
                help: $help,
            };
        )+

        /// Every map of the packet path.
        pub const ALL: &[Map] = &[ $( $name, )+ ];
    };
}

for_each_map!(constants);

/// Index in the map `PROGRAMS`: the slow path of IPv4 packets.
pub const SLOW_V4: u32 = 0;
/// Index in the map `PROGRAMS`: the slow path of IPv6 packets.
pub const SLOW_V6: u32 = 1;
/// Index in the map `PROGRAMS`: packets of this link that can be about VRRP, or about the owner of
/// an address.
pub const VRRP: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of a map in the reference.
    fn row(map: &Map) -> std::string::String {
        let capacity = match map.sized_by {
            SizedBy::Constant => std::format!("{}", map.capacity),
            SizedBy::Services => "`capacity.services`".into(),
            SizedBy::Backends => "`capacity.backends`".into(),
            SizedBy::RingSlots => "`capacity.ring_slots`".into(),
            SizedBy::FlowsV4 | SizedBy::SpillsV4 => "from `capacity.flows_v4`".into(),
            SizedBy::FlowsV6 | SizedBy::SpillsV6 => "from `capacity.flows_v6`".into(),
        };
        let Map {
            name,
            kind,
            key,
            value,
            help,
            ..
        } = map;
        let [key, value] = [key, value].map(|name| name.replace(' ', ""));
        std::format!("| `{name}` | {kind:?} | `{key}` | `{value}` | {capacity} | {help} |\n")
    }

    #[test]
    fn the_reference_lists_every_map() {
        let reference = include_str!("../../docs/maps.md");
        let rows: std::string::String = ALL.iter().map(row).collect();
        assert!(
            reference.contains(&rows),
            "docs/maps.md needs these rows, in this order:\n{rows}"
        );
    }
}
