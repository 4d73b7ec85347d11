//! Creates an entry: reserve, conflict, commit.

use super::{
    Binding, Cells, Hit, Layout, Meta, Record, SLOTS,
    find::{CANDIDATES, Slots, is_free, is_zero, read},
};
use crate::{
    family::Family,
    flow::{Phase, Ports, Tally},
};

/// A new entry.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<F: Family> {
    /// The content of its meta word.
    pub record: Record,
    /// The client's address.
    pub address: F::Address,
    /// The ports of the client's packets.
    pub ports: Ports,
    /// Its NAT binding and client hop.
    pub binding: Binding,
}

/// A reserved entry: other claimers see it, readers do not follow it. The claimer must [`commit`]
/// or [`withdraw`] it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whether it is in the second bucket.
    pub second: bool,
    /// Its slot in the bucket.
    pub slot: usize,
    /// The meta word that it gets when it is committed.
    pub meta: Meta,
}

/// Why an entry was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No slot is free, and no entry can be evicted.
    Full,
    /// The 5-tuple has an entry.
    Exists,
    /// Another CPU was creating the same 5-tuple, or took the slot first.
    Raced,
}

/// How many used slots of the first bucket make the claimer compare the second bucket.
const CROWDED: usize = 4;

/// Reserves a slot for `new` in one of its two buckets and writes it there. `expiry` is the idle
/// time in ticks after which any entry can be evicted; 0 for never. `spill` marks the first bucket
/// as [spilled](super::spill).
///
/// The evicted entry is written to `evicted`, also if the result is an error; else `evicted`
/// becomes free. The caller must remove an evicted entry from the counts, and its other direction
/// from the table.
///
/// # Errors
///
/// When no slot can be reserved, see [`Refused`].
#[inline(always)]
pub fn reserve<F: Layout, C: Cells>(
    buckets: [C; 2],
    new: &NewEntry<F>,
    expiry: u32,
    evicted: &mut Hit<F>,
    spill: impl FnOnce(),
) -> Result<Reserved, Refused> {
    evicted.meta = Meta(0);
    let (second, slot, claimed) = take::<F, C>(buckets, new.record.now, expiry, evicted)?;
    if second {
        spill();
    }
    let cells = buckets[second as usize];
    F::store_key(cells, slot, &new.address, new.ports);
    cells.store_u32(F::binding(slot), new.binding.0);
    cells.swap_u64(F::meta(slot), claimed.0, claimed.pending(&new.record).0);
    cells.fence();
    Ok(Reserved {
        second,
        slot,
        meta: claimed.entry(&new.record),
    })
}

/// Whether a bucket has another entry for the 5-tuple of a reserved one. To be called for the first
/// bucket, and for the second one if the first has spilled.
///
/// `own` is the slot of the reserved entry, or [`SLOTS`] in the other bucket. `difference` is zero
/// for a slot that can have the same 5-tuple; `is_other` returns whether an entry, live or pending,
/// has it.
#[inline(always)]
pub fn conflict<F: Layout, C: Cells>(
    cells: C,
    own: usize,
    difference: impl Fn(usize) -> u64,
    is_other: impl Fn(&Hit<F>) -> bool,
) -> Option<Refused> {
    let mut slots = Slots::equal::<C>(|slot| difference(slot) | is_free::<F, C>(cells, slot)).without(own);
    let mut turn = 0;
    // The reserved entry must still be among those that look-ups read.
    while turn < CANDIDATES - 1 {
        let (slot, others) = slots.pop::<C>()?;
        let meta = Meta(cells.load_u64(F::meta(slot)));
        if meta.is_visible() {
            let (address, ports) = F::load_key(cells, slot);
            let hit = Hit {
                slot,
                meta,
                binding: Binding(cells.load_u32(F::binding(slot))),
                address,
                ports,
            };
            if is_other(&hit) {
                return Some(if meta.is_live() {
                    Refused::Exists
                } else {
                    Refused::Raced
                });
            }
        }
        slots = others;
        turn += 1;
    }
    // More slots match than look-ups read.
    slots.pop::<C>().map(|_| Refused::Raced)
}

/// Makes a reserved entry live.
#[inline(always)]
pub fn commit<F: Layout, C: Cells>(cells: C, slot: usize, meta: Meta) {
    cells.store_u64(F::meta(slot), meta.0);
}

/// Frees the slot of a reserved entry.
#[inline(always)]
pub fn withdraw<F: Layout, C: Cells>(cells: C, slot: usize, meta: Meta) {
    cells.store_u64(F::meta(slot), meta.freed().0);
}

