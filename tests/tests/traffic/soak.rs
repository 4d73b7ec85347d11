//! The controller under constant change: it keeps no more memory and no more descriptors than it
//! began with.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use harness::{
    client::Load,
    config::{Config, QUICK_HTTP_CHECK, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    worker::Worker,
};

/// How long the change lasts, in seconds: 20 in the gate, 120 at night, or what `LBD_SOAK_SECONDS`
/// says.
fn seconds() -> u64 {
    let default = if harness::is_nightly() { 120 } else { 20 };
    env::var("LBD_SOAK_SECONDS").map_or(default, |text| text.parse().unwrap())
}

/// What is grown to in this part of the time is what it needs.
const WARM_UP: u32 = 3;
/// How much more memory may be resident at the end, in KiB: the allocator's grain, not a leak of
/// this much change.
const MEMORY: u64 = 3 << 10;
/// How many more descriptors: connections of checks and of `lbctl` that are open at that moment.
const DESCRIPTORS: usize = 12;

/// Memory in KiB that is the process's own, and descriptors. Maps are shared with the kernel and do
/// not count.
fn holdings(process: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let memory = line.trim().trim_end_matches(" kB").parse().unwrap();
    (memory, fs::read_dir(format!("/proc/{process}/fd")).unwrap().count())
}

/// The least of several samples.
fn least(process: u32) -> (u64, usize) {
    let looks: Vec<_> = (0..20)
        .map(|_| {
            thread::sleep(Duration::from_millis(25));
            holdings(process)
        })
        .collect();
    let memory = looks.iter().map(|look| look.0).min().unwrap();
    (memory, looks.iter().map(|look| look.1).min().unwrap())
}

#[test]
fn memory_and_descriptors_stay_flat_under_constant_change() {
    let seconds = seconds();
    let lab = Lab::new().unwrap();
    let mut workers: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 80).unwrap())
        .collect();
    let [v4, v6] = virtual_addresses(0);
    let mut config = Config::new(&lab, "one");
    config.interfaces.push("eth9".into());
    for (name, address, scheduler) in [("v4", v4, "maglev"), ("v6", v6, "least-connection")] {
        let service = Service::http(&lab, name, address).health(QUICK_HTTP_CHECK);
        config = config.with(service.scheduler(scheduler).keys("slow_start = \"2s\"\n"));
    }
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    lbd.await_all_up("v4");
    lbd.await_all_up("v6");
    let process = lbd.id().unwrap();
    let loads = [v4, v6].map(|address| {
        let load = Load::new((address, 80).into()).concurrency(4);
        load.endless(Duration::from_millis(5)).start(&lab.client.namespace)
    });

    let begin = Instant::now();
    let length = Duration::from_secs(seconds);
    let mut warm = None;
    let mut turns = 0_u32;
    while begin.elapsed() < length {
        turns += 1;
        // Workers that come and go, an interface that comes and goes, neighbours that change,
        // answers to operators.
        let worker = turns as usize % workers.len();
        workers[worker].kill();
        let commands = "link add eth9 type veth peer name eth8\nlink set eth9 up\nlink set eth8 up";
        lab.balancers[0].namespace.ip(commands).unwrap();
        lab.balancers[0].namespace.ip("neigh flush dev eth0").unwrap();
        for command in [&["backend", "list"][..], &["flow", "list"], &["node", "status"]] {
            lbd.lbctl(command).unwrap();
        }
        thread::sleep(Duration::from_millis(400));
        workers[worker].revive().unwrap();
        lab.balancers[0].namespace.ip("link delete eth9").unwrap();
        thread::sleep(Duration::from_millis(400));
        if warm.is_none() && begin.elapsed() > length / WARM_UP {
            warm = Some(least(process));
        }
    }
    let warm = warm.expect("there was a turn after the time to warm up");
    let end = least(process);
    for load in loads {
        assert!(load.stop().answered() > 0);
    }
    eprintln!(
        "after {turns} turns in {seconds} s: {} KiB and {} descriptors, {} KiB and {} at a third of the time",
        end.0, end.1, warm.0, warm.1
    );
    assert!(end.0 <= warm.0 + MEMORY, "memory grows: {warm:?} {end:?}");
    assert!(end.1 <= warm.1 + DESCRIPTORS, "descriptors grow: {warm:?} {end:?}");
    lbd.await_all_up("v4");
    lbd.await_all_up("v6");
}
