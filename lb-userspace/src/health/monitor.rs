//! Asks all backends again and again, one task for each.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::{OwnLinks, ProbeFailure, Target, Targets, probe::probe, thread::Thread};
use crate::system::fd_limit;
use lb_core::{
    config::BackendId,
    health::{Decision, Hysteresis, Verdict, hindrances::Hindrances, pace::Pace},
};
use lb_core::{
    config::{Flaps, Rules},
    printable::printable,
    text::{duration, number},
};

/// What is known of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is thought of it.
    pub verdict: Verdict,
    /// Since when.
    pub since: SystemTime,
    /// What decided that.
    pub cause: String,
    /// Why it is suspect: one failure takes it down then. `None`: it is not.
    pub suspicion: Option<String>,
    /// How far results that speak against the verdict have come; `None`: there are none.
    pub progress: Option<String>,
    /// What was wrong with the last check; `None`: nothing.
    pub last_failure: Option<String>,
    /// How often it was asked.
    pub checks: u64,
    /// How often it did not answer as it should.
    pub failures: u64,
    /// How long the last check took.
    pub last_duration: Option<Duration>,
}

impl Health {
    /// Before its first check, where this is thought of it.
    fn begin(verdict: Verdict) -> Self {
        let cause = match verdict {
            Verdict::Unknown => "not checked yet",
            Verdict::Up | Verdict::Down => "as it was before; not checked yet",
        };
        Self {
            verdict,
            since: SystemTime::now(),
            cause: cause.to_owned(),
            suspicion: None,
            progress: None,
            last_failure: None,
            checks: 0,
            failures: 0,
            last_duration: None,
        }
    }
}

/// The verdict on a target changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub target: BackendId,
    /// What it was.
    pub from: Verdict,
    /// What it is.
    pub to: Verdict,
    /// What decided that.
    pub cause: String,
}

/// Checks a set of targets, which may change at any time. Dropping it ends all checks.
pub struct Monitor {
    thread: Thread,
    watched: Mutex<BTreeMap<BackendId, Watched>>,
    changes: mpsc::UnboundedSender<Change>,
    own_links: Arc<OwnLinks>,
    hindrances: Arc<Mutex<Hindrances>>,
    /// How many files checks may have open together.
    needed: AtomicU64,
}

struct Watched {
    target: Target,
    state: Arc<Mutex<State>>,
    /// Has it checked at once.
    wake: Arc<Notify>,
    task: JoinHandle<()>,
}

struct State {
    hysteresis: Hysteresis,
    health: Health,
    /// Since when it is suspect.
    suspected: Option<Instant>,
    /// When it is checked next: a task that takes the place of another one goes on with that.
    next: Option<tokio::time::Instant>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// Without targets. Changes of verdicts come out of the receiver.
    ///
    /// # Errors
    ///
    /// When the thread for checks cannot be started.
    pub fn new() -> io::Result<(Self, mpsc::UnboundedReceiver<Change>)> {
        let (changes, receiver) = mpsc::unbounded_channel();
        let monitor = Self {
            thread: Thread::start()?,
            watched: Mutex::default(),
            changes,
            own_links: Arc::default(),
            hindrances: Arc::default(),
            needed: AtomicU64::default(),
        };
        Ok((monitor, receiver))
    }

    /// Where links of this machine are told that fail for a moment.
    pub fn own_links(&self) -> &Arc<OwnLinks> {
        &self.own_links
    }

    /// Sets what is checked. Targets that stay are not disturbed; one whose times changed keeps its verdict. One that is new,
    /// or is asked something else, begins with the verdict that `before` has of it.
    pub fn set_targets(&self, targets: &Targets, before: &BTreeMap<BackendId, Verdict>) {
        self.weigh(targets);
        let mut watched = lock(&self.watched);
        watched.retain(|id, _| targets.contains_key(id));
        for (id, target) in targets {
            let former = watched.get(id);
            if former.is_some_and(|former| former.target == *target) {
                continue;
            }
            let kept = former
                .filter(|former| former.target.asks_the_same(target))
                .map(|former| (&former.state, &former.wake));
            let verdict = before.get(id).copied().unwrap_or_default();
            let wake = kept.map(|(_, wake)| Arc::clone(wake)).unwrap_or_default();
            let state = kept
                .map(|(state, _)| Arc::clone(state))
                .unwrap_or_else(|| Arc::new(Mutex::new(State::begin(verdict))));
            let task = self.thread.spawn(watch(
                id.clone(),
                target.clone(),
                Arc::clone(&state),
                Arc::clone(&wake),
                self.changes.clone(),
                Arc::clone(&self.own_links),
                Arc::clone(&self.hindrances),
            ));
            let target = Watched {
                target: target.clone(),
                state,
                wake,
                task,
            };
            watched.insert(id.clone(), target);
        }
    }

    /// Warns where checks of all targets at a time want more files open than may be.
    fn weigh(&self, targets: &Targets) {
        let needed = fd_limit::needed(targets.values().map(|target| &target.check.probe));
        let limit = fd_limit::limit();
        if self.needed.swap(needed, Ordering::Relaxed) != needed && needed > limit {
            tracing::warn!(
                "at most {limit} files may be open at a time, and {needed} may be needed where {} backends do not answer: raise the \
                 hard limit (`LimitNOFILE=` of the unit), or checks will have to wait for each other",
                targets.len()
            );
        }
    }

    /// Makes a target suspect that counts as up, and has it checked at once: one failure takes it down, one success ends
    /// the suspicion. Says whether it is suspect since now.
    pub fn suspect(&self, id: &BackendId, cause: &str) -> bool {
        let watched = lock(&self.watched);
        let Some(watched) = watched.get(id) else { return false };
        let mut state = lock(&watched.state);
        if state.hysteresis.verdict() != Verdict::Up || state.health.suspicion.is_some() {
            return false;
        }
        state.health.suspicion = Some(cause.to_owned());
        state.suspected = Some(Instant::now());
        watched.wake.notify_one();
        true
    }

