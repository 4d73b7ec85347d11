//! Asks all backends again and again, one task for each.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use super::{Hysteresis, ProbeFailure, Verdict, probe::probe};
use crate::config::HealthCheck;

/// The first checks of all targets spread over this time, or over the interval if that is shorter.
const SPREAD: Duration = Duration::from_secs(1);

/// A backend of a service, by the names of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId {
    /// Name of the service.
    pub service: String,
    /// Name of the backend.
    pub backend: String,
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to ask.
    pub address: SocketAddr,
    /// What, and how often.
    pub check: HealthCheck,
}

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
    /// How often it was asked.
    pub checks: u64,
    /// How often it did not answer as it should.
    pub failures: u64,
    /// How long the last check took.
    pub last_duration: Option<Duration>,
}

impl Health {
    fn unknown() -> Self {
        Self {
            verdict: Verdict::Unknown,
            since: SystemTime::now(),
            cause: "not checked yet".to_owned(),
            suspicion: None,
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
    pub target: TargetId,
    /// What it was.
    pub from: Verdict,
    /// What it is.
    pub to: Verdict,
    /// What decided that.
    pub cause: String,
}

/// Checks a set of targets, which may change at any time. Dropping it ends all checks.
pub struct Monitor {
    watched: Mutex<BTreeMap<TargetId, Watched>>,
    changes: mpsc::UnboundedSender<Change>,
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
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// Without targets. Changes of verdicts come out of the receiver.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Change>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        (
            Self {
                watched: Mutex::default(),
                changes,
            },
            receiver,
        )
    }

    /// Sets what is checked. Targets that stay are not disturbed; one whose address or question changed begins anew,
    /// one whose times changed keeps its verdict. It must be called within a tokio runtime.
    pub fn set_targets(&self, targets: BTreeMap<TargetId, Target>) {
        let mut watched = lock(&self.watched);
        watched.retain(|id, _| targets.contains_key(id));
        for (id, target) in targets {
            let before = watched.get(&id);
            if before.is_some_and(|before| before.target == target) {
                continue;
            }
            let kept = before
                .filter(|before| asks_the_same(&before.target, &target))
                .map(|before| (&before.state, &before.wake));
            let wake = kept.map(|(_, wake)| Arc::clone(wake)).unwrap_or_default();
            let state = kept.map(|(state, _)| Arc::clone(state)).unwrap_or_else(|| {
                Arc::new(Mutex::new(State {
                    hysteresis: Hysteresis::default(),
                    health: Health::unknown(),
                }))
            });
            let task = tokio::spawn(watch(
                id.clone(),
                target.clone(),
                Arc::clone(&state),
                Arc::clone(&wake),
                self.changes.clone(),
            ));
            let target = Watched {
                target,
                state,
                wake,
                task,
            };
            watched.insert(id, target);
        }
    }

    /// Makes a target suspect that counts as up, and has it checked at once: one failure takes it down, one success ends
    /// the suspicion. Says whether it is suspect since now.
    pub fn suspect(&self, id: &TargetId, cause: &str) -> bool {
        let watched = lock(&self.watched);
        let Some(watched) = watched.get(id) else { return false };
        let mut state = lock(&watched.state);
        if state.hysteresis.verdict() != Verdict::Up || state.health.suspicion.is_some() {
            return false;
        }
        state.health.suspicion = Some(cause.to_owned());
        watched.wake.notify_one();
        true
    }

    /// What is known of a target.
    pub fn of(&self, id: &TargetId) -> Option<Health> {
        let watched = lock(&self.watched);
        watched.get(id).map(|watched| lock(&watched.state).health.clone())
    }

    /// What is known of every target.
    pub fn snapshot(&self) -> BTreeMap<TargetId, Health> {
        let watched = lock(&self.watched);
        watched
            .iter()
            .map(|(id, watched)| (id.clone(), lock(&watched.state).health.clone()))
            .collect()
    }
}

