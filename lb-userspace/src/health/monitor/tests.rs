//! Checks of backends that come and go, over real sockets.

use tokio::net::TcpListener;

use super::*;
use crate::health::ProbeResources;
use lb_core::config::{CheckTarget, HealthCheck, Initial, Probe, Rules, Timing};
use std::{net::SocketAddr, time::Duration};

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
        resources: ProbeResources::default(),
        vip_path: None,
        virtual_addresses: Arc::default(),
    }
}

fn id(backend: &str) -> BackendId {
    BackendId {
        service: "web".to_owned(),
        backend: backend.to_owned(),
    }
}

async fn next(changes: &mut mpsc::UnboundedReceiver<HealthChange>) -> (String, Verdict, String) {
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
        "only the times changed, so the verdict is kept"
    );
    assert_eq!(next(&mut changes).await.0, "b");
    let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
    monitor.set_targets(&[(id("b"), target(closed))].into(), &BTreeMap::new());
    assert_eq!(monitor.snapshot().len(), 1);
    assert_eq!(
        monitor.snapshot()[&id("b")].verdict,
        Verdict::Unknown,
        "another address starts without a verdict"
    );
    assert_eq!(next(&mut changes).await.1, Verdict::Down);
}

#[tokio::test]
async fn a_verdict_from_before_holds_until_enough_checks_contradict_it() {
    let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let (monitor, mut changes) = Monitor::new().unwrap();
    monitor.set_targets(&[(id("a"), target(closed))].into(), &[(id("a"), Verdict::Up)].into());
    assert_eq!(
        monitor.snapshot()[&id("a")].cause,
        "state kept from before; not checked yet"
    );
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
async fn a_suspect_backend_is_checked_at_once_and_one_failure_takes_it_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (monitor, mut changes) = Monitor::new().unwrap();
    let mut seldom = target(listener.local_addr().unwrap());
    assert!(!monitor.suspect(&id("a"), "not a target"));
    monitor.set_targets(&[(id("a"), seldom.clone())].into(), &BTreeMap::new());
    assert_eq!(next(&mut changes).await.1, Verdict::Up);
    // From now on no check is due.
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
            "1 of 1 checks failed: connect: refused; suspected because 3 SYNs in a row were refused".into()
        )
    );
    assert_eq!(of().suspicion, None);
    assert!(!monitor.suspect(&id("a"), "down already"));
}

#[test]
fn a_resource_shortage_of_this_machine_takes_no_backend_down() {
    let rules = target("127.0.0.1:1".parse().unwrap()).check.rules;
    let given_then = [
        (nix::libc::EMFILE, Verdict::Up),
        (nix::libc::ENFILE, Verdict::Up),
        (nix::libc::ENOBUFS, Verdict::Up),
        (nix::libc::ENOMEM, Verdict::Up),
        // No free port for a datagram.
        (nix::libc::EAGAIN, Verdict::Up),
        (nix::libc::ECONNREFUSED, Verdict::Down),
    ];
    for (errno, then) in given_then {
        let mut tracker = HealthTracker::new(Verdict::Unknown, SystemTime::now());
        let mut record = |result| {
            let now = Instant::now().into_std();
            if let Some(result) = conclusion(result) {
                let check = CheckResult {
                    result,
                    started: now,
                    ended: now,
                    wall_clock: SystemTime::now(),
                };
                tracker.record(&id("a"), &rules, &check);
            }
        };
        record(Ok(()));
        for _ in 0..rules.fall {
            let failure = io::Error::from_raw_os_error(errno);
            record(Err(ProbeFailure::Connect(failure)));
        }
        assert_eq!(tracker.health().verdict, then, "error {errno}");
    }
}

#[test]
fn a_new_service_does_not_disturb_the_checks_of_others() {
    let plain = target("127.0.0.1:1".parse().unwrap());
    let other = Target {
        virtual_addresses: Arc::new(["192.0.2.1".parse().unwrap()].into()),
        ..plain.clone()
    };
    assert_eq!(plain, other);
}

#[tokio::test]
async fn frequent_reloads_do_not_delay_checks() {
    let (monitor, mut changes) = Monitor::new().unwrap();
    let mut target = target("127.0.0.1:1".parse().unwrap());
    let mut check = HealthCheck::clone(&target.check);
    check.timing.interval = Duration::from_millis(400);
    let deadline = Instant::now() + DEADLINE;
    // Each reload changes the timeout, which starts a new task. Reloads are much more frequent than
    // checks.
    for turn in 0.. {
        check.timing.timeout = Duration::from_millis(100 + turn % 2);
        target.check = Arc::new(check.clone());
        monitor.set_targets(&[(id("a"), target.clone())].into(), &BTreeMap::new());
        if let Ok(change) = changes.try_recv() {
            assert_eq!(change.to, Verdict::Down);
            return;
        }
        assert!(Instant::now() < deadline, "no check has ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
