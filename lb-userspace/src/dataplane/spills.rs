//! Spill marks: which buckets may have entries in their second bucket, and when marks are cleared.
//! See [`lb_common::flow_table::spill`].

use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::{Settings, flow_table::Spills, maps};

use super::{Access, DataplaneError, Pins, SharedArray, Tables, rcu, tables};

impl Tables {
    /// The number of marked buckets, and of all buckets.
    pub fn spilled_buckets(&self) -> (u64, u64) {
        let mark = self.spill_mark();
        let marked = self.spills.iter().map(|spills| spills.count(mark)).sum();
        let [v4, v6] = self.bucket_counts();
        (marked, u64::from(v4) + u64::from(v6))
    }

    /// Sets the marks anew: only buckets with an entry in another bucket keep one. Reads the whole
    /// table and waits for packets in flight. No packet waits.
    pub fn renew_spills(&self) {
        let Some(settings) = self.settings.read(0) else { return };
        let other = (settings.spill_mark & 1) ^ 1;
        for spills in &self.spills {
            spills.clear(other);
        }
        // A packet that set a mark before has written its entry by now, so the walk finds it.
        rcu::wait_for_packets_in_flight();
        self.for_each_spilled(|is_v6, first| self.spills[usize::from(is_v6)].set(other, first));
        self.settings.update(
            0,
            &Settings {
                spill_mark: other,
                ..settings
            },
        );
        // The next renewal clears the other mark.
        rcu::wait_for_packets_in_flight();
    }

    /// Clears all marks, for a table without entries.
    pub(super) fn clear_spills(&self) {
        for spills in &self.spills {
            spills.clear(0);
            spills.clear(1);
        }
    }

    fn spill_mark(&self) -> u32 {
        self.settings.read(0).map_or(0, |settings| settings.spill_mark & 1)
    }
}

/// Sets all marks, for a table that was filled by a version without marks.
pub(super) fn mark_all(pins: &Pins) -> Result<(), DataplaneError> {
    for map in [maps::SPILLS_V4, maps::SPILLS_V6] {
        let spills: SharedArray<Spills> = tables::shared(pins, map, Access::Write)?;
        for mark in 0..2 {
            for word in spills.marks(mark) {
                word.store(u64::MAX, Ordering::SeqCst);
            }
        }
    }
    Ok(())
}

impl SharedArray<Spills> {
    fn marks(&self, mark: u32) -> impl Iterator<Item = &AtomicU64> {
        (0..self.len()).filter_map(move |index| self.words(index)?.get(mark as usize))
    }

    fn clear(&self, mark: u32) {
        for word in self.marks(mark) {
            word.store(0, Ordering::SeqCst);
        }
    }

    fn count(&self, mark: u32) -> u64 {
        let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
        self.marks(mark).map(ones).sum()
    }

    fn set(&self, mark: u32, bucket: u32) {
        let (index, bit) = Spills::place(bucket);
        if let Some(word) = self.words(index).and_then(|words| words.get(mark as usize)) {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }
}
