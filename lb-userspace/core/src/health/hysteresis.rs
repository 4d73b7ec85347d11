//! Rise and fall: how many check results in a row bring a backend up or take it down. Time is an
//! argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    config::{Flaps, Initial, Rules},
    text::duration,
};

/// Whether a backend is up, by its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There are not enough results yet.
    #[default]
    Unknown,
    /// It passes its checks.
    Up,
    /// It fails its checks.
    Down,
}

/// Counts results in a row, and damps flapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hysteresis {
    verdict: Verdict,
    /// Results in a row that contradict the verdict, all of one kind.
    against: u32,
    /// Whether these are successes. Without a verdict, both kinds contradict it.
    are_successes: bool,
    /// When the first of them ended.
    since: Option<Instant>,
    /// When the backend went down, within the last flap period.
    falls: VecDeque<Instant>,
    /// Whether it flaps: it comes up only after it has been healthy for a whole flap period.
    is_flapping: bool,
}

/// What changed a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The number of results in a row.
    pub results: u32,
    /// The flap limit that applies. With a failure: the backend starts to flap. With a success: it
    /// has stopped flapping.
    pub flapping: Option<Flaps>,
}

impl Hysteresis {
    /// Starts with a verdict that is known from before.
    pub fn with(verdict: Verdict) -> Self {
        Self {
            verdict,
            ..Self::default()
        }
    }

    /// The current verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the verdict may change soon: there is none yet, or the last results contradict it.
    /// The fast interval applies then.
    pub fn is_changing(&self) -> bool {
        self.verdict == Verdict::Unknown || (self.against > 0 && !self.is_flapping)
    }

    /// Takes a result. `rise` successes in a row bring a backend up; `fall` failures in a row take
    /// it down. The first verdict depends on the initial state.
    pub fn result(&mut self, success: bool, rules: &Rules, now: Instant) -> Option<Decision> {
        let (against, needed) = match (self.verdict, success) {
            (Verdict::Unknown, true) if rules.initial == Initial::Down => (true, rules.rise),
            (Verdict::Unknown, false) if rules.initial == Initial::Up => (true, rules.fall),
            (Verdict::Unknown, _) => (true, 1),
            (Verdict::Up, _) => (!success, rules.fall),
            (Verdict::Down, _) => (success, rules.rise),
        };
        if !against {
            self.reset();
            return None;
        }
        if self.are_successes != success {
            self.reset();
            self.are_successes = success;
        }
        self.against += 1;
        let since = *self.since.get_or_insert(now);
        let flapping = rules.flaps.filter(|_| self.is_flapping);
        let is_held = flapping.is_some_and(|flaps| now.saturating_duration_since(since) < flaps.period);
        if self.against < needed || is_held {
            return None;
        }
        let results = self.against;
        self.reset();
        if success {
            self.verdict = Verdict::Up;
            self.is_flapping = false;
            return Some(Decision { results, flapping });
        }
        if self.verdict == Verdict::Up {
            self.record_fall(rules.flaps, now);
        }
        self.verdict = Verdict::Down;
        let flapping = rules.flaps.filter(|_| self.is_flapping);
        Some(Decision { results, flapping })
    }

    /// How many results contradict the verdict and how many are needed, as a text. `None`: there
    /// are none.
    pub fn progress(&self, rules: &Rules, now: Instant) -> Option<String> {
        let since = self.since?;
        let failed = format!("{} of {} checks failed", self.against, rules.fall);
        let succeeded = format!("{} of {} checks succeeded", self.against, rules.rise);
        match (self.verdict, rules.initial) {
            (Verdict::Up, _) | (Verdict::Unknown, Initial::Up) => return Some(failed),
            (Verdict::Unknown, Initial::Down) => return Some(succeeded),
            (Verdict::Unknown, Initial::Unknown) => return None,
            (Verdict::Down, _) => {}
        }
        let Some(flaps) = rules.flaps.filter(|_| self.is_flapping) else {
            return Some(succeeded);
        };
        let healthy = Duration::from_secs(now.saturating_duration_since(since).as_secs());
        Some(format!(
            "healthy for {} of {}",
            duration(healthy),
            duration(flaps.period)
        ))
    }

