//! Waiting for a condition instead of sleeping for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long to wait for what should happen at once but may not on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(10);

/// Asks `condition` until it holds or `patience` is over; tells whether it held.
pub fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(STEP);
    }
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