fn asks_the_same(before: &Target, after: &Target) -> bool {
    before.address == after.address && before.check.probe == after.check.probe
}

/// Nothing panics while it holds a lock, and what the locks guard is right at every instant.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(
    id: TargetId,
    target: Target,
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
    changes: mpsc::UnboundedSender<Change>,
) {
    let start = tokio::time::Instant::now() + offset(&id, target.check.interval.min(SPREAD));
    let mut ticks = tokio::time::interval_at(start, target.check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = wake.notified() => ticks.reset(),
        }
        let begin = Instant::now();
        let result = probe(target.address, &target.check).await;
        if let Some(change) = lock(&state).note(&id, &target.check, &result, begin.elapsed()) {
            // Nobody listens any more when the whole program ends.
            let _ = changes.send(change);
        }
    }
}

/// Where in `spread` the first check of a target is: always the same, and different for each.
fn offset(id: &TargetId, spread: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    spread.mul_f64((hasher.finish() >> 32) as f64 / f64::from(u32::MAX))
}

impl State {
    fn note(
        &mut self,
        id: &TargetId,
        check: &HealthCheck,
        result: &Result<(), ProbeFailure>,
        duration: Duration,
    ) -> Option<Change> {
        if let Err(failure) = result
            && !failure.is_conclusive()
        {
            tracing::warn!(service = id.service, backend = id.backend, %failure, "check not possible, verdict kept");
            return None;
        }
        let from = self.hysteresis.verdict();
        let suspicion = self.health.suspicion.take();
        let fall = if suspicion.is_some() { 1 } else { check.fall };
        let decided = self.hysteresis.result(result.is_ok(), check.rise, fall);
        self.health.checks += 1;
        self.health.failures += u64::from(result.is_err());
        self.health.last_duration = Some(duration);
        if let Err(failure) = result {
            tracing::debug!(service = id.service, backend = id.backend, %failure, "check failed");
        }
        let decided = decided?;
        self.health.verdict = self.hysteresis.verdict();
        self.health.since = SystemTime::now();
        self.health.cause = match result {
            Ok(()) => format!("{decided} of {decided} checks succeeded"),
            Err(failure) => format!("{decided} of {decided} checks failed: {failure}"),
        };
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Probe;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn target(address: SocketAddr) -> Target {
        let check = HealthCheck {
            probe: Probe::Tcp,
            port: None,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 2,
        };
        Target { address, check }
    }

    fn id(backend: &str) -> TargetId {
        TargetId {
            service: "web".to_owned(),
            backend: backend.to_owned(),
        }
    }

    async fn next(changes: &mut mpsc::UnboundedReceiver<Change>) -> (String, Verdict, String) {
        let change = tokio::time::timeout(DEADLINE, changes.recv())
            .await
            .expect("a change in time")
            .unwrap();
        (change.target.backend, change.to, change.cause)
    }

    #[tokio::test]
    async fn a_backend_comes_up_goes_down_and_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (monitor, mut changes) = Monitor::new();
        monitor.set_targets([(id("a"), target(address))].into());
        assert_eq!(monitor.snapshot()[&id("a")].verdict, Verdict::Unknown);
        assert_eq!(
            next(&mut changes).await,
            ("a".into(), Verdict::Up, "1 of 1 checks succeeded".into())
        );
        drop(listener);
        assert_eq!(
            next(&mut changes).await,
            (
                "a".into(),
                Verdict::Down,
                "2 of 2 checks failed: connect: refused".into()
            )
        );
        let _again = TcpListener::bind(address).await.unwrap();
        assert_eq!(next(&mut changes).await.1, Verdict::Up);
        let health = &monitor.snapshot()[&id("a")];
        assert!(health.failures >= 2 && health.checks > health.failures);
    }

