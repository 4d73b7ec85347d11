//! What operators do while real clients are served: disable and enable, flush, follow events; and
//! what a broken file of overrides, or a dead worker of a UDP service, costs.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use harness::{
    client::{Load, Report},
    config::{Config, PATIENT_CHECK, QUICK_HTTP_CHECK, Service},
    lab::{Lab, virtual_addresses},
    lbd::{Lbd, binary},
    process::Process,
    udp::{self, UdpEcho},
    wait::{PATIENCE, eventually},
    worker::Worker,
};
use serde_json::Value;

fn web(lab: &Lab) -> Config {
    let [v4, _] = virtual_addresses(0);
    Config::new(lab, "one").with(Service::http(lab, "web", v4).health(PATIENT_CHECK))
}

/// Every failure of kept connections must be the end of one: what is asked on a new connection is
/// answered.
#[track_caller]
fn assert_only_kept_ones_ended(report: &Report, at_most: usize) {
    assert!(
        report.failures.iter().all(|failure| failure.reused),
        "{:?}",
        report.failures
    );
    assert!(report.failures.len() <= at_most, "{:?}", report.failures);
}

fn events(lbd: &Lbd<'_>) -> Vec<Value> {
    let page = lbd.lbctl(&["event", "list"]).unwrap();
    page["events"].as_array().unwrap().clone()
}

#[test]
fn disabling_a_backend_moves_its_clients_and_enabling_gives_it_new_ones() {
    const KEPT: usize = 40;
    let lab = Lab::new().unwrap();
    let workers = Worker::all(&lab);
    let lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let [v4, _] = virtual_addresses(0);
    let load = Load::new((v4, 80).into()).endless(Duration::from_millis(20));
    let fresh = load.clone().concurrency(4).start(&lab.client.namespace);
    let kept = load.concurrency(KEPT).keep_alive().start(&lab.client.namespace);
    eventually(PATIENCE, "all are connected", || {
        kept.report().answered() > 2 * KEPT as u64
    });

    let name = workers[0].name().to_owned();
    let target = format!("web/{name}");
    lbd.lbctl(&["backend", "disable", &target]).unwrap();
    lbd.await_state("web", &name, "down");
    eventually(PATIENCE, "its clients are elsewhere", || {
        let before = workers[0].requests();
        std::thread::sleep(Duration::from_millis(200));
        workers[0].requests() == before
    });
    let (served, connections) = (kept.report().answered(), workers[0].connections());
    eventually(PATIENCE, "its clients are served", || {
        kept.report().answered() > served + 4 * KEPT as u64
    });
    // Health checks continue, and open connections, too.
    let asked = workers[0].requests();
    println!("{connections} connections and {asked} requests before it was disabled");

    lbd.lbctl(&["backend", "enable", &target]).unwrap();
    lbd.await_state("web", &name, "up");
    eventually(PATIENCE, "it has new clients", || workers[0].requests() > asked + 20);
    fresh.stop().assert_flawless();
    assert_only_kept_ones_ended(&kept.stop(), KEPT);
    let kinds: Vec<String> = events(&lbd)
        .iter()
        .filter(|event| event["backend"] == name.as_str() && event["cause"] == "disabled")
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["override-set", "override-cleared"]);
}

