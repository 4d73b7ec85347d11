//! Applies a plan to the maps, step by step.

use super::{Plan, Step, store::Store};

/// A step that failed. The steps before it are done; the next reconciliation continues from there.
#[derive(Debug, thiserror::Error)]
#[error("step {done} of {all} of a change failed: {cause}")]
pub struct ApplyError<E: std::error::Error> {
    /// Number of the step, from 1.
    pub done: usize,
    /// Number of steps.
    pub all: usize,
    /// The cause.
    #[source]
    pub cause: E,
}

/// Applies all steps in order.
///
/// # Errors
///
/// At the first step that fails.
pub fn apply<S: Store>(plan: &Plan, store: &mut S) -> Result<(), ApplyError<S::Error>> {
    for (number, step) in plan.steps.iter().enumerate() {
        if let Err(cause) = write(step, store) {
            // The next plan may be applied at once, and use what this one freed.
            let _ = store.settle();
            return Err(ApplyError {
                done: number + 1,
                all: plan.steps.len(),
                cause,
            });
        }
    }
    Ok(())
}

fn write<S: Store>(step: &Step, store: &mut S) -> Result<(), S::Error> {
    match step {
        Step::FillBackend { index, entry } => store.fill_backend(*index, entry),
        Step::SetBackendStatus { index, status } => store.set_backend_status(*index, *status),
        Step::SetNextHop { index, hop } => store.set_next_hop(*index, hop),
        Step::FillRing { offset, slots } => store.fill_ring(*offset, slots),
        Step::FillService { index, entry } => store.fill_service(*index, entry),
        Step::UpdateService { index, entry } => store.update_service(*index, entry),
        Step::SetRing { index, ring } => store.set_ring(*index, *ring),
        Step::List { listing, index } => store.list(*listing, *index),
        Step::Unlist { listing } => store.unlist(*listing),
        Step::SetClasses { index, word } => store.set_classes(*index, *word),
        Step::SetGuard { guarded, verdict } => store.set_guard(*guarded, *verdict),
        Step::RemoveGuard { guarded } => store.remove_guard(*guarded),
        Step::Settle => store.settle(),
    }
}
