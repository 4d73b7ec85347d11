//! Values that cross a call as a number.
//!
//! The verifier wants functions that are not inlined to return a number. What does not fit a
//! register is returned through memory; the register then holds whatever was in it, and the
//! verifier refuses a pointer to the stack there.

use lb_common::{Outcome, Phase, flow_table::Refused};

/// A value that crosses a call as a number.
pub trait Number: Copy {
    /// The number of the value.
    fn to_number(self) -> u32;
    /// The value of a number that [`Number::to_number`] returned.
    fn from_number(number: u32) -> Self;
}

/// What happens to a packet after a step of the slow path. An `Err` of a step ends the packet too.
#[derive(Clone, Copy)]
pub enum Next {
    /// The next step.
    Continue,
    /// Nothing: this is the packet's outcome.
    Done(Outcome),
}

impl Next {
    /// Leaves the caller with the outcome, if there is one.
    #[inline(always)]
    pub fn or_done(self) -> Result<(), Outcome> {
        match self {
            Self::Continue => Ok(()),
            Self::Done(outcome) => Err(outcome),
        }
    }
}

/// The outcome, whether it is an error or not.
#[inline(always)]
pub fn outcome(result: Result<Outcome, Outcome>) -> Outcome {
    match result {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

impl Number for u32 {
    #[inline(always)]
    fn to_number(self) -> u32 {
        self
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        number
    }
}

impl Number for usize {
    #[inline(always)]
    fn to_number(self) -> u32 {
        self as u32
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        number as Self
    }
}

impl Number for u8 {
    #[inline(always)]
    fn to_number(self) -> u32 {
        self as u32
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        number as Self
    }
}

impl Number for bool {
    #[inline(always)]
    fn to_number(self) -> u32 {
        self as u32
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        number != 0
    }
}

impl Number for Phase {
    #[inline(always)]
    fn to_number(self) -> u32 {
        self as u32
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        Self::from_number(number)
    }
}

impl Number for Outcome {
    #[inline(always)]
    fn to_number(self) -> u32 {
        self as u32
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        Self::from_number(number).unwrap_or(Self::Inconsistent)
    }
}

impl Number for Result<Next, Outcome> {
    #[inline(always)]
    fn to_number(self) -> u32 {
        match self {
            Ok(Next::Continue) => u32::MAX,
            Ok(Next::Done(outcome)) | Err(outcome) => outcome as u32,
        }
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        Ok(if number == u32::MAX {
            Next::Continue
        } else {
            Next::Done(Number::from_number(number))
        })
    }
}

impl Number for Result<(), Refused> {
    #[inline(always)]
    fn to_number(self) -> u32 {
        match self {
            Ok(()) => 0,
            Err(Refused::Full) => 1,
            Err(Refused::Exists) => 2,
            Err(Refused::Raced) => 3,
        }
    }

    #[inline(always)]
    fn from_number(number: u32) -> Self {
        match number {
            0 => Ok(()),
            1 => Err(Refused::Full),
            2 => Err(Refused::Exists),
            _ => Err(Refused::Raced),
        }
    }
}
