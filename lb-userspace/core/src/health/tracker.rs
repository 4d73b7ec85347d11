//! The health of one backend, and how each check result changes it.

use std::time::{Duration, Instant, SystemTime};

use super::{Hysteresis, Verdict, cause};
use crate::config::{BackendId, Rules};

/// What is known about the health of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it is up.
    pub verdict: Verdict,
    /// When the verdict last changed.
    pub since: SystemTime,
    /// Why the verdict last changed.
    pub cause: String,
    /// Why a passive check suspects it: then one failure takes it down. `None`: it is not suspect.
    pub suspicion: Option<String>,
    /// How many results contradict the verdict, as a text. `None`: there are none.
    pub progress: Option<String>,
    /// Why the last check failed. `None`: it succeeded, or there was none yet.
    pub last_failure: Option<String>,
    /// The number of checks.
    pub checks: u64,
    /// The number of failed checks.
    pub failures: u64,
    /// How long the last check took. `None`: there was none yet.
    pub last_duration: Option<Duration>,
}

/// A change of a backend's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// The backend.
    pub target: BackendId,
    /// The verdict before.
    pub from: Verdict,
    /// The verdict now.
    pub to: Verdict,
    /// What changed it.
    pub cause: String,
}

/// A check that has ended and says something about the backend.
#[derive(Clone, Debug)]
pub struct CheckResult {
    /// Success, or why it failed.
    pub result: Result<(), String>,
    /// When it started.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The wall clock at its end.
    pub wall_clock: SystemTime,
}

/// Follows the health of one backend.
#[derive(Clone, Debug)]
pub struct HealthTracker {
    hysteresis: Hysteresis,
    health: Health,
    /// When it became suspect.
    suspected: Option<Instant>,
}

impl HealthTracker {
    /// Starts with a verdict that is known from before, or with [`Verdict::Unknown`].
    pub fn new(verdict: Verdict, wall_clock: SystemTime) -> Self {
        Self {
            hysteresis: Hysteresis::with(verdict),
            health: Health {
                verdict,
                since: wall_clock,
                cause: cause::unchecked(verdict).to_owned(),
                suspicion: None,
                progress: None,
                last_failure: None,
                checks: 0,
                failures: 0,
                last_duration: None,
            },
            suspected: None,
        }
    }

    /// What is known now.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether the fast interval applies.
    pub fn is_changing(&self) -> bool {
        self.hysteresis.is_changing()
    }

    /// Makes a backend suspect that is up and not suspect yet. Returns whether it did.
    pub fn suspect(&mut self, cause: &str, now: Instant) -> bool {
        if self.health.verdict != Verdict::Up || self.health.suspicion.is_some() {
            return false;
        }
        self.health.suspicion = Some(cause.to_owned());
        self.suspected = Some(now);
        true
    }

    /// Takes the result of a check.
    pub fn record(&mut self, id: &BackendId, rules: &Rules, check: &CheckResult) -> Option<HealthChange> {
        // A check that started before the suspicion proves nothing about it.
        let is_newer = self.suspected.is_some_and(|suspected| check.started >= suspected);
        let suspicion = self.health.suspicion.take_if(|_| is_newer);
        let rules = Rules {
            fall: if suspicion.is_some() { 1 } else { rules.fall },
            ..*rules
        };
        let result = check.result.as_ref().copied().map_err(String::as_str);
        let decision = self.hysteresis.result(result.is_ok(), &rules, check.ended);
        self.health.checks += 1;
        self.health.failures += u64::from(result.is_err());
        self.health.last_duration = Some(check.ended - check.started);
        self.health.last_failure = result.err().map(cause::shown);
        self.health.progress = self.hysteresis.progress(&rules, check.ended);

        let decided = cause::decided(decision?, result);
        let from = std::mem::replace(&mut self.health.verdict, self.hysteresis.verdict());
        self.health.since = check.wall_clock;
        self.health.cause = cause::shown(&decided);
        if let Some(suspicion) = suspicion {
            self.health.cause += &format!("; suspected because {suspicion}");
        }
        Some(HealthChange {
            target: id.clone(),
            from,
            to: self.health.verdict,
            cause: self.health.cause.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Initial;

    #[test]
    fn a_check_that_started_before_a_suspicion_does_not_end_it() {
        let rules = Rules {
            rise: 2,
            fall: 2,
            initial: Initial::Unknown,
            flaps: None,
        };
        let id = BackendId {
            service: "web".to_owned(),
            backend: "a".to_owned(),
        };
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let check = |result: Result<(), &str>, started, ended| CheckResult {
            result: result.map_err(str::to_owned),
            started: begin + started * second,
            ended: begin + ended * second,
            wall_clock: SystemTime::UNIX_EPOCH,
        };
        let mut tracker = HealthTracker::new(Verdict::Unknown, SystemTime::UNIX_EPOCH);
        tracker.record(&id, &rules, &check(Ok(()), 0, 0));
        assert!(tracker.suspect("resets", begin + second));
        tracker.record(&id, &rules, &check(Ok(()), 0, 2));
        assert!(tracker.health.suspicion.is_some());
        let early = tracker.record(&id, &rules, &check(Err("refused"), 0, 2));
        let progress = tracker.health.progress.as_deref();
        assert_eq!((early, progress), (None, Some("1 of 2 checks failed")));
        tracker.record(&id, &rules, &check(Ok(()), 2, 3));
        assert_eq!((&tracker.health.suspicion, &tracker.health.progress), (&None, &None));
    }
}
