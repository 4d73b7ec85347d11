//! Entering a new entry.

use super::{Bind, Cells, Hit, Layout, Meta, Record, Stage, WAYS, find::read};
use crate::{
    flow::{Ports, Tally},
    family::Family,
};

/// An entry that shall be entered.
#[derive(Clone, Copy, Debug)]
pub struct Claims<F: Family> {
    /// What its meta word says.
    pub record: Record,
    /// The client's address.
    pub address: F::Address,
    /// The ports of the client's packets.
    pub ports: Ports,
    /// What it is bound to.
    pub bind: Bind,
}

/// Where an entry went, and what gave way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed<F: Layout> {
    /// Whether it stands in the second bucket.
    pub second: bool,
    /// Where in its bucket, and as what.
    pub hit: Hit<F>,
    /// The entry that stood there before.
    pub evicted: Option<Evicted<F>>,
}

/// An entry that gave way. Whoever evicts an entry takes it out of the counts, and its other direction out of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted<F: Layout>(pub Hit<F>);

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

/// Enters `new` into one of its two buckets.
///
/// `is_other` says of an entry in them, live or pending, whether it is for the same 5-tuple; it is asked after it was
/// announced. `expiry` is the silence in ticks after which any entry may give way; 0 for never.
///
/// # Errors
///
/// See [`Refused`]; nothing was entered then. The entry that gave way meanwhile is returned beside.
#[inline(always)]
pub fn claim<F: Layout, C: Cells>(
    buckets: [C; 2],
    new: &Claims<F>,
    expiry: u32,
    is_other: impl Fn(&Hit<F>) -> bool,
) -> Result<Claimed<F>, (Refused, Option<Evicted<F>>)> {
    let (second, way, claimed, evicted) = match take(buckets, new.record.now, expiry) {
        Ok(taken) => taken,
        Err(refused) => return Err((refused, None)),
    };
    let cells = buckets[second as usize];
    F::store_key(cells, way, &new.address, new.ports);
    cells.store_u32(F::bind(way), new.bind.0);
    cells.swap_u64(F::meta(way), claimed.0, claimed.pending(&new.record).0);
    cells.fence();
    let mine = (second, way);
    if let Some(refused) = other(buckets, mine, &is_other) {
        cells.store_u64(F::meta(way), claimed.freed().0);
        return Err((refused, evicted));
    }
    let meta = claimed.entry(&new.record);
    cells.store_u64(F::meta(way), meta.0);
    Ok(Claimed {
        second,
        hit: Hit {
            way,
            meta,
            bind: new.bind,
            address: new.address,
            ports: new.ports,
        },
        evicted,
    })
}

type Taken<F> = (bool, usize, Meta, Option<Evicted<F>>);

/// Takes a way for one claimer alone: a free one, or that of an entry that gives way.
#[inline(always)]
fn take<F: Layout, C: Cells>(buckets: [C; 2], now: u32, expiry: u32) -> Result<Taken<F>, Refused> {
    let (mut free, mut used) = vacancy::<F, C>(buckets[0]);
    let mut second = false;
    if used >= CROWDED {
        let (other_free, other_used) = vacancy::<F, C>(buckets[1]);
        if other_used < used {
            (free, used, second) = (other_free, other_used, true);
        }
    }
    if used < WAYS {
        let way = free;
        let cells = buckets[second as usize];
        let old = Meta(cells.load_u64(F::meta(way)));
        let claimed = old.claimed();
        if old.is_free() && cells.swap_u64(F::meta(way), old.0, claimed.0) {
            return Ok((second, way, claimed, None));
        }
        return Err(Refused::Raced);
    }
    let Some((second, way)) = victim::<F, C>(buckets, now, expiry) else {
        return Err(Refused::Full);
    };
    let cells = buckets[second as usize];
    let Some(victim) = read::<F, C>(cells, way) else {
        return Err(Refused::Raced);
    };
    let claimed = victim.meta.claimed();
    if rank(victim.meta, now, expiry) > 0 && cells.swap_u64(F::meta(way), victim.meta.0, claimed.0) {
        return Ok((second, way, claimed, Some(Evicted(victim))));
    }
    Err(Refused::Raced)
}

/// The first free way, and how many are not free.
#[inline(always)]
fn vacancy<F: Layout, C: Cells>(cells: C) -> (usize, usize) {
    let mut free = 0;
    let mut used = 0;
    let mut way = WAYS;
    while way > 0 {
        way -= 1;
        if Meta(cells.load_u64(F::meta(way))).is_free() {
            free = way;
        } else {
            used += 1;
        }
    }
    (free, used)
}

/// The entry that gives way first: its bucket and way.
#[inline(always)]
fn victim<F: Layout, C: Cells>(buckets: [C; 2], now: u32, expiry: u32) -> Option<(bool, usize)> {
    let mut best = 0;
    let mut found = 0;
    let mut turn = 0;
    while turn < 2 * WAYS {
        let (second, way) = if turn < WAYS { (0, turn) } else { (1, turn - WAYS) };
        let rank = rank(Meta(buckets[second].load_u64(F::meta(way))), now, expiry);
        if rank > best {
            best = rank;
            found = turn;
        }
        turn += 1;
    }
    if best == 0 {
        None
    } else if found < WAYS {
        Some((false, found))
    } else {
        Some((true, found - WAYS))
    }
}

/// How readily an entry gives way: closed before embryonic before expired ones, and the silent before the lively; 0 for
/// one that stays.
#[inline(always)]
fn rank(meta: Meta, now: u32, expiry: u32) -> u64 {
    if !meta.is_live() {
        return 0;
    }
    let idle = meta.idle(now);
    let class = match meta.phase().tally() {
        Tally::None => 3,
        Tally::Embryonic => 2,
        Tally::Active if expiry != 0 && idle > expiry => 1,
        Tally::Active => return 0,
    };
    class << 32 | idle as u64
}

/// Whether another way has the same 5-tuple.
#[inline(always)]
fn other<F: Layout, C: Cells>(
    buckets: [C; 2],
    mine: (bool, usize),
    is_other: &impl Fn(&Hit<F>) -> bool,
) -> Option<Refused> {
    let mut turn = 0;
    while turn < 2 * WAYS {
        let (second, way) = if turn < WAYS { (false, turn) } else { (true, turn - WAYS) };
        turn += 1;
        if second == mine.0 && way == mine.1 {
            continue;
        }
        let cells = buckets[second as usize];
        let meta = Meta(cells.load_u64(F::meta(way)));
        if !meta.is_announced() {
            continue;
        }
        let (address, ports) = F::load_key(cells, way);
        let bind = Bind(cells.load_u32(F::bind(way)));
        let hit = Hit {
            way,
            meta,
            bind,
            address,
            ports,
        };
        if is_other(&hit) {
            return Some(match meta.stage() {
                Stage::Live(_) => Refused::Exists,
                _ => Refused::Raced,
            });
        }
    }
    None
}
