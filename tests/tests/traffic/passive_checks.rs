//! Workers that refuse connections, or do not answer them: noticed by the clients' own packets,
//! under real traffic.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use harness::{
    client::Load,
    config::Config,
    forwarding::Forwarding,
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    wait::{PATIENCE, eventually},
    worker::Worker,
};
use serde_json::Value;

/// A check that is too rare to notice anything while a test runs.
const RARE_CHECK: &str = "type = \"tcp\"\ninterval = \"10m\"\ntimeout = \"500ms\"\nrise = 1\nfall = 3\n";

const MODES: [Forwarding; 2] = [Forwarding::Nat, Forwarding::Dnat];

fn targets() -> [(&'static str, SocketAddr); 2] {
    let [v4, v6] = virtual_addresses(0);
    [("v4", (v4, 80).into()), ("v6", (v6, 80).into())]
}

/// A balancer of both families in a mode, with this health check where it is not empty.
fn balance<'a>(lab: &'a Lab, mode: Forwarding, health: &str) -> Lbd<'a> {
    let services = targets().map(|(name, address)| mode.service(lab, name, "tcp", address).health(health));
    let config = services
        .into_iter()
        .fold(Config::new(lab, "balancer"), |config, service| config.with(service));
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    for (service, _) in targets() {
        lbd.await_all_up(service);
    }
    lbd
}

/// Causes of the events of a kind that a backend had, oldest first.
fn causes(lbd: &Lbd, kind: &str, service: &str, backend: &str) -> Vec<String> {
    let events = lbd.lbctl(&["event", "list"]).unwrap();
    let is_it = |event: &&Value| event["kind"] == kind && event["service"] == service && event["backend"] == backend;
    let found = events["events"].as_array().unwrap().iter().filter(is_it);
    found.map(|event| event["cause"].as_str().unwrap().to_owned()).collect()
}

fn rescheduled(lbd: &Lbd) -> u64 {
    let events = lbd.lbctl(&["map", "dump", "EVENTS"]).unwrap();
    let mut rows = events.as_array().unwrap().iter();
    let found = rows
        .find(|row| row["key"] == "rescheduled")
        .unwrap_or_else(|| panic!("{events}"));
    found["count"].as_u64().unwrap()
}

#[test]
fn a_worker_that_refuses_connections_is_taken_down_though_no_check_is_due() {
    for mode in MODES {
        let (lab, _decapsulators) = mode.lab().unwrap();
        let mut workers = Worker::all(&lab);
        let lbd = balance(&lab, mode, RARE_CHECK);
        workers[0].kill();
        for (service, target) in targets() {
            // Each second connection is refused, until three were.
            let begin = Instant::now();
            eventually(PATIENCE, "the worker is down", || {
                Load::new(target).requests(2).run(&lab.client.namespace);
                let states = lbd.backend_states(service).unwrap();
                states.contains(&("worker-1".into(), "down".into()))
            });
            eprintln!("{mode:?} {service}: down after {:?}", begin.elapsed());
            let suspected = causes(&lbd, "backend-suspect", service, "worker-1");
            let is_refusal = |cause: &String| cause.ends_with("SYNs in a row were refused");
            assert!(
                suspected.len() == 1 && suspected.iter().all(is_refusal),
                "{suspected:?}"
            );
            let down = causes(&lbd, "backend-down", service, "worker-1");
            let cause = format!(
                "1 of 1 checks failed: connect: refused; suspected because {}",
                suspected[0]
            );
            assert_eq!(down, [cause], "log of lbd:\n{}", lbd.log());
            assert_eq!(causes(&lbd, "backend-suspect", service, "worker-2"), [""; 0]);
            Load::new(target).run(&lab.client.namespace).assert_flawless();
        }
    }
}

