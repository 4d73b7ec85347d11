//! Scratch memory of each CPU: the working memory of the slow path, because the stack is too small
//! for it.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use lb_common::{
    Family, FlowKey, V4, V6,
    flow_table::{Binding, Hit, Layout, Meta, NewEntry, Places},
};

use super::entry::Flow;
use crate::packet::parsed::Parsed;

/// An entry that is reserved in the flow table.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Reserved {
    /// The meta word that the entry gets.
    pub meta: Meta,
    /// The two buckets of its 5-tuple.
    pub places: Places,
    /// 1 where it is in the second bucket.
    pub second: u32,
    /// Its slot in the bucket.
    pub slot: u32,
}

impl Reserved {
    /// Index of its bucket.
    #[inline(always)]
    pub fn bucket(&self) -> u32 {
        if self.second != 0 {
            self.places.second
        } else {
            self.places.first
        }
    }
}

/// Index in [`Scratch::evicted`]: the entry that was evicted for the one that the client's packets
/// find.
pub const BY_FLOW: usize = 0;
/// Index in [`Scratch::evicted`]: the entry that was evicted for the one that the worker's replies
/// find.
pub const BY_REPLIES: usize = 1;

/// The backend for a packet.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Chosen {
    /// Index of the service.
    pub service: u32,
    /// Index of the backend.
    pub backend: u32,
    /// The NAT binding of the flow.
    pub binding: Binding,
    /// 1 where the packet needs an entry in the flow table.
    pub is_tracked: u32,
    /// 1 where this packet created its flow.
    pub is_entered: u32,
    /// 1 where the connection is not established yet.
    pub is_handshake: u32,
    /// 1 where the packet belongs to an established connection that moves, because its backend is
    /// down.
    pub is_moved: u32,
}

/// The scratch memory. It keeps the values of the packet before: everything is written before it is
/// read.
#[repr(C)]
pub struct Scratch<F: Layout> {
    /// The packet.
    pub parsed: Parsed<F>,
    /// The entry that the packet found, or that was created for it.
    pub flow: Flow<F>,
    /// The entry of the other direction.
    pub other: Flow<F>,
    /// The 5-tuple by which the entry of the other direction is found.
    pub other_key: FlowKey<F>,
    /// The new flow.
    pub new: NewEntry<F>,
    /// The 5-tuple of the replies of the new flow.
    pub reply_key: FlowKey<F>,
    /// The entries that were evicted for those of the new flow, at [`BY_FLOW`] and [`BY_REPLIES`];
    /// free where none was.
    pub evicted: [Hit<F>; 2],
    /// The entry that is reserved.
    pub reserved: Reserved,
    /// The entry for the replies of the new flow, as it was committed; only in modes that
    /// translate.
    pub replies: Reserved,
    /// Headers that are moved: Ethernet with two tags, IPv6 and TCP.
    pub headers: [u8; 96],
    /// The backend that was chosen.
    pub chosen: Chosen,
}

#[btf_map]
static SCRATCH_V4: PerCpuArray<Scratch<V4>, 1> = PerCpuArray::new();
#[btf_map]
static SCRATCH_V6: PerCpuArray<Scratch<V6>, 1> = PerCpuArray::new();

/// The scratch memory of this CPU.
#[inline(always)]
pub fn scratch<F: Layout>() -> Option<&'static mut Scratch<F>> {
    let scratch: *mut Scratch<F> = if F::NUMBER == V4::NUMBER {
        SCRATCH_V4.get_ptr_mut(0)?.cast()
    } else {
        SCRATCH_V6.get_ptr_mut(0)?.cast()
    };
    // SAFETY: the entry is this CPU's own, XDP programs of one CPU do not interrupt each other, and
    // the type is that of the family's map.
    Some(unsafe { &mut *scratch })
}
