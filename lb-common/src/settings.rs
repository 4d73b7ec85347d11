//! Settings of the node, for the packet path.

use crate::abi_struct;

abi_struct! {
    /// The only entry of the map `SETTINGS`. The controller writes it before it attaches the
    /// program.
    pub struct Settings {
        /// Secret seed of the hash that places flows in the flow table. Constant as long as the
        /// flow table exists.
        pub hash_seed: u64,
        /// First port of NAT bindings, in the host's byte order.
        pub nat_port_low: u16,
        /// Last port of NAT bindings, in the host's byte order.
        pub nat_port_high: u16,
        /// Shift from the kernel's jiffies to a [`tick`](crate::flow::tick), in bits.
        pub tick_shift: u32,
        /// Idle time in ticks after which a flow can be evicted for a new one; 0 for never.
        pub expiry: u32,
        /// Which of the two [marks](crate::flow_table::Spills) of a bucket is read: 0 or 1.
        pub spill_mark: u32,
        /// The kernel's jiffies when its monotonic clock was zero, modulo 2^64.
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
