//! Checks all backends again and again, with one task for each.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};

use super::{ProbeFailure, Target, Targets, probe::probe, thread::Thread};
use crate::system::fd_limit;
use lb_core::{
    config::BackendId,
    health::{CheckResult, Health, HealthChange, HealthTracker, LinkFlaps, ProbeErrors, ProbeSchedule, Verdict},
};

/// Checks a set of targets, which may change at any time. Dropping it ends all checks.
pub struct Monitor {
    thread: Thread,
    checked: Mutex<BTreeMap<BackendId, Checked>>,
    shared: Shared,
    /// The number of files that all checks together may have open.
    needed_files: AtomicU64,
}

/// What the tasks of all targets share.
#[derive(Clone)]
struct Shared {
    changes: mpsc::UnboundedSender<HealthChange>,
    link_flaps: Arc<LinkFlaps>,
    probe_errors: Arc<Mutex<ProbeErrors>>,
}

/// A target and its task.
struct Checked {
    target: Target,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// The state of a target. It outlives its task when only the times of the check change.
struct State {
    tracker: Mutex<HealthTracker>,
    /// When the next check is due. A new task continues with it.
    next: Mutex<Option<Instant>>,
    /// Starts a check at once.
    wake: Notify,
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// A monitor without targets. The receiver yields changes of verdicts.
    ///
    /// # Errors
    ///
    /// When the thread for checks cannot be started.
    pub fn new() -> io::Result<(Self, mpsc::UnboundedReceiver<HealthChange>)> {
        let (changes, receiver) = mpsc::unbounded_channel();
        let monitor = Self {
            thread: Thread::start()?,
            checked: Mutex::default(),
            shared: Shared {
                changes,
                link_flaps: Arc::default(),
                probe_errors: Arc::default(),
            },
            needed_files: AtomicU64::default(),
        };
        Ok((monitor, receiver))
    }

    /// Where to report the state of this machine's links.
    pub fn link_flaps(&self) -> &Arc<LinkFlaps> {
        &self.shared.link_flaps
    }

    /// Sets what is checked.
    ///
    /// - An unchanged target is not disturbed.
    /// - A target whose times changed keeps its health.
    /// - A new target, or one that is asked something else, starts with its verdict in `before`.
    pub fn set_targets(&self, targets: &Targets, before: &BTreeMap<BackendId, Verdict>) {
        self.warn_of_fd_limit(targets);
        let mut checked = lock(&self.checked);
        checked.retain(|id, _| targets.contains_key(id));
        for (id, target) in targets {
            let old = checked.get(id);
            if old.is_some_and(|old| old.target == *target) {
                continue;
            }
            let state = match old.filter(|old| old.target.asks_the_same(target)) {
                Some(old) => Arc::clone(&old.state),
                None => Arc::new(State::new(before.get(id).copied().unwrap_or_default())),
            };
            checked.insert(id.clone(), self.start(id, target, state));
        }
    }

    fn start(&self, id: &BackendId, target: &Target, state: Arc<State>) -> Checked {
        let task = Task {
            id: id.clone(),
            target: target.clone(),
            state: Arc::clone(&state),
            shared: self.shared.clone(),
            schedule: ProbeSchedule::new(id, target.check.timing),
        };
        Checked {
            target: target.clone(),
            state,
            task: self.thread.spawn(task.run()),
        }
    }

    /// Warns if all checks together may need more open files than this process may have.
    fn warn_of_fd_limit(&self, targets: &Targets) {
        let needed = fd_limit::needed(targets.values().map(|target| &target.check.probe));
        let limit = fd_limit::limit();
        if self.needed_files.swap(needed, Ordering::Relaxed) != needed && needed > limit {
            tracing::warn!(
                "at most {limit} files may be open at a time, and {needed} may be needed when {} backends do not respond: raise \
                 the hard limit (`LimitNOFILE=` of the unit), or checks may have to wait for each other",
                targets.len()
            );
        }
    }

    /// Makes a target suspect that is up, and checks it at once. Then one failure takes it down,
    /// and one success ends the suspicion. Returns whether it became suspect.
    pub fn suspect(&self, id: &BackendId, cause: &str) -> bool {
        let checked = lock(&self.checked);
        let Some(Checked { state, .. }) = checked.get(id) else {
            return false;
        };
        let is_suspect = lock(&state.tracker).suspect(cause, Instant::now().into_std());
        if is_suspect {
            state.wake.notify_one();
        }
        is_suspect
    }