/// Takes a slot for one claimer: a free one, or that of an evicted entry.
#[inline(always)]
fn take<F: Layout, C: Cells>(
    buckets: [C; 2],
    now: u32,
    expiry: u32,
    evicted: &mut Hit<F>,
) -> Result<(bool, usize, Meta), Refused> {
    let (mut free, mut used) = vacancy::<F, C>(buckets[0]);
    let mut second = false;
    if used >= CROWDED {
        let (other_free, other_used) = vacancy::<F, C>(buckets[1]);
        if other_used < used {
            (free, used, second) = (other_free, other_used, true);
        }
    }
    if used < SLOTS && free < SLOTS {
        let slot = free;
        let cells = buckets[second as usize];
        let old = Meta(cells.load_u64(F::meta(slot)));
        let claimed = old.claimed();
        if old.is_free() && cells.swap_u64(F::meta(slot), old.0, claimed.0) {
            return Ok((second, slot, claimed));
        }
        return Err(Refused::Raced);
    }
    let Some((second, slot)) = victim::<F, C>(buckets, now, expiry) else {
        return Err(Refused::Full);
    };
    let cells = buckets[second as usize];
    let Some(victim) = read::<F, C>(cells, slot) else {
        return Err(Refused::Raced);
    };
    let claimed = victim.meta.claimed();
    if rank::<C>(victim.meta, now, expiry) > 0 && cells.swap_u64(F::meta(slot), victim.meta.0, claimed.0) {
        *evicted = victim;
        return Ok((second, slot, claimed));
    }
    Err(Refused::Raced)
}

/// A free slot, and the number of used ones. Without branches: the kernel's verifier would follow
/// all combinations.
#[inline(always)]
fn vacancy<F: Layout, C: Cells>(cells: C) -> (usize, usize) {
    let mut free = 0_u64;
    let mut vacant = 0_u64;
    let mut slot = SLOTS;
    while slot > 0 {
        slot -= 1;
        let is_free = is_zero::<C>(Meta(cells.load_u64(F::meta(slot))).phase_bits());
        free = free.wrapping_add(is_free.wrapping_mul((slot as u64).wrapping_sub(free)));
        vacant += is_free;
    }
    (C::opaque(free) as usize, SLOTS - C::opaque(vacant) as usize)
}

/// The entry to evict: its bucket and slot.
#[inline(always)]
fn victim<F: Layout, C: Cells>(buckets: [C; 2], now: u32, expiry: u32) -> Option<(bool, usize)> {
    let mut best = 0_u64;
    let mut turn = 0;
    while turn < 2 * SLOTS {
        let (second, slot) = if turn < SLOTS { (0, turn) } else { (1, turn - SLOTS) };
        let rank = rank::<C>(Meta(buckets[second].load_u64(F::meta(slot))), now, expiry);
        // The larger of both, without a branch. A rank is below 2^40.
        let candidate = rank << 4 | turn as u64;
        let is_larger = C::opaque(best.wrapping_sub(candidate)) >> 63;
        best = best.wrapping_add(is_larger.wrapping_mul(candidate.wrapping_sub(best)));
        turn += 1;
    }
    let best = C::opaque(best);
    let turn = (best & 0xf) as usize;
    if best >> 4 == 0 || turn >= 2 * SLOTS {
        None
    } else if turn < SLOTS {
        Some((false, turn))
    } else {
        Some((true, turn - SLOTS))
    }
}

/// The rank of an entry for eviction: closed before half-open before expired ones, and long idle
/// before recently used ones; 0: never. Without branches.
#[inline(always)]
fn rank<C: Cells>(meta: Meta, now: u32, expiry: u32) -> u64 {
    const EXPIRES: u64 = 1;
    const fn class(phase: u64) -> u64 {
        if phase == 0 || phase > Phase::ALL.len() as u64 {
            return 0;
        }
        match Phase::from_number(phase as u32).tally() {
            Tally::None => 3,
            Tally::Embryonic => 2,
            Tally::Active => EXPIRES,
        }
    }
    /// The classes of all values of the phase's bits, four bits each.
    const CLASSES: u64 = {
        let mut classes = 0;
        let mut phase = 0;
        while phase < 16 {
            classes |= class(phase) << (4 * phase);
            phase += 1;
        }
        classes
    };
    let idle = (now as u64).wrapping_sub(meta.last_seen() as u64) & Meta::TICKS as u64;
    // A packet can have arrived after `now` was read.
    let is_past = C::opaque(idle.wrapping_sub(Meta::TICKS as u64 / 2 + 1)) >> 63;
    let idle = idle * is_past;
    let class = CLASSES >> (4 * meta.phase_bits()) & 0xf;
    let is_expired = (C::opaque((expiry as u64).wrapping_sub(idle)) >> 63) * (1 - is_zero::<C>(expiry as u64));
    let stays = is_zero::<C>(class) + is_zero::<C>(class ^ EXPIRES) * (1 - is_expired);
    (class << 32 | idle) * (1 - stays)
}