    /// What is known of a target.
    pub fn of(&self, id: &BackendId) -> Option<Health> {
        let watched = lock(&self.watched);
        watched.get(id).map(|watched| lock(&watched.state).health.clone())
    }

    /// What is known of every target.
    pub fn snapshot(&self) -> BTreeMap<BackendId, Health> {
        let watched = lock(&self.watched);
        watched
            .iter()
            .map(|(id, watched)| (id.clone(), lock(&watched.state).health.clone()))
            .collect()
    }
}

/// Nothing panics while it holds a lock, and what the locks guard is right at every instant.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(
    id: BackendId,
    target: Target,
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
    changes: mpsc::UnboundedSender<Change>,
    own_links: Arc<OwnLinks>,
    hindrances: Arc<Mutex<Hindrances>>,
) {
    let mut pace = Pace::new(&id, target.check.timing);
    let kept = lock(&state).next;
    let mut next = kept.unwrap_or_else(|| tokio::time::Instant::now() + pace.first());
    // A shorter interval does not wait for the end of a longer one.
    next = next.min(tokio::time::Instant::now() + target.check.timing.interval);
    let epoch = epoch();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(epoch + pace.together(next - epoch)) => {}
            () = wake.notified() => {}
        }
        let begin = tokio::time::Instant::now();
        let result = probe(&id, &target).await.map_err(|failure| {
            let failure = if target.way.is_some() {
                failure.of_way()
            } else {
                failure
            };
            let trouble = own_links.trouble(target.address.ip(), Instant::now());
            trouble.map_or(failure, ProbeFailure::OwnLink)
        });
        let end = tokio::time::Instant::now();
        if let Err(failure) = &result
            && !failure.is_conclusive()
        {
            let (service, backend) = (&id.service, &id.backend);
            tracing::debug!(service, backend, %failure, "check not possible, verdict kept");
            let concerned = lock(&hindrances).note(&id, end.into_std());
            if let Some(backends) = concerned {
                tracing::warn!(service, backend, %failure, backends, "checks not possible, verdicts kept");
            }
        }
        let (change, is_changing) = {
            let mut state = lock(&state);
            let change = state.note(&id, &target.check.rules, &result, (end - begin, end.into_std()));
            (change, state.hysteresis.is_changing())
        };
        if let Some(change) = change {
            // Nobody listens any more when the whole program ends.
            let _ = changes.send(change);
        }
        next = begin + pace.next(is_changing);
        lock(&state).next = Some(next);
    }
}

/// A moment that is the same for all targets.
fn epoch() -> tokio::time::Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    (*EPOCH).into()
}

impl State {
    fn begin(verdict: Verdict) -> Self {
        Self {
            hysteresis: Hysteresis::with(verdict),
            health: Health::begin(verdict),
            suspected: None,
            next: None,
        }
    }

    /// Takes the result of a check that ended `now` and had taken `duration`.
    fn note(
        &mut self,
        id: &BackendId,
        rules: &Rules,
        result: &Result<(), ProbeFailure>,
        (duration, now): (Duration, Instant),
    ) -> Option<Change> {
        if result.as_ref().is_err_and(|failure| !failure.is_conclusive()) {
            return None;
        }
        let from = self.hysteresis.verdict();
        // A check that began before does not answer for what was seen since.
        let is_answered = self.suspected.is_some_and(|suspected| now - duration >= suspected);
        let suspicion = self.health.suspicion.take_if(|_| is_answered);
        let rules = Rules {
            fall: if suspicion.is_some() { 1 } else { rules.fall },
            ..*rules
        };
        let decided = self.hysteresis.result(result.is_ok(), &rules, now);
        self.health.checks += 1;
        self.health.failures += u64::from(result.is_err());
        self.health.last_duration = Some(duration);
        self.health.last_failure = result.as_ref().err().map(|failure| told(&failure.to_string()));
        if let Some(failure) = &self.health.last_failure {
            tracing::debug!(service = id.service, backend = id.backend, failure, "check failed");
        }
        self.health.progress = self.hysteresis.progress(&rules, now);
        let decided = decided?;
        self.health.verdict = self.hysteresis.verdict();
        self.health.since = SystemTime::now();
        self.health.cause = told(&cause(decided, result));
        if let Some(suspicion) = suspicion {
            self.health.cause += &format!("; before, {suspicion}");
        }
        Some(Change {
            target: id.clone(),
            from,
            to: self.health.verdict,
            cause: self.health.cause.clone(),
        })
    }
}

/// How long a cause may be, in characters: a backend decides what is in it.
const LONGEST_CAUSE: usize = 400;

/// A text that a backend had a say in: as long as it may be, and fit for terminals.
fn told(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(LONGEST_CAUSE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What decided, in words.
fn cause(Decision { results, flapping }: Decision, result: &Result<(), ProbeFailure>) -> String {
    match (result, flapping) {
        (Ok(()), None) => format!("{results} of {results} checks succeeded"),
        (Ok(()), Some(Flaps { period, .. })) => {
            format!(
                "{results} of {results} checks succeeded, over {}, after it had flapped",
                duration(period)
            )
        }
        (Err(failure), None) => format!("{results} of {results} checks failed: {failure}"),
        (Err(failure), Some(Flaps { limit, period })) => format!(
            "{results} of {results} checks failed: {failure}; it went down {} within {}, and has to be well \
             for that long",
            number(limit, "time"),
            duration(period)
        ),
    }
}

#[cfg(test)]
mod tests;
