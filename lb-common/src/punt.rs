//! Punted packets: handed to the controller, because their next hop is not resolved.

use crate::abi_struct;

/// The largest packet that can be punted, in bytes from the IP header on.
pub const MAX_PACKET: usize = 2048 - size_of::<PuntHeader>();

abi_struct! {
    /// The header of a record of the map `PUNTS`.
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
        /// Family and length.
        pub header: PuntHeader,
        /// The packet, from the IP header on; bytes after its length are undefined.
        pub packet: [u8; MAX_PACKET],
    }
}
