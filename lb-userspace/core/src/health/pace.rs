//! When the next check of a backend is: pure, with random numbers of its own.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::config::BackendId;
use crate::config::Timing;

/// The first checks of all targets spread over this time, or over the interval if that is shorter.
const SPREAD: Duration = Duration::from_secs(1);

/// The distances between moments of checks that come together.
const FINEST: Duration = Duration::from_millis(1);
/// See [`FINEST`].
const COARSEST: Duration = Duration::from_millis(20);

/// The times between checks of one target.
#[derive(Clone, Debug)]
pub struct Pace {
    timing: Timing,
    random: u64,
}

impl Pace {
    /// Of this target; its random numbers are always the same, and differ from those of others.
    pub fn new(id: &BackendId, timing: Timing) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self {
            timing,
            random: hasher.finish(),
        }
    }

    /// How long after the start of the daemon, or of the target, its first check is.
    pub fn first(&mut self) -> Duration {
        let spread = self.timing.fast_interval.min(SPREAD);
        spread.mul_f64(self.fraction())
    }

    /// From the start of one check to the start of the next.
    pub fn next(&mut self, is_changing: bool) -> Duration {
        let interval = if is_changing {
            self.timing.fast_interval
        } else {
            self.timing.interval
        };
        let jitter = f64::from(self.timing.jitter) / 100.0;
        interval.mul_f64(1.0 + jitter * (2.0 * self.fraction() - 1.0))
    }

    /// Moves a moment, given by its distance from one that is the same for all targets, a little into the future, so that
    /// the checks of many targets come together: each time that the processor is woken costs more than a check.
    pub fn together(&self, moment: Duration) -> Duration {
        let grid = (self.timing.fast_interval / 20).clamp(FINEST, COARSEST).as_nanos();
        let moment = moment.as_nanos().div_ceil(grid) * grid;
        Duration::from_nanos_u128(moment)
    }

    /// From 0 to 1, by the generator SplitMix64.
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

    fn pace(name: u32, jitter: u32) -> Pace {
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
        Pace::new(&id, timing)
    }

    #[test]
    fn first_checks_spread_over_the_interval() {
        let interval = Duration::from_millis(100);
        let offsets: Vec<_> = (0..100).map(|name| pace(name, 0).first()).collect();
        assert!(offsets.iter().all(|offset| *offset <= interval));
        assert!(offsets.iter().filter(|offset| **offset < interval / 2).count() > 20);
        assert!(offsets.iter().filter(|offset| **offset > interval / 2).count() > 20);
    }

    #[test]
    fn checks_of_many_targets_come_together() {
        let milliseconds = Duration::from_millis;
        let pace = pace(1, 0);
        for (moment, then) in [(0, 0), (1, 5), (5, 5), (6, 10), (1001, 1005)] {
            assert_eq!(pace.together(milliseconds(moment)), milliseconds(then), "{moment}");
        }
    }

    #[test]
    fn intervals_vary_in_both_directions_as_far_as_they_may() {
        for (is_changing, interval) in [(false, 1000_u64), (true, 100)] {
            assert_eq!(pace(1, 0).next(is_changing), Duration::from_millis(interval));
            let mut pace = pace(1, 20);
            let times: Vec<_> = (0..1000).map(|_| pace.next(is_changing)).collect();
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
