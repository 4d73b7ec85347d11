//! Signals: what the packet path sees of backends that do not answer, in modes whose answers pass here.

use crate::{abi_struct, flow_table::Meta};

/// After how many SYNs in a row that a backend refused, or did not answer, it is suspect.
pub const SUSPECT_AFTER: u32 = 3;

/// How much time must have passed since a SYN, in ticks, before the same SYN again says that there was no answer: about a
/// quarter of a second. Senders wait for a second (RFC 6298, section 2); what comes sooner is a copy, or made to deceive.
pub const PATIENCE: u32 = 4;

const EVER: u32 = 1 << 31;

abi_struct! {
    /// An entry of the map `BACKEND_SIGNALS`: how a backend answers the SYNs of clients. Shared by all CPUs.
    pub struct BackendSignals {
        /// When it answered a SYN last, see [`BackendSignals::mark`]; 0: never.
        pub answered: u32,
        /// Always zero.
        pub reserved: u32,
        /// SYNs that it refused since it answered one.
        pub refused: u32,
        /// SYNs that came again, since it answered one, because it had not answered them.
        pub unanswered: u32,
    }
}

impl BackendSignals {
    /// The word that says that a SYN was answered at this tick.
    #[inline(always)]
    pub const fn mark(tick: u32) -> u32 {
        tick & Meta::TICKS | EVER
    }

    /// Whether a SYN was answered later than in this tick.
    #[inline(always)]
    pub const fn has_answered_since(&self, tick: u32) -> bool {
        let later = self.answered.wrapping_sub(tick) & Meta::TICKS;
        self.answered & EVER != 0 && later != 0 && later <= Meta::TICKS / 2
    }

    /// Whether so many SYNs in a row failed that the backend is suspect.
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
