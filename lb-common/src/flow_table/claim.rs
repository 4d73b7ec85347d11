//! Entering a new entry.

use super::{
    Binding, Cells, Hit, Layout, Meta, Record, SLOTS,
    find::{CANDIDATES, Slots, is_free, is_zero, read},
};
use crate::{
    family::Family,
    flow::{Phase, Ports, Tally},
};

/// An entry that shall be entered.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<F: Family> {
    /// What its meta word says.
    pub record: Record,
    /// The client's address.
    pub address: F::Address,
    /// The ports of the client's packets.
    pub ports: Ports,
    /// What it is bound to.
    pub binding: Binding,
}

/// An entry that is announced: others see it and respect it, nobody follows it. It is the claimer's to [`commit`] or to
/// [`withdraw`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whether it stands in the second bucket.
    pub second: bool,
    /// Where in its bucket.
    pub slot: usize,
    /// The meta word that it shall have.
    pub meta: Meta,
}

/// Why an entry was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No way is free, and no entry may give way.
    Full,
    /// The same 5-tuple is there.
    Exists,
    /// Another CPU was about to enter the same 5-tuple, or took the way first.
    Raced,
}

/// How full the first bucket may be before the second one is looked at.
const CROWDED: usize = 4;

/// Takes a way for `new` in one of its two buckets, writes it there and announces it. `expiry` is the silence in ticks
/// after which any entry may give way; 0 for never. `spill` marks the first bucket as [spilled](super::spill).
///
/// The entry that gave way is written to `evicted`, also where the result is an error; otherwise that becomes free. Whoever
/// evicts an entry takes it out of the counts, and its other direction out of the table.
///
/// # Errors
///
/// When no way can be had, see [`Refused`].
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

/// Whether a bucket has another entry for the 5-tuple of an announced one. To be asked of the first bucket, and of the second
/// one where the first has spilled.
///
/// `mine` is the way of the announced entry, or [`SLOTS`] in the other bucket. `difference` is zero for a way that may
/// hold the same 5-tuple, and `is_other` says of an entry, live or announced, whether it does.
#[inline(always)]
pub fn conflict<F: Layout, C: Cells>(
    cells: C,
    mine: usize,
    difference: impl Fn(usize) -> u64,
    is_other: impl Fn(&Hit<F>) -> bool,
) -> Option<Refused> {
    let mut slots = Slots::equal::<C>(|slot| difference(slot) | is_free::<F, C>(cells, slot)).without(mine);
    let mut turn = 0;
    // The announced one would be the last that look-ups look at.
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
    // More look right than look-ups look at.
    slots.pop::<C>().map(|_| Refused::Raced)
}

/// Lets an announced entry go live.
#[inline(always)]
pub fn commit<F: Layout, C: Cells>(cells: C, slot: usize, meta: Meta) {
    cells.store_u64(F::meta(slot), meta.0);
}

/// Takes an announced entry back.
#[inline(always)]
pub fn withdraw<F: Layout, C: Cells>(cells: C, slot: usize, meta: Meta) {
    cells.store_u64(F::meta(slot), meta.freed().0);
}

/// Takes a way for one claimer alone: a free one, or that of an entry that gives way.
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

/// A free way, and how many are not free. Without branches, of which the kernel's verifier would follow every mix.
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

/// The entry that gives way first: its bucket and way.
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

/// How readily an entry gives way: closed before embryonic before expired ones, and the silent before the lively; 0 for
/// one that stays. Without branches.
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
    // A packet may have come after `now` was read.
    let is_past = C::opaque(idle.wrapping_sub(Meta::TICKS as u64 / 2 + 1)) >> 63;
    let idle = idle * is_past;
    let class = CLASSES >> (4 * meta.phase_bits()) & 0xf;
    let is_expired = (C::opaque((expiry as u64).wrapping_sub(idle)) >> 63) * (1 - is_zero::<C>(expiry as u64));
    let stays = is_zero::<C>(class) + is_zero::<C>(class ^ EXPIRES) * (1 - is_expired);
    (class << 32 | idle) * (1 - stays)
}
