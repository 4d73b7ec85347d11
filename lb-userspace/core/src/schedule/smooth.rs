//! The smooth weighted sequence: every prefix of it is as fair as whole turns can be.
//!
//! The usual greedy rule (give the turn to whoever is furthest behind, as nginx does) costs a look at every backend per
//! slot, and with many backends it lets one fall behind by more than a slot. Here each turn of a backend has a window
//! instead: with `w` of `W` slots, its turn `j` lies at or after `j·W/w` and ends by `(j+1)·W/w`, rounded outwards to
//! whole slots. Unit jobs with such windows always fit, because a fluid that gives each backend `w/W` of every slot fits,
//! and earliest deadline first finds the fit (Baruah, Cohen, Plaxton, Varvel: "Proportionate progress", 1996). A backend
//! whose turns keep their windows has, after `k` slots, more than `k·w/W − 1` and fewer than `k·w/W + 1` of them.

use std::{cmp::Reverse, collections::BinaryHeap};

/// The sum of `weights` and their greatest common divisor; both 0 when there are none.
pub(super) fn sum_and_divisor(weights: impl Iterator<Item = u64>) -> (u64, u64) {
    weights.fold((0, 0), |(sum, divisor), weight| (sum + weight, gcd(divisor, weight)))
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Positions in `weights`, in the order of their turns; one turn of the sequence, whose length is the sum of the weights
/// divided by their greatest common divisor. No weight may be 0.
///
/// Among equal deadlines the turn that could have come earlier goes first, which spreads better than the order of the
/// positions; that decides what is still equal.
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
    // Every backend has its next turn in exactly one of the heaps: by opening, or, once that has come, by deadline.
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

/// Where the next turn of one backend may lie.
struct Turns {
    /// Turns of the backend in the sequence.
    share: u64,
    /// Turns of all.
    length: u64,
    /// Turns it already has.
    taken: u64,
}

impl Turns {
    /// The first slot that the next turn may take.
    fn opening(&self) -> u64 {
        self.taken * self.length / self.share
    }

    /// The slot before which the next turn must lie.
    fn deadline(&self) -> u64 {
        ((self.taken + 1) * self.length).div_ceil(self.share)
    }

    /// The least goes first: deadline, opening, position.
    fn urgency(&self, position: usize) -> (u64, u64, usize) {
        (self.deadline(), self.opening(), position)
    }
}
