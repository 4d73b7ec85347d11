//! Finds the entry of a 5-tuple in a bucket.

use super::{Binding, Cells, Layout, Meta, SLOTS};
use crate::{
    Be16,
    flow::{Direction, Ports},
};

/// An entry, as a look-up found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit<F: Layout> {
    /// Its slot in the bucket.
    pub slot: usize,
    /// Its meta word at that moment.
    pub meta: Meta,
    /// Its NAT binding and client hop.
    pub binding: Binding,
    /// The client's address.
    pub address: F::Address,
    /// The ports of the client's packets.
    pub ports: Ports,
}

impl<F: Layout> Hit<F> {
    /// No entry at all.
    pub const BLANK: Self = Self {
        slot: 0,
        meta: Meta(0),
        binding: Binding(0),
        address: F::UNSPECIFIED,
        ports: Ports(0),
    };

    /// Offset of its meta word. The comparison proves to the kernel's verifier that it is within
    /// the bucket.
    #[inline(always)]
    pub fn meta_offset(&self) -> Option<usize> {
        if self.slot < SLOTS {
            Some(F::meta(self.slot))
        } else {
            None
        }
    }

    /// Offset of its binding. As [`Hit::meta_offset`].
    #[inline(always)]
    pub fn binding_offset(&self) -> Option<usize> {
        if self.slot < SLOTS {
            Some(F::binding(self.slot))
        } else {
            None
        }
    }
}

/// 1 for zero, else 0, without a branch.
#[inline(always)]
pub(super) fn is_zero<C: Cells>(number: u64) -> u64 {
    C::opaque(number | number.wrapping_neg()) >> 63 ^ 1
}

/// Slots of a bucket, one bit each.
///
/// They are compared without branches: the slot of a flow is random, so branches would be
/// mispredicted, and the kernel's verifier would follow all combinations of them.
#[derive(Clone, Copy)]
pub(super) struct Slots(u64);

impl Slots {
    /// The slots for which `difference` is zero.
    #[inline(always)]
    pub(super) fn equal<C: Cells>(difference: impl Fn(usize) -> u64) -> Self {
        Self::between::<C>(0, SLOTS, &difference)
    }

    /// As [`Slots::equal`], but only of the first cache line if it has some: then the other lines
    /// are not loaded.
    #[inline(always)]
    fn nearest<C: Cells>(first_line: usize, difference: impl Fn(usize) -> u64) -> Self {
        let near = Self::between::<C>(0, first_line, &difference);
        if near.0 != 0 {
            near
        } else {
            Self::between::<C>(first_line, SLOTS, &difference)
        }
    }

    /// The slots from `start` to before `end`.
    #[inline(always)]
    fn between<C: Cells>(start: usize, end: usize, difference: &impl Fn(usize) -> u64) -> Self {
        let mut slots = 0;
        let mut slot = start;
        while slot < end {
            slots |= is_zero::<C>(difference(slot)) << slot;
            slot += 1;
        }
        Self(C::opaque(slots))
    }

    /// All but this slot.
    #[inline(always)]
    pub(super) fn without(self, slot: usize) -> Self {
        Self(self.0 & !(1 << (slot as u64 & 7)))
    }

    /// The first slot, and the others.
    #[inline(always)]
    pub(super) fn pop<C: Cells>(self) -> Option<(usize, Self)> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0 & self.0.wrapping_neg();
        // A de Bruijn sequence: the upper three of its eight bits differ for each place it is
        // shifted to.
        let place = (bit.wrapping_mul(0x17) & 0xff) >> 5;
        let slot = C::opaque(SLOT_AT_PLACE >> (4 * place)) as usize & 7;
        if slot < SLOTS {
            Some((slot, Self(self.0 & !bit)))
        } else {
            None
        }
    }
}

/// The slot for each value of the upper three bits of the de Bruijn sequence, four bits each.
const SLOT_AT_PLACE: u64 = 0x5030_4210;

const _: () = assert!(SLOTS == 6, "`Slots` is written for six");

/// How many matching slots of a bucket a look-up reads. More than one matches a client's packet
/// only if two flows differ in nothing but the virtual address; and a reply only if flows share the
/// port, which is rare unless all clients use one port.
pub(super) const CANDIDATES: u32 = 3;

