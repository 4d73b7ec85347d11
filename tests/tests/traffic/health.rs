//! Health checks of a running controller: what they notice, and what comes of it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use harness::{
    client::Load,
    config::{Config, QUICK_HTTP_CHECK, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    wait::{PATIENCE, eventually},
    worker::Worker,
};
use serde_json::Value;

/// A balancer with one service `web`.
fn balance<'a>(lab: &'a Lab, change: impl FnOnce(Service) -> Service) -> Lbd<'a> {
    let [v4, _] = virtual_addresses(0);
    let service = change(Service::http(lab, "web", v4));
    Lbd::start(&lab.balancers[0], Config::new(lab, "one").with(service)).unwrap()
}

fn target() -> SocketAddr {
    (virtual_addresses(0)[0], 80).into()
}

fn backend(lbd: &Lbd<'_>, name: &str) -> Value {
    let list = lbd.lbctl(&["backend", "list"]).unwrap();
    let rows = list.as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap().clone()
}

/// Causes of events of a kind.
fn causes(lbd: &Lbd<'_>, kind: &str) -> Vec<String> {
    let page = lbd.lbctl(&["event", "list", "--limit", "1000"]).unwrap();
    let events = page["events"].as_array().or_else(|| page.as_array()).unwrap();
    let of_kind = events.iter().filter(|event| event["kind"] == kind);
    of_kind
        .map(|event| event["cause"].as_str().unwrap().to_owned())
        .collect()
}

/// A server that accepts connections and never says anything, on port 80 of a worker. It ends with
/// the process.
fn freeze(lab: &Lab, worker: usize) {
    lab.workers[worker].namespace.run(|| {
        let listener = TcpListener::bind(("::", 80)).unwrap();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                held.push(stream);
            }
        });
    });
}

#[test]
fn a_frozen_worker_is_caught_by_the_http_check_and_not_by_the_tcp_check() {
    let lab = Lab::new().unwrap();
    for worker in [0, 1] {
        freeze(&lab, worker);
    }
    let tcp = "health = { type = \"tcp\" }\n";
    let lbd = balance(&lab, |service| {
        service.health(QUICK_HTTP_CHECK).backend_keys("worker-2", tcp)
    });
    lbd.await_state("web", "worker-1", "down");
    assert_eq!(
        backend(&lbd, "worker-1")["cause"],
        "1 of 1 checks failed: timeout after 100ms"
    );
    // The connection is accepted, and that is all that this check asks for.
    lbd.await_state("web", "worker-2", "up");
    let asked = |lbd: &Lbd<'_>| backend(lbd, "worker-2")["health"]["checks"].as_u64().unwrap();
    let before = asked(&lbd);
    eventually(PATIENCE, "it is checked on", || asked(&lbd) > before + 3);
    lbd.await_state("web", "worker-2", "up");
}

#[test]
fn a_backend_may_have_a_check_of_its_own() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    // Whether the file with the name of the backend exists.
    let folder = tempfile::tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let flag = folder.path().join("worker-2");
    std::fs::write(&flag, "").unwrap();
    let command = format!(
        "health = {{ type = \"command\", argv = [\"/bin/sh\", \"-c\", \"test -e {}/$LBD_BACKEND || {{ echo no flag >&2; exit 9; }}\"] }}\n",
        folder.path().display()
    );
    let lbd = balance(&lab, |service| {
        service
            .health(
                "type = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 2\n",
            )
            .backend_keys("worker-1", "health = { type = \"icmp\" }\n")
            .backend_keys("worker-2", &command)
    });
    lbd.await_all_up("web");
    // Nobody asks the servers: they may be gone.
    workers.iter_mut().for_each(Worker::kill);
    std::fs::remove_file(&flag).unwrap();
    lbd.await_state("web", "worker-2", "down");
    assert_eq!(
        backend(&lbd, "worker-2")["cause"],
        "2 of 2 checks failed: command: exit status 9: no flag"
    );
    lbd.await_state("web", "worker-1", "up");
    std::fs::write(&flag, "").unwrap();
    lbd.await_state("web", "worker-2", "up");
    lab.fabric.set_cable(&lab.workers[0], false).unwrap();
    lbd.await_state("web", "worker-1", "down");
}

#[test]
fn commands_that_run_end_with_the_controller_however_it_ends() {
    let lab = Lab::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let pids = folder.path().join("pids");
    let check = format!(
        "type = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"umask 0; echo $$ >> {}; exec sleep 1000\"]\ninterval = \"1000s\"\n\
         timeout = \"1000s\"\nfast_interval = \"100ms\"\n",
        pids.display()
    );
    let mut lbd = balance(&lab, |service| service.health(&check));
    let started = || std::fs::read_to_string(&pids).unwrap_or_default();
    eventually(PATIENCE, "a command runs for each backend", || {
        started().lines().count() == lab.workers.len()
    });
    lbd.kill9().unwrap();
    let is_alive = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    };
    eventually(PATIENCE, "no command is left", || !started().lines().any(is_alive));
}

