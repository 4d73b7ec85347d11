//! Asks all backends again and again, one task for each.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::{
    Decision, Hysteresis, OwnLinks, ProbeFailure, Target, TargetId, Targets, Verdict, pace::Pace, probe::probe,
    thread::Thread,
};
use crate::{
    config::{Flaps, Rules},
    printable::printable,
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
    thread: Thread,
    watched: Mutex<BTreeMap<TargetId, Watched>>,
    changes: mpsc::UnboundedSender<Change>,
    own_links: Arc<OwnLinks>,
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
    /// Whether the last check was not possible.
    is_hindered: bool,
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
        };
        Ok((monitor, receiver))
    }

    /// Where links of this machine are told that fail for a moment.
    pub fn own_links(&self) -> &Arc<OwnLinks> {
        &self.own_links
    }

    /// Sets what is checked. Targets that stay are not disturbed; one whose times changed keeps its verdict. One that is new,
    /// or is asked something else, begins with the verdict that `before` has of it.
    pub fn set_targets(&self, targets: &Targets, before: &BTreeMap<TargetId, Verdict>) {
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
        state.suspected = Some(Instant::now());
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
    own_links: Arc<OwnLinks>,
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
            is_hindered: false,
            next: None,
        }
    }

    /// Takes the result of a check that ended `now` and had taken `duration`.
    fn note(
        &mut self,
        id: &TargetId,
        rules: &Rules,
        result: &Result<(), ProbeFailure>,
        (duration, now): (Duration, Instant),
    ) -> Option<Change> {
        if let Err(failure) = result
            && !failure.is_conclusive()
        {
            // Once, not with every check.
            if std::mem::replace(&mut self.is_hindered, true) {
                tracing::debug!(service = id.service, backend = id.backend, %failure, "check not possible, verdict kept");
            } else {
                tracing::warn!(service = id.service, backend = id.backend, %failure, "checks not possible, verdict kept");
            }
            return None;
        }
        self.is_hindered = false;
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
            format!("{results} of {results} checks succeeded, over {period:?}, after it had flapped")
        }
        (Err(failure), None) => format!("{results} of {results} checks failed: {failure}"),
        (Err(failure), Some(Flaps { limit, period })) => format!(
            "{results} of {results} checks failed: {failure}; it went down {limit} times within {period:?}, and has to be \
             well for that long"
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{CheckTarget, HealthCheck, Initial, Probe, Timing};
    use crate::health::Means;
    use std::net::SocketAddr;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn target(address: SocketAddr) -> Target {
        let check = HealthCheck {
            probe: Probe::Tcp,
            target: CheckTarget::Backend,
            port: None,
            timing: Timing {
                interval: Duration::from_millis(20),
                fast_interval: Duration::from_millis(20),
                jitter: 0,
                timeout: Duration::from_secs(5),
            },
            rules: Rules {
                rise: 2,
                fall: 2,
                initial: Initial::Unknown,
                flaps: None,
            },
        };
        Target {
            address,
            check: Arc::new(check),
            means: Means::default(),
            way: None,
            avoided: Arc::default(),
        }
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
        let (monitor, mut changes) = Monitor::new().unwrap();
        monitor.set_targets(&[(id("a"), target(address))].into(), &BTreeMap::new());
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
        let (monitor, mut changes) = Monitor::new().unwrap();
        monitor.set_targets(&[(id("a"), target(address))].into(), &BTreeMap::new());
        next(&mut changes).await;
        let mut slower = target(address);
        Arc::make_mut(&mut slower.check).timing.interval = Duration::from_millis(30);
        monitor.set_targets(
            &[(id("a"), slower), (id("b"), target(address))].into(),
            &BTreeMap::new(),
        );
        assert_eq!(
            monitor.snapshot()[&id("a")].verdict,
            Verdict::Up,
            "other times, same verdict"
        );
        assert_eq!(next(&mut changes).await.0, "b");
        let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
        monitor.set_targets(&[(id("b"), target(closed))].into(), &BTreeMap::new());
        assert_eq!(monitor.snapshot().len(), 1);
        assert_eq!(
            monitor.snapshot()[&id("b")].verdict,
            Verdict::Unknown,
            "another address, anew"
        );
        assert_eq!(next(&mut changes).await.1, Verdict::Down);
    }

    #[tokio::test]
    async fn what_was_thought_of_a_backend_before_holds_until_enough_checks_speak_against_it() {
        let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let (monitor, mut changes) = Monitor::new().unwrap();
        monitor.set_targets(&[(id("a"), target(closed))].into(), &[(id("a"), Verdict::Up)].into());
        assert_eq!(monitor.snapshot()[&id("a")].cause, "as it was before; not checked yet");
        assert_eq!(
            next(&mut changes).await,
            (
                "a".into(),
                Verdict::Down,
                "2 of 2 checks failed: connect: refused".into()
            )
        );
        assert_eq!(
            monitor.snapshot()[&id("a")].last_failure.as_deref(),
            Some("connect: refused")
        );
    }

    #[tokio::test]
    async fn hundreds_of_targets_are_all_checked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let (monitor, mut changes) = Monitor::new().unwrap();
        monitor.set_targets(
            &(0..200).map(|n| (id(&n.to_string()), target(address))).collect(),
            &BTreeMap::new(),
        );
        for _ in 0..200 {
            assert_eq!(next(&mut changes).await.1, Verdict::Up);
        }
    }

    #[tokio::test]
    async fn a_suspect_is_checked_at_once_and_one_failure_takes_it_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (monitor, mut changes) = Monitor::new().unwrap();
        let mut seldom = target(listener.local_addr().unwrap());
        assert!(!monitor.suspect(&id("a"), "nobody knows it"));
        monitor.set_targets(&[(id("a"), seldom.clone())].into(), &BTreeMap::new());
        assert_eq!(next(&mut changes).await.1, Verdict::Up);
        // From now on no check comes by itself.
        let timing = &mut Arc::make_mut(&mut seldom.check).timing;
        (timing.interval, timing.fast_interval) = (Duration::from_secs(3600), Duration::from_secs(3600));
        monitor.set_targets(&[(id("a"), seldom)].into(), &BTreeMap::new());
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
        let now = (Duration::ZERO, Instant::now());
        let given_then = [
            (nix::libc::EMFILE, Verdict::Up),
            (nix::libc::ENFILE, Verdict::Up),
            (nix::libc::ENOBUFS, Verdict::Up),
            (nix::libc::ENOMEM, Verdict::Up),
            // No port is left for a datagram.
            (nix::libc::EAGAIN, Verdict::Up),
            (nix::libc::ECONNREFUSED, Verdict::Down),
        ];
        for (errno, then) in given_then {
            let mut state = State::begin(Verdict::Unknown);
            state.note(&id("a"), &check.rules, &Ok(()), now);
            for _ in 0..check.rules.fall {
                let failure = ProbeFailure::Connect(std::io::Error::from_raw_os_error(errno));
                state.note(&id("a"), &check.rules, &Err(failure), now);
            }
            assert_eq!(state.health.verdict, then, "error {errno}");
        }
    }

    #[test]
    fn a_check_that_began_before_a_suspicion_does_not_end_it() {
        let rules = target("127.0.0.1:1".parse().unwrap()).check.rules;
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut state = State::begin(Verdict::Unknown);
        state.note(&id("a"), &rules, &Ok(()), (Duration::ZERO, begin));
        (state.health.suspicion, state.suspected) = (Some("resets".to_owned()), Some(begin + second));
        state.note(&id("a"), &rules, &Ok(()), (2 * second, begin + 2 * second));
        assert!(state.health.suspicion.is_some());
        let refused = || ProbeFailure::Connect(io::ErrorKind::ConnectionRefused.into());
        let early = state.note(&id("a"), &rules, &Err(refused()), (2 * second, begin + 2 * second));
        assert_eq!(
            (early, state.health.progress.as_deref()),
            (None, Some("1 of 2 checks failed"))
        );
        state.note(&id("a"), &rules, &Ok(()), (second, begin + 3 * second));
        assert_eq!((&state.health.suspicion, &state.health.progress), (&None, &None));
    }

    #[test]
    fn what_a_backend_says_is_told_only_so_far_and_does_nothing_to_terminals() {
        assert_eq!(told("gRPC: status 13 \u{1b}[2J\u{202e}on"), "gRPC: status 13  [2J on");
        assert_eq!(told("refused"), "refused");
        let long = told(&"ä".repeat(1_000_000));
        assert_eq!(long.chars().count(), LONGEST_CAUSE + 1);
    }

    #[test]
    fn a_service_more_does_not_disturb_the_checks_of_others() {
        let plain = target("127.0.0.1:1".parse().unwrap());
        let other = Target {
            avoided: Arc::new(["192.0.2.1".parse().unwrap()].into()),
            ..plain.clone()
        };
        assert_eq!(plain, other);
    }

    #[tokio::test]
    async fn reloads_do_not_put_checks_off() {
        let (monitor, mut changes) = Monitor::new().unwrap();
        let mut target = target("127.0.0.1:1".parse().unwrap());
        let mut check = HealthCheck::clone(&target.check);
        check.timing.interval = Duration::from_millis(400);
        let deadline = Instant::now() + DEADLINE;
        // Each time the timeout differs, so that the task is another one; much more often than the checks come.
        for turn in 0.. {
            check.timing.timeout = Duration::from_millis(100 + turn % 2);
            target.check = Arc::new(check.clone());
            monitor.set_targets(&[(id("a"), target.clone())].into(), &BTreeMap::new());
            if let Ok(change) = changes.try_recv() {
                assert_eq!(change.to, Verdict::Down);
                return;
            }
            assert!(Instant::now() < deadline, "no check came to its end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
