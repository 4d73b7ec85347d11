//! When results of checks change the verdict on a backend: a pure counter.

use serde::{Deserialize, Serialize};

/// What is thought of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was not checked yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// Counts results in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hysteresis {
    verdict: Verdict,
    /// Results in a row that speak against the verdict.
    against: u32,
}

impl Hysteresis {
    /// The verdict now.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes a result. `rise` successes in a row bring a backend up, `fall` failures in a row take it down; the very
    /// first result decides at once. Returns how many results decided, when the verdict changed.
    pub fn result(&mut self, success: bool, rise: u32, fall: u32) -> Option<u32> {
        let (agrees, needed, next) = match self.verdict {
            Verdict::Unknown => (false, 1, if success { Verdict::Up } else { Verdict::Down }),
            Verdict::Up => (success, fall, Verdict::Down),
            Verdict::Down => (!success, rise, Verdict::Up),
        };
        if agrees {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < needed {
            return None;
        }
        let decided = self.against;
        *self = Self { verdict: next, against: 0 };
        Some(decided)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdicts(results: &str, rise: u32, fall: u32) -> String {
        let mut hysteresis = Hysteresis::default();
        let letter = |verdict| match verdict {
            Verdict::Unknown => '?',
            Verdict::Up => 'U',
            Verdict::Down => 'D',
        };
        results
            .chars()
            .map(|result| {
                hysteresis.result(result == '+', rise, fall);
                letter(hysteresis.verdict())
            })
            .collect()
    }

    #[test]
    fn results_in_a_row_change_the_verdict() {
        let given_then = [
            ("+", 2, 3, "U"),
            ("-", 2, 3, "D"),
            ("+---", 2, 3, "UUUD"),
            ("+--+--+", 2, 3, "UUUUUUU"),
            ("-++", 2, 3, "DDU"),
            ("-+-+-", 2, 3, "DDDDD"),
            ("+-+-", 1, 1, "UDUD"),
        ];
        for (results, rise, fall, then) in given_then {
            assert_eq!(verdicts(results, rise, fall), then, "{results}");
        }
    }

    proptest! {
        #[test]
        fn no_verdict_falls_without_enough_failures_in_a_row(
            results in prop::collection::vec(any::<bool>(), 1..60),
            rise in 1_u32..5,
            fall in 1_u32..5,
        ) {
            let mut hysteresis = Hysteresis::default();
            for (at, success) in results.iter().enumerate() {
                let before = hysteresis.verdict();
                let changed = hysteresis.result(*success, rise, fall);
                prop_assert_eq!(changed.is_some(), before != hysteresis.verdict());
                let needed = match before {
                    Verdict::Unknown => 1,
                    Verdict::Up => fall as usize,
                    Verdict::Down => rise as usize,
                };
                if changed.is_some() {
                    prop_assert!(at + 1 >= needed);
                    prop_assert!(results[at + 1 - needed..=at].iter().all(|result| result == success));
                }
            }
        }
    }
}