    /// The health of a target.
    pub fn of(&self, id: &BackendId) -> Option<Health> {
        lock(&self.checked).get(id).map(|checked| checked.state.health())
    }

    /// The health of every target.
    pub fn snapshot(&self) -> BTreeMap<BackendId, Health> {
        lock(&self.checked)
            .iter()
            .map(|(id, checked)| (id.clone(), checked.state.health()))
            .collect()
    }
}

/// No code panics while it holds a lock, and the guarded values are valid at every instant.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn new(verdict: Verdict) -> Self {
        Self {
            tracker: Mutex::new(HealthTracker::new(verdict, SystemTime::now())),
            next: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn health(&self) -> Health {
        lock(&self.tracker).health().clone()
    }
}

/// Checks one target until it is aborted.
struct Task {
    id: BackendId,
    target: Target,
    state: Arc<State>,
    shared: Shared,
    schedule: ProbeSchedule,
}

impl Task {
    async fn run(mut self) {
        let mut next = self.first();
        loop {
            self.wait_until(next).await;
            let started = Instant::now();
            let result = self.check().await;
            let is_changing = self.record(result, started);
            next = started + self.schedule.next(is_changing);
            *lock(&self.state.next) = Some(next);
        }
    }

    /// When the first check is due.
    fn first(&mut self) -> Instant {
        let now = Instant::now();
        let kept = *lock(&self.state.next);
        let first = kept.unwrap_or_else(|| now + self.schedule.first());
        // A shorter interval must not wait for the end of a longer one.
        first.min(now + self.target.check.timing.interval)
    }

    /// Waits until a check is due, or until a passive check asks for one.
    async fn wait_until(&self, due: Instant) {
        let epoch = epoch();
        tokio::select! {
            () = tokio::time::sleep_until(epoch + self.schedule.align(due - epoch)) => {}
            () = self.state.wake.notified() => {}
        }
    }

    /// Makes one check.
    async fn check(&self) -> Result<(), ProbeFailure> {
        let failure = match probe(&self.id, &self.target).await {
            Ok(()) => return Ok(()),
            Err(failure) if self.target.vip_path.is_some() => failure.through_device(),
            Err(failure) => failure,
        };
        let now = Instant::now().into_std();
        let flapping = self.shared.link_flaps.flapping_link(self.target.address.ip(), now);
        Err(flapping.map_or(failure, ProbeFailure::LinkFlap))
    }

    /// Records a result. Returns whether the verdict may change soon.
    fn record(&self, result: Result<(), ProbeFailure>, started: Instant) -> bool {
        let ended = Instant::now();
        if let Err(failure) = &result {
            self.log(failure, ended);
        }
        let mut tracker = lock(&self.state.tracker);
        if let Some(result) = conclusion(result) {
            let check = CheckResult {
                result,
                started: started.into_std(),
                ended: ended.into_std(),
                wall_clock: SystemTime::now(),
            };
            let change = tracker.record(&self.id, &self.target.check.rules, &check);
            if let Some(failure) = &tracker.health().last_failure {
                let BackendId { service, backend } = &self.id;
                tracing::debug!(service, backend, failure, "check failed");
            }
            if let Some(change) = change {
                // The receiver is dropped only when the whole program ends.
                let _ = self.shared.changes.send(change);
            }
        }
        tracker.is_changing()
    }

    /// Logs a check that this machine could not make.
    fn log(&self, failure: &ProbeFailure, now: Instant) {
        if failure.is_conclusive() {
            return;
        }
        let BackendId { service, backend } = &self.id;
        tracing::debug!(service, backend, %failure, "cannot check, health is unchanged");
        if let Some(backends) = lock(&self.shared.probe_errors).record(&self.id, now.into_std()) {
            tracing::warn!(service, backend, %failure, backends, "cannot check backends, their health is unchanged");
        }
    }
}

/// What a result says about the backend. `None`: nothing, because the failure lies on this machine.
fn conclusion(result: Result<(), ProbeFailure>) -> Option<Result<(), String>> {
    match result {
        Ok(()) => Some(Ok(())),
        Err(failure) => failure.is_conclusive().then(|| Err(failure.to_string())),
    }
}

/// A moment that is the same for all targets.
fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

#[cfg(test)]
mod tests;
