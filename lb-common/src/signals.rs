//! Passive signals: how backends answer SYNs, in modes whose replies pass through the balancer.

use crate::{abi_struct, flow_table::Meta};

/// How many SYNs in a row a backend must refuse, or not answer, to be suspect.
pub const SUSPECT_AFTER: u32 = 3;

/// How long after a SYN a retransmission proves that there was no answer, in ticks: about a quarter
/// of a second. Senders wait for a second (RFC 6298, section 2). An earlier repetition is a
/// duplicate, or forged.
pub const PATIENCE: u32 = 4;

const EVER: u32 = 1 << 31;

abi_struct! {
    /// An entry of the map `BACKEND_SIGNALS`: how a backend answers the SYNs of clients. Shared by
    /// all CPUs.
    pub struct BackendSignals {
        /// When it last answered a SYN, see [`BackendSignals::mark`]; 0: never.
        pub answered: u32,
        /// Always zero.
        pub reserved: u32,
        /// SYNs that it refused since its last answer.
        pub refused: u32,
        /// SYNs that were retransmitted without an answer since its last answer.
        pub unanswered: u32,
    }
}

impl BackendSignals {
    /// The value of [`answered`](Self::answered) for a SYN that was answered at this tick.
    #[inline(always)]
    pub const fn mark(tick: u32) -> u32 {
        tick & Meta::TICKS | EVER
    }

    /// Whether a SYN was answered after this tick.
    #[inline(always)]
    pub const fn has_answered_since(&self, tick: u32) -> bool {
        let later = self.answered.wrapping_sub(tick) & Meta::TICKS;
        self.answered & EVER != 0 && later != 0 && later <= Meta::TICKS / 2
    }

    /// Whether [`SUSPECT_AFTER`] SYNs in a row failed.
    #[inline(always)]
    pub const fn is_suspect(&self) -> bool {
        self.refused >= SUSPECT_AFTER || self.unanswered >= SUSPECT_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_when_it_came_later() {
        let last = Meta::TICKS;
        let given_then = [
            (Some(10), 9, true),
            (Some(10), 10, false),
            (Some(10), 11, false),
            (Some(0), last, true),
            (Some(last), 0, false),
            (Some(0), 1, false),
            (None, 0, false),
            (None, last, false),
        ];
        for (answered, tick, then) in given_then {
            let signals = BackendSignals {
                answered: answered.map_or(0, BackendSignals::mark),
                ..BackendSignals::ZERO
            };
            assert_eq!(signals.has_answered_since(tick), then, "{answered:?} {tick}");
        }
    }

    #[test]
    fn three_of_a_kind_make_a_backend_suspect() {
        let signals = |refused, unanswered| BackendSignals {
            refused,
            unanswered,
            ..BackendSignals::ZERO
        };
        assert!(signals(3, 0).is_suspect() && signals(0, 3).is_suspect());
        assert!(!signals(2, 2).is_suspect());
    }
}
