//! What the packet path knows of the node as a whole.

use crate::abi_struct;

abi_struct! {
    /// The only entry of the map `SETTINGS`. The controller writes it before it attaches the program.
    pub struct Settings {
        /// Secret that the places of flows in the table depend on. Never changes while the flow table lives.
        pub hash_seed: u64,
        /// First port that `nat` uses towards workers, in the host's byte order.
        pub nat_port_low: u16,
        /// Last port that `nat` uses towards workers, in the host's byte order.
        pub nat_port_high: u16,
        /// By how many bits the kernel's jiffies are shifted to give a [`tick`](crate::flow::tick).
        pub tick_shift: u32,
        /// Flows that were silent for longer, in ticks, may give way to new ones; 0 for never.
        pub expiry: u32,
        /// Which of the [marks](crate::flow_table::Spills) of buckets is read: 0 or 1.
        pub spill_mark: u32,
        /// What the kernel's jiffies were when its monotonic clock stood at zero, modulo 2^64.
        pub jiffies_base: u64,
        /// Number of buckets of `FLOWS_V4`.
        pub buckets_v4: u32,
        /// Number of buckets of `FLOWS_V6`.
        pub buckets_v6: u32,
        /// Jiffies of the kernel in a second.
        pub jiffies_per_second: u32,
        /// Always zero.
        pub reserved: u32,
    }
}