#[test]
fn a_connection_to_a_silently_dead_worker_is_made_with_another_without_any_check() {
    for mode in MODES {
        let (lab, _decapsulators) = mode.lab().unwrap();
        let _workers = Worker::all(&lab);
        let lbd = balance(&lab, mode, "");
        for (_, target) in targets() {
            Load::new(target)
                .requests(10)
                .run(&lab.client.namespace)
                .assert_flawless();
        }
        lab.fabric.set_cable(&lab.workers[0], false).unwrap();
        for (service, target) in targets() {
            let before = rescheduled(&lbd);
            for turn in 0..4 {
                let begin = Instant::now();
                let connected = lab
                    .client
                    .namespace
                    .run(|| TcpStream::connect_timeout(&target, PATIENCE));
                let log = lbd.log();
                connected.unwrap_or_else(|error| panic!("{mode:?} {service} {turn}: {error}; log of lbd:\n{log}"));
                eprintln!("{mode:?} {service}: connected after {:?}", begin.elapsed());
            }
            assert!(
                rescheduled(&lbd) > before,
                "{mode:?} {service}: every second one met the dead worker"
            );
        }
        lab.fabric.set_cable(&lab.workers[0], true).unwrap();
    }
}

#[test]
fn a_worker_that_falls_silent_is_taken_down_though_no_check_is_due() {
    let (lab, _decapsulators) = Forwarding::Nat.lab().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(&lab, Forwarding::Nat, RARE_CHECK);
    for (_, target) in targets() {
        Load::new(target)
            .requests(10)
            .run(&lab.client.namespace)
            .assert_flawless();
    }
    lab.fabric.set_cable(&lab.workers[0], false).unwrap();
    for (service, target) in targets() {
        let mut load = Load::new(target).requests(8).concurrency(4);
        load.patience = PATIENCE;
        eventually(2 * PATIENCE, "the worker is down", || {
            load.clone().run(&lab.client.namespace).assert_flawless();
            let states = lbd.backend_states(service).unwrap();
            states.contains(&("worker-1".into(), "down".into()))
        });
        let suspected = causes(&lbd, "backend-suspect", service, "worker-1");
        assert!(suspected[0].ends_with("SYNs in a row got no reply"), "{suspected:?}");
        let down = causes(&lbd, "backend-down", service, "worker-1");
        assert!(down[0].starts_with("1 of 1 checks failed: "), "{down:?}");
        assert_eq!(causes(&lbd, "backend-suspect", service, "worker-2"), [""; 0]);
    }
}

#[test]
fn a_worker_that_answers_its_checks_is_cleared_and_stays_up() {
    let (lab, _decapsulators) = Forwarding::Nat.lab().unwrap();
    let mut workers = Worker::all(&lab);
    // The check uses a port that stays open when that of the service does not.
    let _healthy: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 81).unwrap())
        .collect();
    let lbd = balance(&lab, Forwarding::Nat, &format!("{RARE_CHECK}port = 81\n"));
    workers[0].kill();
    let (service, target) = targets()[0];
    let cleared = || causes(&lbd, "backend-suspect-cleared", service, "worker-1");
    eventually(PATIENCE, "the worker is cleared", || {
        Load::new(target).requests(2).run(&lab.client.namespace);
        !cleared().is_empty()
    });
    assert_eq!(cleared()[0], "its check succeeded");
    assert_eq!(causes(&lbd, "backend-down", service, "worker-1"), [""; 0]);
    let states = lbd.backend_states(service).unwrap();
    assert!(states.contains(&("worker-1".into(), "up".into())), "{states:?}");
    // It is not suspected again for each three that fail.
    Load::new(target).requests(60).run(&lab.client.namespace);
    std::thread::sleep(Duration::from_secs(2));
    let suspected = causes(&lbd, "backend-suspect", service, "worker-1").len();
    assert!(
        (1..=5).contains(&suspected),
        "{suspected} times for about thirty refused"
    );
}

#[test]
fn who_does_not_want_it_is_left_alone() {
    let (lab, _decapsulators) = Forwarding::Nat.lab().unwrap();
    let mut workers = Worker::all(&lab);
    let lbd = balance(&lab, Forwarding::Nat, &format!("{RARE_CHECK}passive = false\n"));
    workers[0].kill();
    let (service, target) = targets()[0];
    Load::new(target).requests(20).run(&lab.client.namespace);
    std::thread::sleep(Duration::from_secs(1));
    let states = lbd.backend_states(service).unwrap();
    assert!(states.contains(&("worker-1".into(), "up".into())), "{states:?}");
    assert_eq!(causes(&lbd, "backend-suspect", service, "worker-1"), [""; 0]);
}
