//! Spill marks: which buckets can have entries in their second bucket.

use lb_common::flow_table::Spills;

use crate::{
    bpf::{atomic, maps::settings},
    family::Tables,
};

/// Marks a bucket.
#[inline(always)]
pub fn mark<F: Tables>(bucket: u32) {
    let (index, bit) = Spills::place(bucket);
    if let Some(spills) = F::spills(index) {
        // SAFETY: a pointer to a map value.
        let marks = unsafe { &raw mut (*spills).marks }.cast::<u64>();
        atomic::or_u64(marks, bit);
        // SAFETY: the second of two words.
        atomic::or_u64(unsafe { marks.add(1) }, bit);
    }
}

/// Whether a bucket is marked: a look-up must read the second bucket too.
#[inline(always)]
pub fn is_marked<F: Tables>(bucket: u32) -> bool {
    let (index, bit) = Spills::place(bucket);
    let turn = settings().map_or(0, |settings| {
        // SAFETY: a reference to a map value that the controller changes by whole words.
        unsafe { core::ptr::read_volatile(&raw const settings.spill_mark) }
    });
    F::spills(index).is_none_or(|spills| {
        // SAFETY: as above.
        let marks =
            unsafe { core::ptr::read_volatile((&raw const (*spills).marks).cast::<u64>().add((turn & 1) as usize)) };
        marks & bit != 0
    })
}
