//! Fragments: the ports of the first one, kept for those that follow.

use crate::{abi_struct, flow::Ports};

abi_struct! {
    /// Key of the maps `FRAGMENTS_V4` and `FRAGMENTS_V6`: the fields that all fragments of a packet
    /// share.
    pub struct FragmentKey<F: Family> {
        /// Source address.
        pub source: F::Address,
        /// Destination address.
        pub destination: F::Address,
        /// Identification in network byte order; IPv4 uses the lower half.
        pub identification: u32,
        /// IP protocol.
        pub protocol: u8,
        /// Always zero.
        pub reserved: [u8; 3],
    }
}

abi_struct! {
    /// Value of the maps `FRAGMENTS_V4` and `FRAGMENTS_V6`.
    pub struct FragmentPorts {
        /// The ports, which only the first fragment carries.
        pub ports: Ports,
        /// Always zero.
        pub reserved: u32,
    }
}
