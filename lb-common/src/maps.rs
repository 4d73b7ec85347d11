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
    SERVICES = 4096, "services by index";
    SERVICE_STATES = 4096, "what the packet path changes of a service";
    RINGS = 1 << 18, "the rings of all services, one behind the other";
    BACKENDS = 16384, "backends by index";
    BACKEND_LOADS = 16384, "flows of each backend now";
    BACKEND_COUNTERS = 16384, "packets and bytes of each backend, per CPU";
    NEXT_HOPS = 16384, "resolved next hops by index";
    FLOWS_V4 = 1 << 20, "IPv4 flows, two entries a flow";
    FLOWS_V6 = 1 << 18, "IPv6 flows, two entries a flow";
    OUTCOMES = crate::Outcome::ALL.len(), "packets by outcome, per CPU";
    PUNTS = 1 << 18, "packets for the controller to send";
}