#[test]
fn flushed_connections_end_by_a_reset_and_new_ones_work() {
    const KEPT: usize = 20;
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let [v4, _] = virtual_addresses(0);
    let mut idle = lab.client.namespace.run(|| TcpStream::connect((v4, 80)).unwrap());
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_ne!(idle.read(&mut [0; 4096]).unwrap(), 0);
    let load = Load::new((v4, 80).into()).endless(Duration::from_millis(100));
    let kept = load.concurrency(KEPT).keep_alive().start(&lab.client.namespace);
    eventually(PATIENCE, "all are connected", || {
        kept.report().answered() > 2 * KEPT as u64
    });

    // Of another client there are none.
    let none = lbd.lbctl(&["flow", "flush", "--client", "192.0.2.250"]).unwrap();
    assert_eq!(none["ended"], 0, "{none}");
    let flushed = lbd.lbctl(&["flow", "flush", "--service", "web"]).unwrap();
    let done = Instant::now();
    let (ended, stayed) = (flushed["ended"].as_u64().unwrap(), flushed["kept"].as_u64().unwrap());
    assert!(ended > 0 && ended + stayed > KEPT as u64, "{flushed}");
    // It sees that at once, not with its next request.
    let error = loop {
        match idle.read(&mut [0; 4096]) {
            Ok(0) => panic!("closed, not reset"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let before = kept.report().answered();
    eventually(PATIENCE, "clients are served again", || {
        kept.report().answered() > before + 4 * KEPT as u64
    });
    let report = kept.stop();
    // A client that learns of it between two requests takes a new connection. The flush may meet
    // that one too, for the table is walked while they come; none of those begun after it fails.
    let fresh = report.failures.iter().filter(|failure| !failure.reused);
    let connecting = fresh.clone().count() as u64;
    assert!(fresh.clone().all(|failure| failure.started < done), "{report:?}");
    assert!(report.connections + connecting + 1 >= KEPT as u64 + ended, "{report:?}");
    assert!(report.failures.len() as u64 <= ended, "{report:?}");
    Load::new((v4, 80).into()).run(&lab.client.namespace).assert_flawless();
    assert!(events(&lbd).iter().any(|event| event["kind"] == "flows-flushed"));
}

#[test]
fn who_follows_events_sees_a_restart_and_what_follows() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let mut command = lab.balancers[0]
        .namespace
        .command(binary("lbctl").unwrap().to_str().unwrap());
    command
        .arg("--socket")
        .arg(&lbd.config().socket)
        .args(["event", "follow", "--last", "1000", "--json"]);
    let mut follower = Process::start("lbctl", command).unwrap();
    let lines = |follower: &Process| -> Vec<Value> {
        let log = follower.log();
        let lines = log.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let target = format!("web/{}", lbd.backend_states("web").unwrap()[0].0);
    lbd.lbctl(&["backend", "disable", &target]).unwrap();
    eventually(PATIENCE, "the override is printed", || {
        lines(&follower).iter().any(|event| event["kind"] == "override-set")
    });
    for death in 1..=2 {
        if death == 1 {
            lbd.terminate().unwrap();
        } else {
            lbd.kill9().unwrap();
        }
        lbd.restart().unwrap();
        eventually(PATIENCE, "the restart is printed", || {
            let lines = lines(&follower);
            lines.iter().filter(|event| event["kind"] == "daemon-started").count() == 1 + death
        });
    }
    lbd.lbctl(&["backend", "enable", &target]).unwrap();
    eventually(PATIENCE, "what happens now is printed", || {
        lines(&follower).iter().any(|event| event["kind"] == "override-cleared")
    });
    assert_eq!(follower.status().unwrap(), None, "it continues");

    // Between the events of two daemons is a line that some may be missing; within those of one,
    // none is.
    let lines = lines(&follower);
    let gaps = lines.iter().filter(|line| line["gap"].is_string());
    assert_eq!(gaps.count(), 2, "{lines:?}");
    let mut expected = 1;
    for line in &lines {
        if line["gap"].is_string() {
            expected = 1;
        } else {
            assert_eq!(line["number"], expected, "{lines:?}");
            expected += 1;
        }
    }
}

#[test]
fn a_broken_file_of_overrides_is_put_aside_and_costs_only_what_it_said() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let name = lbd.backend_states("web").unwrap()[0].0.clone();
    let target = format!("web/{name}");
    let file = lbd.config().state_dir.join("overrides.json");
    let aside = |number: &str| file.with_file_name(format!("overrides.json.unreadable{number}"));
    for (text, number) in [("{ \"version\": 1, \"overr", ""), ("{ \"version\": 77 }", "-1")] {
        lbd.lbctl(&["backend", "drain", &target]).unwrap();
        lbd.await_state("web", &name, "draining");
        lbd.terminate().unwrap();
        fs::write(&file, text).unwrap();
        lbd.restart().unwrap();
        lbd.await_state("web", &name, "up");
        let status = lbd.lbctl(&["node", "status"]).unwrap();
        let warnings = status["warnings"].to_string();
        let path = aside(number);
        assert!(warnings.contains(path.to_str().unwrap()), "{warnings}");
        assert!(warnings.contains("no override is in force"), "{warnings}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing of it is lost");
        assert!(events(&lbd).iter().any(|event| event["kind"] == "overrides-unreadable"));
    }
    // What is decided now is kept as ever, and what was put aside before stays.
    lbd.lbctl(&["backend", "disable", &target]).unwrap();
    lbd.kill9().unwrap();
    lbd.restart().unwrap();
    lbd.await_state("web", &name, "down");
    assert!(aside("").exists() && aside("-1").exists());
}

#[test]
fn a_udp_client_whose_worker_dies_is_answered_by_another_on_the_same_socket() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    let mut echoes: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Some(UdpEcho::start(host, 5353).unwrap()))
        .collect();
    let addresses = virtual_addresses(0);
    let mut config = Config::new(&lab, "one");
    for (name, address) in ["dns4", "dns6"].into_iter().zip(addresses) {
        let check = format!("{QUICK_HTTP_CHECK}port = 80\n");
        let service = Service::http(&lab, name, address).protocol("udp").ports(53, 5353);
        config = config.with(service.health(&check));
    }
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    lbd.await_all_up("dns4");
    lbd.await_all_up("dns6");
    let sockets: Vec<_> = addresses
        .iter()
        .flat_map(|address| {
            let target = (*address, 53).into();
            let connect = || udp::connect(target, Duration::from_millis(500)).unwrap();
            (0..8).map(|_| lab.client.namespace.run(connect)).collect::<Vec<_>>()
        })
        .collect();
    let answered: Vec<String> = sockets
        .iter()
        .map(|socket| udp::ask_once(socket, b"who").unwrap())
        .collect();
    let dead = workers[0].name().to_owned();
    assert!(
        answered.contains(&dead) && answered.iter().any(|name| *name != dead),
        "{answered:?}"
    );

    echoes[0] = None;
    workers[0].kill();
    lbd.await_state("dns4", &dead, "down");
    lbd.await_state("dns6", &dead, "down");
    for (socket, before) in sockets.iter().zip(&answered) {
        let mut now = None;
        eventually(PATIENCE, "it is answered", || {
            now = udp::ask_once(socket, b"again").ok();
            now.is_some()
        });
        assert_ne!(now.as_ref(), Some(&dead));
        if *before != dead {
            assert_eq!(now.as_ref(), Some(before), "who was elsewhere stays there");
        }
    }
}

