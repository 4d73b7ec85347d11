//! Functions of their own, which the verifier wants to return a number.
//!
//! What does not fit a register is returned through memory; the register then holds whatever was there, and the verifier
//! refuses a pointer to the stack in it. So functions that are not inlined return numbers: an outcome is one, whichever
//! side of a `Result` it stands on.

use lb_common::Outcome;

/// Runs the body of such a function; its errors are outcomes like any other.
#[inline(always)]
pub fn settle(body: impl FnOnce() -> Result<Outcome, Outcome>) -> Outcome {
    match body() {
        Ok(outcome) | Err(outcome) => outcome,
    }
}
