//! Names and default sizes of all maps.

macro_rules! maps {
    ($( $constant:ident = $capacity:expr, $help:literal; )+) => {
        $(
            #[doc = $help]
            pub const $constant: Map = Map { name: stringify!($constant), capacity: $capacity, help: $help };
        )+

        /// Every map of the packet path.
        pub const ALL: &[Map] = &[ $( $constant, )+ ];
    };
}

/// A map of the packet path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Name in the object and in the pin folder.
    pub name: &'static str,
    /// Default number of entries; for a ring buffer, its size in bytes.
    pub capacity: usize,
    /// What it holds.
    pub help: &'static str,
}

maps! {
    SERVICES_V4 = 4096, "index of a service by IPv4 address, port and protocol";
    SERVICES_V6 = 4096, "index of a service by IPv6 address, port and protocol";
    PORT_RANGES_V4 = 4096, "index of a service with several ports by IPv4 address, protocol and leading bits of the port";
    PORT_RANGES_V6 = 4096, "index of a service with several ports by IPv6 address, protocol and leading bits of the port";
    ADDRESS_CLASSES = crate::address_class::WORDS, "what an address may be, by its hash: eight in an entry";
    SETTINGS = 1, "what the packet path knows of the node as a whole";
    SERVICES = 4096, "services by index";
    SERVICE_STATES = 4096, "what the packet path changes of a service";
    RINGS = 1 << 20, "the rings of all services, one behind the other";
    BACKENDS = 16384, "backends by index";
    BACKEND_LOADS = 16384, "flows of each backend now";
    BACKEND_SIGNALS = 16384, "how each backend answers SYNs, in modes whose answers pass here";
    BACKEND_COUNTERS = 16384, "packets and bytes of each backend, per CPU";
    NEXT_HOPS = 16384, "resolved next hops by index";
    FLOWS_V4 = 1 << 20, "IPv4 flows, in buckets of six entries";
    FLOWS_V6 = 1 << 18, "IPv6 flows, in buckets of six entries";
    SPILLS_V4 = crate::flow_table::spills_for(1 << 20) as usize, "which IPv4 buckets sent entries to others: 64 in an entry";
    SPILLS_V6 = crate::flow_table::spills_for(1 << 18) as usize, "which IPv6 buckets sent entries to others: 64 in an entry";
    CLIENT_HOPS = crate::flow_table::bind::HOPS, "where the packets of clients come from, so where answers go";
    FRAGMENTS_V4 = 16384, "ports of IPv4 packets that come in fragments";
    FRAGMENTS_V6 = 4096, "ports of IPv6 packets that come in fragments";
    GUARDS_V4 = 65536, "IPv4 sources that services take or refuse";
    GUARDS_V6 = 65536, "IPv6 sources that services take or refuse";
    RATES_V4 = 65536, "how often IPv4 sources began flows of a service lately";
    RATES_V6 = 65536, "how often IPv6 sources began flows of a service lately";
    OUTCOMES = crate::Outcome::ALL.len(), "packets by outcome, per CPU";
    EVENTS = crate::Event::ALL.len(), "what happened besides, per CPU";
    VIRTUAL_ROUTERS = 256, "virtual routers by index: the controller's lease, and adverts that were heard";
    ROUTER_IDS = 256, "index of a virtual router by interface, family and number";
    ROUTER_ADDRESSES = 5120, "index of a virtual router by interface and address";
    PROGRAMS = 3, "the programs that go on with packets that the first one leaves";
    PUNTS = 1 << 18, "packets for the controller to send";
}

/// Index in the map `PROGRAMS`: the slow way of IPv4 packets.
pub const SLOW_V4: u32 = 0;
/// Index in the map `PROGRAMS`: the slow way of IPv6 packets.
pub const SLOW_V6: u32 = 1;
/// Index in the map `PROGRAMS`: packets of this link that may be about VRRP, or about who has an address.
pub const VRRP: u32 = 2;