/// Finds the entry of a client's packet with this source address and these ports, in the first slot
/// that matches.
///
/// The destination address is not part of an entry: `is` compares it by the backend.
#[inline(always)]
pub fn find<F: Layout, C: Cells>(
    cells: C,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let slots = Slots::nearest::<C>(F::FIRST_LINE, |slot| F::difference(cells, slot, address, ports));
    let (slot, _) = slots.pop::<C>()?;
    client(cells, slot, address, ports, udp, &mut is)
}

/// As [`find`], in all slots.
#[inline(always)]
pub fn search<F: Layout, C: Cells>(
    cells: C,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let mut slots = Slots::equal::<C>(|slot| F::difference(cells, slot, address, ports) | is_free::<F, C>(cells, slot));
    let mut turn = 0;
    while turn < CANDIDATES {
        let (slot, others) = slots.pop::<C>()?;
        if let Some(hit) = client(cells, slot, address, ports, udp, &mut is) {
            return Some(hit);
        }
        slots = others;
        turn += 1;
    }
    None
}

/// Finds the entry of a worker's reply to this port, in the first slot that matches. `is` compares
/// the rest of the 5-tuple.
#[inline(always)]
pub fn find_reply<F: Layout, C: Cells>(
    cells: C,
    port: Be16,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let slots = Slots::nearest::<C>(F::FIRST_LINE, |slot| port_difference::<F, C>(cells, slot, port));
    let (slot, _) = slots.pop::<C>()?;
    worker(cells, slot, port, udp, &mut is)
}

/// As [`find_reply`], in all slots.
#[inline(always)]
pub fn search_reply<F: Layout, C: Cells>(
    cells: C,
    port: Be16,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let mut slots = Slots::equal::<C>(|slot| port_difference::<F, C>(cells, slot, port) | is_free::<F, C>(cells, slot));
    let mut turn = 0;
    while turn < CANDIDATES {
        let (slot, others) = slots.pop::<C>()?;
        if let Some(hit) = worker(cells, slot, port, udp, &mut is) {
            return Some(hit);
        }
        slots = others;
        turn += 1;
    }
    None
}

/// Not zero for a free slot, which can still have the key of its last entry.
#[inline(always)]
pub(super) fn is_free<F: Layout, C: Cells>(cells: C, slot: usize) -> u64 {
    is_zero::<C>(Meta(cells.load_u64(F::meta(slot))).phase_bits())
}

/// Zero if the worker's replies go to this port.
#[inline(always)]
pub fn port_difference<F: Layout, C: Cells>(cells: C, slot: usize, port: Be16) -> u64 {
    (cells.load_u32(F::binding(slot)) ^ port.memory() as u32) as u64 & 0xffff
}

/// The live entry in a slot, consistent.
#[inline(always)]
pub fn read<F: Layout, C: Cells>(cells: C, slot: usize) -> Option<Hit<F>> {
    let before = Meta(cells.load_u64(F::meta(slot)));
    if !before.is_live() {
        return None;
    }
    let (address, ports) = F::load_key(cells, slot);
    let binding = Binding(cells.load_u32(F::binding(slot)));
    let meta = Meta(cells.load_u64(F::meta(slot)));
    (meta.is_live() && meta.is_same(before)).then_some(Hit {
        slot,
        meta,
        binding,
        address,
        ports,
    })
}

#[inline(always)]
fn client<F: Layout, C: Cells>(
    cells: C,
    slot: usize,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    is: &mut impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let hit = read::<F, C>(cells, slot)?;
    (hit.address == *address && hit.ports == ports && hit.meta.is_kind(udp, Direction::ToWorker) && is(&hit))
        .then_some(hit)
}

#[inline(always)]
fn worker<F: Layout, C: Cells>(
    cells: C,
    slot: usize,
    port: Be16,
    udp: bool,
    is: &mut impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let hit = read::<F, C>(cells, slot)?;
    (hit.binding.port() == port && hit.meta.is_kind(udp, Direction::ToClient) && is(&hit)).then_some(hit)
}