#[test]
fn each_end_of_a_drain_is_one_event_with_its_cause() {
    let lab = Lab::new().unwrap();
    let workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let [quiet, busy] = [workers[0].name(), workers[1].name()].map(str::to_owned);
    let causes_of = |lbd: &Lbd<'_>, backend: &str| -> Vec<String> {
        let is_it = |event: &Value| event["kind"] == "drain-ended" && event["backend"] == *backend;
        let causes = events(lbd).into_iter().filter(is_it);
        causes.map(|event| event["cause"].to_string()).collect()
    };
    // Its event comes before the deadline of the other one.
    lbd.lbctl(&["backend", "drain", &format!("web/{quiet}")]).unwrap();
    eventually(PATIENCE, "the quiet one has drained", || {
        causes_of(&lbd, &quiet).len() == 1
    });
    assert!(causes_of(&lbd, &quiet)[0].contains("no flows remain"));
    let [v4, _] = virtual_addresses(0);
    let load = Load::new((v4, 80).into()).endless(Duration::from_millis(20));
    let kept = load.concurrency(2).keep_alive().start(&lab.client.namespace);
    eventually(PATIENCE, "clients are connected", || kept.report().answered() > 4);
    lbd.lbctl(&["backend", "drain", &format!("web/{busy}"), "--deadline", "5s"])
        .unwrap();
    lbd.kill9().unwrap();
    std::thread::sleep(Duration::from_secs(6));
    lbd.restart().unwrap();
    eventually(PATIENCE, "the busy one has drained", || {
        causes_of(&lbd, &busy).len() == 1
    });
    let causes = causes_of(&lbd, &busy);
    assert!(causes[0].contains("while lbd did not run"), "{causes:?}");
    assert_eq!(causes_of(&lbd, &quiet), Vec::<String>::new(), "its event came before");
}