    #[tokio::test]
    async fn targets_change_without_disturbing_the_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (monitor, mut changes) = Monitor::new();
        monitor.set_targets([(id("a"), target(address))].into());
        next(&mut changes).await;
        let mut slower = target(address);
        slower.check.interval = Duration::from_millis(30);
        monitor.set_targets([(id("a"), slower), (id("b"), target(address))].into());
        assert_eq!(
            monitor.snapshot()[&id("a")].verdict,
            Verdict::Up,
            "other times, same verdict"
        );
        assert_eq!(next(&mut changes).await.0, "b");
        let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
        monitor.set_targets([(id("b"), target(closed))].into());
        assert_eq!(monitor.snapshot().len(), 1);
        assert_eq!(
            monitor.snapshot()[&id("b")].verdict,
            Verdict::Unknown,
            "another address, anew"
        );
        assert_eq!(next(&mut changes).await.1, Verdict::Down);
    }

    #[tokio::test]
    async fn hundreds_of_targets_are_all_checked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let (monitor, mut changes) = Monitor::new();
        monitor.set_targets((0..200).map(|n| (id(&n.to_string()), target(address))).collect());
        for _ in 0..200 {
            assert_eq!(next(&mut changes).await.1, Verdict::Up);
        }
    }

    #[tokio::test]
    async fn a_suspect_is_checked_at_once_and_one_failure_takes_it_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (monitor, mut changes) = Monitor::new();
        let mut seldom = target(listener.local_addr().unwrap());
        assert!(!monitor.suspect(&id("a"), "nobody knows it"));
        monitor.set_targets([(id("a"), seldom.clone())].into());
        assert_eq!(next(&mut changes).await.1, Verdict::Up);
        // From now on no check comes by itself.
        seldom.check.interval = Duration::from_secs(3600);
        monitor.set_targets([(id("a"), seldom)].into());
        let of = || monitor.of(&id("a")).unwrap();
        let checks = of().checks;
        assert!(monitor.suspect(&id("a"), "3 SYNs in a row were refused"));
        let begin = Instant::now();
        while of().suspicion.is_some() {
            assert!(begin.elapsed() < DEADLINE, "a success ends the suspicion");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(of().verdict == Verdict::Up && of().checks > checks);
        drop(listener);
        assert!(monitor.suspect(&id("a"), "3 SYNs in a row were refused"));
        assert_eq!(
            next(&mut changes).await,
            (
                "a".into(),
                Verdict::Down,
                "1 of 1 checks failed: connect: refused; before, 3 SYNs in a row were refused".into()
            )
        );
        assert_eq!(of().suspicion, None);
        assert!(!monitor.suspect(&id("a"), "it is down already"));
    }

    #[test]
    fn a_shortage_of_this_machine_takes_no_backend_down() {
        let check = target("127.0.0.1:1".parse().unwrap()).check;
        let given_then = [
            (nix::libc::EMFILE, Verdict::Up),
            (nix::libc::ENFILE, Verdict::Up),
            (nix::libc::ENOBUFS, Verdict::Up),
            (nix::libc::ENOMEM, Verdict::Up),
            (nix::libc::ECONNREFUSED, Verdict::Down),
        ];
        for (errno, then) in given_then {
            let mut state = State {
                hysteresis: Hysteresis::default(),
                health: Health::unknown(),
            };
            state.note(&id("a"), &check, &Ok(()), Duration::ZERO);
            for _ in 0..check.fall {
                let failure = ProbeFailure::Connect(std::io::Error::from_raw_os_error(errno));
                state.note(&id("a"), &check, &Err(failure), Duration::ZERO);
            }
            assert_eq!(state.health.verdict, then, "error {errno}");
        }
    }

    #[test]
    fn first_checks_spread_over_the_interval() {
        let interval = Duration::from_millis(100);
        let offsets: Vec<_> = (0..100).map(|n| offset(&id(&n.to_string()), interval)).collect();
        assert!(offsets.iter().all(|offset| *offset <= interval));
        assert!(offsets.iter().filter(|offset| **offset < interval / 2).count() > 20);
        assert!(offsets.iter().filter(|offset| **offset > interval / 2).count() > 20);
    }
}
