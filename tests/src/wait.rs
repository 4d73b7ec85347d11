//! Waiting for a condition instead of sleeping for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long to wait for what happens at once on an idle machine, and later on a busy one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The pauses between two evaluations of a condition. Most conditions start a process, so that a
/// fixed short pause would keep a CPU busy that other tests need.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// So often a condition is evaluated at least. On a busy machine a single evaluation may take
/// longer than the whole patience.
const LEAST_EVALUATIONS: u32 = 3;

/// Evaluates `condition` until it holds or `patience` is over; returns whether it held.
pub fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    for evaluations in 1.. {
        if condition() {
            return true;
        }
        let waited = begin.elapsed();
        if waited >= patience && evaluations >= LEAST_EVALUATIONS {
            break;
        }
        thread::sleep((waited / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
    false
}

/// Like [`until`], for tests.
///
/// # Panics
///
/// When the condition does not hold in time; the message names `what`.
#[track_caller]
pub fn eventually(patience: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(until(patience, condition), "not within {patience:?}: {what}");
}