#[test]
fn lbctl_ends_with_the_status_that_is_documented_and_lets_readers_go() {
    let lab = Lab::new().unwrap();
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    let lbctl = format!(
        "{} --socket {} --bpffs {} --node one",
        binary("lbctl").unwrap().display(),
        lbd.config().socket.display(),
        lbd.config().bpffs.display()
    );
    let run = |script: &str| {
        let script = script.replace("lbctl", &lbctl);
        let mut shell = lab.balancers[0].namespace.command("bash");
        let output = shell.args(["-o", "pipefail", "-c", &script]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let cases = [
        ("lbctl service list".to_owned(), 0, "web"),
        ("lbctl service show wbe".to_owned(), 1, "there are: web"),
        (
            "lbctl backend drain web/w9".to_owned(),
            1,
            "there are: web/worker-1, web/worker-2",
        ),
        (
            "lbctl flow flush --backend w9".to_owned(),
            1,
            "there are: worker-1, worker-2",
        ),
        ("lbctl flow flush".to_owned(), 2, "use --service"),
        ("lbctl backend weight web/worker-1 1001".to_owned(), 2, "from 0 to 1000"),
        ("lbctl explain icmp 192.0.2.1:1 192.0.2.2:1".to_owned(), 2, "tcp, udp"),
        (format!("{nobody} lbctl service list"), 4, "use sudo"),
        (format!("{nobody} lbctl map list"), 4, "use sudo"),
        // A reader that continues gets everything. One that stops reading is no failure.
        ("lbctl map dump OUTCOMES | head -1".to_owned(), 0, "count"),
        ("lbctl service list --watch=0.2 | head -1".to_owned(), 0, "service"),
        ("lbctl event follow --last 1 | head -1".to_owned(), 0, ""),
    ];
    for (script, status, words) in &cases {
        let (found, text) = run(script);
        assert_eq!(found, Some(*status), "{script}: {text}");
        assert!(text.contains(words), "{script}: {text}");
    }
    lbd.terminate().unwrap();
    let (status, text) = run("lbctl service list");
    assert_eq!(status, Some(3), "{text}");
    let (status, text) = run("lbctl map list");
    assert_eq!(status, Some(0), "{text}");
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.terminate().unwrap();
    // The reader of the log dies after the first line.
    let script = lab.directory().join("lbd-unheard");
    let text = format!(
        "#!/bin/bash\nexec {} \"$@\" 2> >(head -n 1 > /dev/null)\n",
        binary("lbd").unwrap().display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    lbd.upgrade(script);
    lbd.restart().unwrap();
    lbd.await_all_up("web");
    for verb in ["drain", "undrain", "disable", "enable"] {
        lbd.lbctl(&["backend", verb, "web/worker-1"]).unwrap();
    }
    lbd.lbctl(&["reload"]).unwrap();
    lbd.await_all_up("web");
    lbd.terminate().unwrap();
}
