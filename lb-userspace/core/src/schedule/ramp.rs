//! Slow start: the share of a backend that came up grows from a tenth to all of it.

use std::time::Duration;

use lb_common::Scheduler;

/// The first share of a ramp, in thousandths.
const FIRST: u32 = 100;
/// A full share, in thousandths.
const FULL: u32 = 1000;
/// Weights are multiplied by at most this factor during a ramp, so that it has steps.
const MOST_STEPS: u32 = 100;
/// Most slots that a ring of `round-robin` or `random` may get by that multiplication.
pub const LONGEST_RING: u64 = 8192;

/// The share of a backend that came up `elapsed` ago, in thousandths: linear from 100 to 1000 over
/// `length`.
pub fn share(elapsed: Duration, length: Duration) -> u32 {
    if elapsed >= length {
        return FULL;
    }
    let grown = elapsed.as_nanos() * u128::from(FULL - FIRST) / length.as_nanos().max(1);
    FIRST + u32::try_from(grown).unwrap_or(FULL - FIRST)
}

/// The weights of a service while some of its backends ramp up: `(weight, share)` in, weights in
/// the same order out.
///
/// - Without a ramp the weights stay unchanged.
/// - With one, all weights are multiplied, so that a tenth of weight 1 is an integer, as far as the
///   ring stays within [`LONGEST_RING`] slots or is no longer than without a ramp.
/// - A weight above 0 stays at least 1.
pub fn weights(scheduler: Scheduler, backends: &[(u32, u32)]) -> Vec<u32> {
    if backends.iter().all(|(_, share)| *share >= FULL) {
        return backends.iter().map(|(weight, _)| *weight).collect();
    }
    let steps = u64::from(steps(scheduler, backends.iter().map(|(weight, _)| *weight)));
    let divisor = u64::from(divisor(backends.iter().map(|(weight, _)| *weight)));
    backends
        .iter()
        .map(|&(weight, share)| {
            let scaled = u64::from(weight) / divisor * steps * u64::from(share.min(FULL)) / u64::from(FULL);
            let least = u64::from(weight > 0);
            u32::try_from(scaled.max(least)).unwrap_or(u32::MAX)
        })
        .collect()
}

/// Largest length of a ring of these weights, in slots, whichever backends ramp up.
pub fn longest(scheduler: Scheduler, weights: impl Iterator<Item = u32> + Clone) -> u64 {
    super::ring_length(scheduler, weights.clone())
        * match scheduler {
            Scheduler::RoundRobin | Scheduler::Random => u64::from(steps(scheduler, weights)),
            Scheduler::LeastConnection | Scheduler::SourceHash | Scheduler::Maglev => 1,
        }
}

fn steps(scheduler: Scheduler, weights: impl Iterator<Item = u32>) -> u32 {
    match scheduler {
        // Weights cost no slots here.
        Scheduler::LeastConnection | Scheduler::SourceHash | Scheduler::Maglev => MOST_STEPS,
        Scheduler::RoundRobin | Scheduler::Random => {
            let slots = super::ring_length(scheduler, weights).max(1);
            u32::try_from(LONGEST_RING / slots).map_or(MOST_STEPS, |steps| steps.clamp(1, MOST_STEPS))
        }
    }
}

fn divisor(weights: impl Iterator<Item = u32>) -> u32 {
    let (_, divisor) = super::smooth::sum_and_divisor(weights.filter(|weight| *weight > 0).map(u64::from));
    u32::try_from(divisor).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_grows_linearly_from_a_tenth_to_all() {
        let seconds = Duration::from_secs;
        for (elapsed, length, expected) in [
            (seconds(0), seconds(30), 100),
            (seconds(10), seconds(30), 400),
            (seconds(15), seconds(30), 550),
            (Duration::from_millis(29_999), seconds(30), 999),
            (seconds(30), seconds(30), 1000),
            (seconds(3000), seconds(30), 1000),
            (seconds(0), seconds(0), 1000),
        ] {
            assert_eq!(share(elapsed, length), expected, "{elapsed:?} of {length:?}");
        }
    }

    #[test]
    fn weights_are_multiplied_only_during_a_ramp() {
        use Scheduler::{LeastConnection, RoundRobin};
        for (scheduler, backends, expected) in [
            (RoundRobin, vec![(1, 1000), (2, 1000)], vec![1, 2]),
            (RoundRobin, vec![(1, 100), (1, 1000)], vec![10, 100]),
            (RoundRobin, vec![(7, 550), (7, 1000)], vec![55, 100]),
            (RoundRobin, vec![(0, 100), (1, 1000)], vec![0, 100]),
            (LeastConnection, vec![(1, 100), (1, 1000)], vec![10, 100]),
            // Long rings are not multiplied, so their ramp is coarser.
            (RoundRobin, vec![(1, 100), (8192, 1000)], vec![1, 8192]),
            (RoundRobin, vec![(1000, 100), (9001, 1000)], vec![100, 9001]),
        ] {
            assert_eq!(weights(scheduler, &backends), expected, "{scheduler:?} {backends:?}");
        }
    }

    proptest! {
        #[test]
        fn a_ramp_never_makes_a_ring_longer_than_the_announced_length(
            backends in prop::collection::vec((0_u32..1001, prop_oneof![Just(1000_u32), 100_u32..1000]), 0..60),
        ) {
            for scheduler in [Scheduler::RoundRobin, Scheduler::LeastConnection, Scheduler::Maglev] {
                let weights = weights(scheduler, &backends);
                let configured = backends.iter().map(|(weight, _)| *weight);
                let length = super::super::ring_length(scheduler, weights.iter().copied());
                prop_assert!(length <= longest(scheduler, configured.clone()));
                let takes_flows = |weights: Vec<u32>| weights.iter().map(|w| *w > 0).collect::<Vec<_>>();
                prop_assert_eq!(takes_flows(weights), takes_flows(configured.collect()));
            }
        }
    }
}
