//! Decides when a wrong flow counter is corrected. Pure.

use std::collections::HashMap;

/// Consecutive sweeps in which a counter must be wrong by the same amount before it is corrected.
/// Packets that arrive during a sweep make the counts differ by a few, and now and then by the same
/// few as in the sweep before.
const SWEEPS: u32 = 8;

/// By how much counters were wrong in the last sweep, and in how many consecutive sweeps, by index.
#[derive(Debug, Default)]
pub struct Drift<T>(HashMap<u32, (T, u32)>);

impl<T: Copy + Default + PartialEq> Drift<T> {
    /// Takes the differences of one sweep, by index. Returns those to add to the counters now.
    pub fn due(&mut self, differences: impl IntoIterator<Item = (u32, T)>) -> Vec<(u32, T)> {
        let before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for (index, off) in differences {
            if off == T::default() {
                continue;
            }
            let sweeps = match before.get(&index) {
                Some((known, sweeps)) if *known == off => sweeps + 1,
                _ => 1,
            };
            if sweeps >= SWEEPS {
                due.push((index, off));
            } else {
                self.0.insert(index, (off, sweeps));
            }
        }
        due
    }
}

/// What must be added to a counter to get what was counted. The counter wraps: a negative one is
/// stored as a very large number.
pub fn difference(counted: i64, stored: u32) -> i64 {
    counted - i64::from(stored as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_corrected_after_eight_sweeps_with_the_same_difference() {
        let mut drift = Drift::default();
        for sweep in 1..SWEEPS {
            assert_eq!(drift.due([(3, -2), (4, 0)]), [], "{sweep}");
        }
        assert_eq!(drift.due([(3, -2), (4, 0)]), [(3, -2)]);
        assert_eq!(drift.due([(3, -2)]), [], "counted anew after a correction");
    }

    #[test]
    fn another_difference_or_a_right_counter_starts_again() {
        for interruption in [0, 5] {
            let mut drift = Drift::default();
            for _ in 1..SWEEPS {
                drift.due([(3, -2)]);
            }
            assert_eq!(drift.due([(3, interruption)]), []);
            assert_eq!(drift.due([(3, -2)]), [], "{interruption}");
        }
    }

    #[test]
    fn a_counter_below_zero_is_negative() {
        assert_eq!(difference(2, 5), -3);
        assert_eq!(difference(0, u32::MAX), 1);
    }
}
