//! Packets that the packet path hands to the controller, because their next hop is not resolved yet.

use crate::abi_struct;

/// The largest frame that can be handed over, in bytes from the IP header on.
pub const MAX_PACKET: usize = 2048 - size_of::<PuntHeader>();

abi_struct! {
    /// What stands before the packet in a record of the map `PUNTS`.
    pub struct PuntHeader {
        /// Address family: 4 or 6.
        pub family: u32,
        /// Length of the packet that follows, in bytes, from the IP header on.
        pub length: u32,
    }
}

abi_struct! {
    /// A record of the map `PUNTS`.
    pub struct PuntRecord {
        /// What it is, and how long.
        pub header: PuntHeader,
        /// The packet, from the IP header on; bytes behind its length mean nothing.
        pub packet: [u8; MAX_PACKET],
    }
}
