//! When the next check of a backend is due. Random numbers come from a generator of its own.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::config::{BackendId, Timing};

/// The first checks of all targets spread over this time, or over the fast interval if that is
/// shorter.
const SPREAD: Duration = Duration::from_secs(1);

/// The shortest step of the grid that checks are aligned to. The step is a twentieth of the fast
/// interval.
const SHORTEST_STEP: Duration = Duration::from_millis(1);
/// The longest step of that grid.
const LONGEST_STEP: Duration = Duration::from_millis(20);

/// The times between checks of one target.
#[derive(Clone, Debug)]
pub struct ProbeSchedule {
    timing: Timing,
    random: u64,
}

impl ProbeSchedule {
    /// The schedule of a target. Its random numbers depend on the target only, so they differ
    /// between targets and do not change.
    pub fn new(id: &BackendId, timing: Timing) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self {
            timing,
            random: hasher.finish(),
        }
    }

    /// The time until the first check, counted from when the target was added.
    pub fn first(&mut self) -> Duration {
        let spread = self.timing.fast_interval.min(SPREAD);
        spread.mul_f64(self.fraction())
    }

    /// The time from the start of one check to the start of the next, with jitter. `is_changing`
    /// selects the fast interval.
    pub fn next(&mut self, is_changing: bool) -> Duration {
        let interval = if is_changing {
            self.timing.fast_interval
        } else {
            self.timing.interval
        };
        let jitter = f64::from(self.timing.jitter) / 100.0;
        interval.mul_f64(1.0 + jitter * (2.0 * self.fraction() - 1.0))
    }

    /// Delays a moment to the next point of a grid, so that the checks of many targets start
    /// together: waking the processor costs more than a check. `moment` counts from an epoch that
    /// all targets share.
    pub fn align(&self, moment: Duration) -> Duration {
        let step = (self.timing.fast_interval / 20)
            .clamp(SHORTEST_STEP, LONGEST_STEP)
            .as_nanos();
        Duration::from_nanos_u128(moment.as_nanos().div_ceil(step) * step)
    }

    /// A random number from 0 to 1, by the generator SplitMix64.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 32) as f64 / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(name: u32, jitter: u32) -> ProbeSchedule {
        let id = BackendId {
            service: "web".to_owned(),
            backend: name.to_string(),
        };
        let timing = Timing {
            interval: Duration::from_millis(1000),
            fast_interval: Duration::from_millis(100),
            jitter,
            timeout: Duration::from_millis(50),
        };
        ProbeSchedule::new(&id, timing)
    }

    #[test]
    fn first_checks_spread_over_the_interval() {
        let interval = Duration::from_millis(100);
        let offsets: Vec<_> = (0..100).map(|name| schedule(name, 0).first()).collect();
        assert!(offsets.iter().all(|offset| *offset <= interval));
        assert!(offsets.iter().filter(|offset| **offset < interval / 2).count() > 20);
        assert!(offsets.iter().filter(|offset| **offset > interval / 2).count() > 20);
    }

    #[test]
    fn checks_of_many_targets_are_aligned() {
        let milliseconds = Duration::from_millis;
        let schedule = schedule(1, 0);
        for (moment, then) in [(0, 0), (1, 5), (5, 5), (6, 10), (1001, 1005)] {
            assert_eq!(schedule.align(milliseconds(moment)), milliseconds(then), "{moment}");
        }
    }

    #[test]
    fn jitter_varies_intervals_in_both_directions_within_its_bounds() {
        for (is_changing, interval) in [(false, 1000_u64), (true, 100)] {
            assert_eq!(schedule(1, 0).next(is_changing), Duration::from_millis(interval));
            let mut schedule = schedule(1, 20);
            let times: Vec<_> = (0..1000).map(|_| schedule.next(is_changing)).collect();
            let bounds = Duration::from_millis(interval * 8 / 10)..=Duration::from_millis(interval * 12 / 10);
            assert!(times.iter().all(|time| bounds.contains(time)));
            let mean = times.iter().sum::<Duration>().as_secs_f64() / 1000.0;
            assert!((mean * 1000.0 / interval as f64 - 1.0).abs() < 0.02, "{mean}");
            assert!(
                times
                    .iter()
                    .any(|time| *time < Duration::from_millis(interval * 85 / 100))
            );
            assert!(
                times
                    .iter()
                    .any(|time| *time > Duration::from_millis(interval * 115 / 100))
            );
        }
    }
}
