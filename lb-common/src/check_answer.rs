//! Answers to health checks that ask a virtual address by way of one worker.
//!
//! The controller's sockets are connected to a *stand-in* address in place of the virtual one, so that the kernel neither
//! keeps their packets, when the virtual address is its own, nor takes the worker's answers for forged.

use crate::abi_struct;

/// How many connections of checks can be under way; the oldest give way.
pub const CAPACITY: usize = 16_384;

/// Name of the map of answers that are waited for.
pub const MAP: &str = "ANSWERS";

abi_struct! {
    /// A connection of a check, as its answers name it.
    pub struct AnswerKey {
        /// Source of answers, the virtual address, in words as they lie in memory; IPv4 uses the first.
        pub source: [u32; 4],
        /// Source port as it lies in memory.
        pub source_port: u16,
        /// Destination port, which is the check's own, as it lies in memory.
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
    /// What becomes of such an answer.
    pub struct Answer {
        /// Its source from then on, in words as they lie in memory; IPv4 uses the first.
        pub stand_in: [u32; 4],
        /// The interface that it is received by from then on.
        pub interface: u32,
    }
}
