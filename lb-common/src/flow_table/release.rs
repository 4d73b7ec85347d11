//! Changes and ends entries.

use super::{Cells, Hit, Layout, Meta};
use crate::flow::Phase;

/// The phases of an entry before and after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Before.
    pub before: Phase,
    /// After.
    pub after: Phase,
}

/// How often a lost race is repeated. A loss means that another CPU changed the same entry at the
/// same moment.
const TRIES: u32 = 4;

/// Notes a packet: its time, and the phase that `after` returns for the present one. `None` if the
/// entry has ended, or every repetition lost a race.
#[inline(always)]
pub fn touch<F: Layout, C: Cells>(cells: C, hit: &Hit<F>, now: u32, after: impl Fn(Phase) -> Phase) -> Option<Touched> {
    let offset = hit.meta_offset()?;
    let mut meta = hit.meta;
    let mut turn = 0;
    while turn < TRIES {
        let before = meta.phase();
        let after = after(before);
        let touched = meta.touched(after, now);
        if touched == meta || cells.swap_u64(offset, meta.0, touched.0) {
            return Some(Touched { before, after });
        }
        meta = Meta(cells.load_u64(offset));
        if !meta.is_live() || !meta.is_same(hit.meta) {
            return None;
        }
        turn += 1;
    }
    None
}

/// Ends an entry. Returns its last meta word; `None` if it had ended.
#[inline(always)]
pub fn release<F: Layout, C: Cells>(cells: C, hit: &Hit<F>) -> Option<Meta> {
    let offset = hit.meta_offset()?;
    let mut meta = hit.meta;
    let mut turn = 0;
    while turn < TRIES {
        if cells.swap_u64(offset, meta.0, meta.freed().0) {
            return Some(meta);
        }
        meta = Meta(cells.load_u64(offset));
        if !meta.is_live() || !meta.is_same(hit.meta) {
            return None;
        }
        turn += 1;
    }
    None
}
