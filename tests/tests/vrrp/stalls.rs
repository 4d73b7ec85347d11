//! Processes that are held up move no address; and the demo of failover shows what it is to show.

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use harness::{
    demo::failover,
    floating::{self, await_roles, roles},
    lab::Lab,
    lbd::Lbd,
    process::Process,
};
use nix::sys::signal::Signal;

const FASTEST: &str = "interval = \"10ms\"\ngroup = \"edge\"\n";

fn pair(lab: &Lab) -> [Lbd<'_>; 2] {
    let first = floating::balancer(lab, 0, 200, FASTEST).unwrap();
    await_roles(&first, "master");
    let second = floating::balancer(lab, 1, 100, FASTEST).unwrap();
    await_roles(&second, "backup");
    [first, second]
}

/// How often a balancer's roles changed so far.
fn changes(lbd: &Lbd<'_>) -> usize {
    let events = lbd.lbctl(&["event", "list", "--limit", "1000"]).unwrap();
    let events = events["events"].as_array().unwrap();
    let is_role = |kind: &str| matches!(kind, "vrrp-master" | "vrrp-backup" | "vrrp-fault");
    events
        .iter()
        .filter(|event| event["kind"].as_str().is_some_and(is_role))
        .count()
}

#[test]
fn a_backup_that_stalls_for_half_a_second_takes_nothing_over() {
    let lab = floating::lab(2);
    let [first, second] = pair(&lab);
    let before = [changes(&first), changes(&second)];
    for _ in 0..10 {
        second.signal(Signal::SIGSTOP).unwrap();
        thread::sleep(Duration::from_millis(500));
        second.signal(Signal::SIGCONT).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!([changes(&first), changes(&second)], before, "{}", second.log());
    assert_eq!(
        (roles(&first), roles(&second)),
        (vec!["master".to_owned(); 2], vec!["backup".to_owned(); 2])
    );
}

#[test]
fn busy_processors_move_no_address() {
    let lab = floating::lab(2);
    let [first, second] = pair(&lab);
    let before = [changes(&first), changes(&second)];
    let seconds = if harness::is_nightly() { 30 } else { 10 };
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let mut command = lab.client.namespace.command("timeout");
            command.args([&seconds.to_string(), "sh", "-c", "while :; do :; done"]);
            Process::start("busy", command).unwrap()
        })
        .collect();
    thread::sleep(Duration::from_secs(seconds));
    drop(busy);
    assert_eq!(
        [changes(&first), changes(&second)],
        before,
        "log of lbd:\n{}\n{}",
        first.log(),
        second.log()
    );
}

#[test]
fn the_demo_of_failover_shows_the_address_move_there_and_back() {
    let summary = failover::run(6, &AtomicBool::new(false)).unwrap();
    assert!(summary.is_success(), "{summary:?}");
}