    fn reset(&mut self) {
        self.against = 0;
        self.since = None;
    }

    /// Records that the backend went down.
    fn record_fall(&mut self, flaps: Option<Flaps>, now: Instant) {
        let Some(Flaps { limit, period }) = flaps else {
            self.falls.clear();
            return;
        };
        self.falls.push_back(now);
        self.falls.retain(|fall| now.saturating_duration_since(*fall) < period);
        if self.falls.len() >= limit as usize {
            self.falls.clear();
            self.is_flapping = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(rise: u32, fall: u32, initial: Initial) -> Rules {
        Rules {
            rise,
            fall,
            initial,
            flaps: None,
        }
    }

    /// The verdict after each result, at one result a second: `+` is a success, `-` a failure.
    fn verdicts(results: &str, rules: &Rules) -> String {
        let mut hysteresis = Hysteresis::default();
        let letter = |verdict| match verdict {
            Verdict::Unknown => '?',
            Verdict::Up => 'U',
            Verdict::Down => 'D',
        };
        let start = Instant::now();
        (0..)
            .zip(results.chars())
            .map(|(second, result)| {
                hysteresis.result(result == '+', rules, start + Duration::from_secs(second));
                letter(hysteresis.verdict())
            })
            .collect()
    }

    #[test]
    fn rise_and_fall_results_in_a_row_change_the_verdict() {
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
            assert_eq!(
                verdicts(results, &rules(rise, fall, Initial::Unknown)),
                then,
                "{results}"
            );
        }
    }

    #[test]
    fn the_initial_state_decides_how_the_first_verdict_is_made() {
        for (results, initial, then) in [
            ("+", Initial::Up, "U"),
            ("--+--", Initial::Up, "??UUU"),
            ("---", Initial::Up, "??D"),
            ("-", Initial::Down, "D"),
            ("++", Initial::Down, "?U"),
            ("+-+", Initial::Down, "?DD"),
        ] {
            assert_eq!(verdicts(results, &rules(2, 3, initial)), then, "{results} {initial:?}");
        }
    }

    #[test]
    fn successes_and_failures_are_not_counted_together() {
        let now = Instant::now();
        for (initial, first) in [(Initial::Down, true), (Initial::Up, false)] {
            let rules = rules(3, 3, initial);
            let mut hysteresis = Hysteresis::default();
            assert_eq!(hysteresis.result(first, &rules, now), None);
            assert_eq!(hysteresis.result(first, &rules, now), None);
            let decision = hysteresis.result(!first, &rules, now).map(|decision| decision.results);
            assert_eq!(decision, Some(1), "{initial:?}");
        }
    }

    #[test]
    fn a_verdict_from_before_changes_like_any_other() {
        let start = Instant::now();
        let rules = rules(2, 3, Initial::Unknown);
        for (verdict, success, needed) in [
            (Verdict::Up, false, 3),
            (Verdict::Down, true, 2),
            (Verdict::Unknown, false, 1),
        ] {
            let mut hysteresis = Hysteresis::with(verdict);
            let changed = (1..).find(|_| hysteresis.result(success, &rules, start).is_some());
            assert_eq!(changed, Some(needed), "{verdict:?}");
        }
    }

    #[test]
    fn progress_to_a_first_verdict_is_shown() {
        let now = Instant::now();
        for (initial, success, then) in [
            (Initial::Up, false, Some("1 of 3 checks failed")),
            (Initial::Down, true, Some("1 of 2 checks succeeded")),
        ] {
            let rules = rules(2, 3, initial);
            let mut hysteresis = Hysteresis::default();
            hysteresis.result(success, &rules, now);
            assert_eq!(hysteresis.progress(&rules, now).as_deref(), then);
        }
    }

    #[test]
    fn a_flapping_backend_comes_up_only_after_a_whole_healthy_period() {
        let seconds = Duration::from_secs;
        let given = |limit, period| Rules {
            flaps: Some(Flaps {
                limit,
                period: seconds(period),
            }),
            ..rules(1, 1, Initial::Unknown)
        };
        for (results, limit, period, then) in [
            // The second fall within five seconds: healthy from 4, up at 9, and then the count
            // starts anew.
            ("+-+-+++++++-+", 2, 5, "UDUDDDDDDUUDU"),
            // A failure restarts the healthy period.
            ("+-+-++-++++++", 2, 5, "UDUDDDDDDDDDU"),
            // Falls in different periods do not count together.
            ("+-+++++-++", 2, 5, "UDUUUUUDUU"),
            // A first verdict of down is not a fall.
            ("-+-+++", 2, 5, "DUDUUU"),
        ] {
            assert_eq!(verdicts(results, &given(limit, period)), then, "{results}");
        }
    }

    #[test]
    fn a_decision_reports_flapping() {
        let flaps = Flaps {
            limit: 1,
            period: Duration::from_secs(5),
        };
        let rules = Rules {
            flaps: Some(flaps),
            ..rules(1, 2, Initial::Unknown)
        };
        let start = Instant::now();
        let mut hysteresis = Hysteresis::default();
        let mut at = |second, success| hysteresis.result(success, &rules, start + Duration::from_secs(second));
        let decision = |results, flapping| Some(Decision { results, flapping });
        assert_eq!(at(0, true), decision(1, None));
        assert_eq!(at(1, false), None);
        assert_eq!(at(2, false), decision(2, Some(flaps)));
        assert_eq!(at(3, true), None);
        assert_eq!(at(8, true), decision(2, Some(flaps)));
    }

    proptest! {
        #[test]
        fn no_verdict_changes_without_enough_results_in_a_row(
            results in prop::collection::vec(any::<bool>(), 1..60),
            rise in 1_u32..5,
            fall in 1_u32..5,
            limit in 0_u32..4,
            initial in prop::sample::select(vec![Initial::Unknown, Initial::Up, Initial::Down]),
        ) {
            let flaps = Flaps { limit, period: Duration::from_secs(4) };
            let rules = Rules { flaps: (limit > 0).then_some(flaps), ..rules(rise, fall, initial) };
            let start = Instant::now();
            let mut hysteresis = Hysteresis::default();
            for (at, success) in results.iter().enumerate() {
                let before = hysteresis.verdict();
                let changed = hysteresis.result(*success, &rules, start + Duration::from_secs(at as u64));
                prop_assert_eq!(changed.is_some(), before != hysteresis.verdict());
                let needed = match before {
                    Verdict::Unknown if initial == Initial::Up && !success => fall as usize,
                    Verdict::Unknown if initial == Initial::Down && *success => rise as usize,
                    Verdict::Unknown => 1,
                    Verdict::Up => fall as usize,
                    Verdict::Down => rise as usize,
                };
                if let Some(Decision { results: counted, .. }) = changed {
                    let counted = counted as usize;
                    prop_assert!(needed <= counted && counted <= at + 1);
                    prop_assert!(results[at + 1 - counted..=at].iter().all(|result| result == success));
                }
            }
        }

        #[test]
        fn a_backend_that_stays_healthy_long_enough_comes_up(
            results in prop::collection::vec(any::<bool>(), 0..60),
            limit in 0_u32..4,
        ) {
            let flaps = Flaps { limit, period: Duration::from_secs(4) };
            let rules = Rules { flaps: (limit > 0).then_some(flaps), ..rules(2, 2, Initial::Unknown) };
            let start = Instant::now();
            let mut hysteresis = Hysteresis::default();
            let healthy = std::iter::repeat_n(true, 6);
            for (second, success) in (0..).zip(results.into_iter().chain(healthy)) {
                hysteresis.result(success, &rules, start + Duration::from_secs(second));
            }
            prop_assert_eq!(hysteresis.verdict(), Verdict::Up);
        }
    }
}
