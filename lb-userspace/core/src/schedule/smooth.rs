//! The smooth weighted sequence: every prefix of it is as fair as whole turns can be.
//!
//! The usual greedy rule (nginx: the backend that is furthest behind gets the turn) visits every
//! backend for each slot, and with many backends one can fall behind by more than a slot. Here each
//! turn has a window instead:
//!
//! - A backend has `w` of `W` slots. Its turn `j` is at or after `j·W/w` and before `(j+1)·W/w`,
//!   rounded outwards to whole slots.
//! - Unit jobs with such windows always fit, because a fluid schedule that gives each backend `w/W`
//!   of every slot fits. Earliest deadline first finds the fit (Baruah, Cohen, Plaxton, Varvel:
//!   "Proportionate progress", 1996).
//! - After `k` slots, such a backend has more than `k·w/W − 1` and fewer than `k·w/W + 1` of them.

use std::{cmp::Reverse, collections::BinaryHeap};

/// The sum of `weights` and their greatest common divisor. Both are 0 if there are no weights.
pub(super) fn sum_and_divisor(weights: impl Iterator<Item = u64>) -> (u64, u64) {
    weights.fold((0, 0), |(sum, divisor), weight| (sum + weight, gcd(divisor, weight)))
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The sequence, as positions in `weights`. Its length is the sum of the weights divided by their
/// greatest common divisor. No weight may be 0.
///
/// Of equal deadlines, the turn whose window opens first goes first, which spreads better. Then the
/// lower position does.
pub(super) fn sequence(weights: &[u64]) -> Vec<usize> {
    let (sum, divisor) = sum_and_divisor(weights.iter().copied());
    let length = sum.checked_div(divisor).unwrap_or(0);
    let mut turns: Vec<Turns> = weights
        .iter()
        .map(|weight| Turns {
            share: weight / divisor,
            length,
            taken: 0,
        })
        .collect();
    // The next turn of each backend is in one heap: before its window opens in `closed`, by
    // opening; then in `open`, by deadline.
    let mut closed: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::with_capacity(turns.len());
    let mut open: BinaryHeap<_> = (0..turns.len()).map(|i| Reverse(turns[i].urgency(i))).collect();
    let mut sequence = Vec::with_capacity(length as usize);
    for slot in 0..length {
        while let Some(&Reverse((opening, position))) = closed.peek()
            && opening <= slot
        {
            closed.pop();
            open.push(Reverse(turns[position].urgency(position)));
        }
        let Reverse((deadline, _, position)) = open.pop().expect("the fluid schedule always has an open turn");
        debug_assert!(slot < deadline);
        sequence.push(position);
        turns[position].taken += 1;
        if turns[position].taken < turns[position].share {
            closed.push(Reverse((turns[position].opening(), position)));
        }
    }
    sequence
}

/// The window of the next turn of one backend.
struct Turns {
    /// Number of turns of the backend in the sequence.
    share: u64,
    /// Number of turns of all backends: length of the sequence.
    length: u64,
    /// Number of turns the backend already has.
    taken: u64,
}

impl Turns {
    /// First slot of the window.
    fn opening(&self) -> u64 {
        self.taken * self.length / self.share
    }

    /// First slot after the window.
    fn deadline(&self) -> u64 {
        ((self.taken + 1) * self.length).div_ceil(self.share)
    }

    /// Sort key, the least goes first: deadline, opening, position.
    fn urgency(&self, position: usize) -> (u64, u64, usize) {
        (self.deadline(), self.opening(), position)
    }
}