#[test]
fn while_too_few_backends_are_well_all_of_them_are_used() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    // The checks ask something that clients do not need.
    let check = "type = \"http\"\nport = 81\ninterval = \"100ms\"\ntimeout = \"100ms\"\nrise = 2\nfall = 2\n\
                 panic_threshold = 50\n";
    let mut probes: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 81).unwrap())
        .collect();
    let lbd = balance(&lab, |service| service.health(check));
    lbd.await_all_up("web");
    let served = |workers: &[Worker<'_>]| workers.iter().map(Worker::requests).collect::<Vec<_>>();
    for probe in &mut probes[1..] {
        probe.kill();
    }
    // One of two is enough.
    lbd.await_state("web", "worker-2", "down");
    assert_eq!(causes(&lbd, "panic-started"), Vec::<String>::new());
    probes[0].kill();
    eventually(PATIENCE, "panic begins", || !causes(&lbd, "panic-started").is_empty());
    lbd.await_all_up("web");
    let cause = backend(&lbd, "worker-2")["cause"].as_str().unwrap().to_owned();
    assert!(
        cause.contains("panic_threshold") && cause.contains("refused"),
        "{cause}"
    );
    let before = served(&workers);
    let report = Load::new(target()).requests(20).run(&lab.client.namespace);
    report.assert_flawless();
    let after = served(&workers);
    assert!(
        before.iter().zip(&after).all(|(before, after)| after > before),
        "{before:?} {after:?}"
    );
    probes[0].revive().unwrap();
    eventually(PATIENCE, "panic ends", || !causes(&lbd, "panic-ended").is_empty());
    lbd.await_state("web", "worker-2", "down");
    lbd.await_state("web", "worker-1", "up");
    workers.iter_mut().for_each(Worker::kill);
}

#[test]
fn neither_a_restart_nor_another_question_takes_a_backend_down_before_its_checks_do() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut probes: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 81).unwrap())
        .collect();
    let check = "type = \"http\"\nport = 81\ninterval = \"200ms\"\ntimeout = \"200ms\"\nrise = 2\nfall = 100\n";
    let mut lbd = balance(&lab, |service| service.health(check));
    lbd.await_all_up("web");
    let witness = harness::witness::Witness::at(&lab, target().ip());
    probes.iter_mut().for_each(Worker::kill);
    lbd.kill9().unwrap();
    lbd.restart().unwrap();
    let failing = |lbd: &Lbd<'_>| {
        eventually(PATIENCE, "checks fail", || {
            backend(lbd, "worker-1")["health"]["failures"].as_u64() > Some(3)
        });
        let row = backend(lbd, "worker-1");
        assert_eq!(
            (&row["state"], &row["health"]["verdict"]),
            (&"up".into(), &"up".into()),
            "{row}"
        );
        assert!(
            row["health"]["last_failure"].as_str().unwrap().contains("refused"),
            "{row}"
        );
    };
    failing(&lbd);
    lbd.reconfigure(|config| {
        let health = &mut config.services[0].health;
        *health = health.replace("http\"", "http\"\npath = \"/other\"");
    })
    .unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    failing(&lbd);
    assert_eq!(causes(&lbd, "backend-down"), Vec::<String>::new());
    witness.assert_flawless("checks that fail after a restart and a reload");
}

#[test]
fn a_backend_that_flaps_has_to_be_well_for_long() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    let check = format!("{QUICK_HTTP_CHECK}flap_limit = 1\nflap_period = \"3s\"\n");
    let lbd = balance(&lab, |service| service.health(&check));
    lbd.await_all_up("web");
    workers[0].kill();
    lbd.await_state("web", "worker-1", "down");
    let cause = backend(&lbd, "worker-1")["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("it went down 1 time within 3s"), "{cause}");
    workers[0].revive().unwrap();
    lbd.await_state("web", "worker-1", "up");
    let cause = backend(&lbd, "worker-1")["cause"].as_str().unwrap().to_owned();
    let checks: u32 = cause.split(' ').next().unwrap().parse().unwrap();
    // With two successes alone it would have been up at once.
    assert!(checks > 10 && cause.contains("over 3s, after flapping"), "{cause}");
}

#[test]
fn a_backend_that_begins_up_takes_flows_before_its_checks_say_so() {
    let lab = Lab::new().unwrap();
    let workers = Worker::all(&lab);
    // Nobody answers on that port: only many failures take a backend down that is assumed to be
    // healthy.
    let check = "type = \"tcp\"\nport = 81\ninterval = \"24h\"\nfall = 2\ninitial = \"up\"\n";
    let lbd = balance(&lab, |service| service.health(check));
    eventually(PATIENCE, "each was checked once", || {
        lab.workers
            .iter()
            .all(|worker| backend(&lbd, &worker.label)["health"]["failures"] == 1)
    });
    Load::new(target())
        .requests(10)
        .run(&lab.client.namespace)
        .assert_flawless();
    assert!(workers.iter().all(|worker| worker.requests() > 0));
    let mut stream = lab
        .client
        .namespace
        .run(|| std::net::TcpStream::connect(target()))
        .unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"),
        "{answer}"
    );
}
