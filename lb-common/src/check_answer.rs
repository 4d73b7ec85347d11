//! Responses to health checks that are sent to a virtual address through one worker.
//!
//! The controller's sockets are connected to a *placeholder* address instead of the virtual one.
//! Otherwise the kernel would deliver their packets locally if the virtual address is its own, and
//! would drop the worker's responses as forged.

use crate::abi_struct;

/// How many connections of checks there can be; the oldest are evicted.
pub const CAPACITY: usize = 16_384;

/// Name of the map of expected responses.
pub const MAP: &str = "ANSWERS";

abi_struct! {
    /// The connection of a check, by the addresses and ports of its responses.
    pub struct AnswerKey {
        /// Source of responses, the virtual address, in words in network byte order; IPv4 uses the
        /// first.
        pub source: [u32; 4],
        /// Source port, in network byte order.
        pub source_port: u16,
        /// Destination port, that of the check's socket, in network byte order.
        pub destination_port: u16,
        /// Address family: 4 or 6.
        pub family: u8,
        /// IP protocol.
        pub protocol: u8,
        /// Always zero.
        pub reserved: u16,
    }
}

abi_struct! {
    /// What the program does with a response.
    pub struct Answer {
        /// The placeholder, which becomes the source address, in words in network byte order; IPv4
        /// uses the first.
        pub placeholder: [u32; 4],
        /// Index of the interface that receives it.
        pub interface: u32,
    }
}
