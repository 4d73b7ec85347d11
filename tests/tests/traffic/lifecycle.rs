//! Starting, stopping, crashing and refusing: what becomes of the packet path.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use harness::{
    client::Load,
    config::{Config, QUICK_HTTP_CHECK, Service},
    lab::{Lab, Plan, virtual_addresses},
    lbd::{self, Lbd},
    tools,
    topology::Host,
    wait::{PATIENCE, eventually},
    worker::Worker,
};

/// A node with the checked service `web` on the IPv4 address of a balancer.
fn web(lab: &Lab, name: &str, balancer: u8) -> Config {
    let [v4, _] = virtual_addresses(balancer);
    Config::new(lab, name).with(Service::http(lab, "web", v4).health(QUICK_HTTP_CHECK))
}

fn load(balancer: u8) -> Load {
    let [v4, _] = virtual_addresses(balancer);
    Load::new((v4, 80).into())
}

fn has_xdp(host: &Host) -> bool {
    let shown = tools::output(host.namespace.command("ip").args(["-d", "link", "show", "eth0"])).unwrap();
    shown.contains("prog/xdp")
}

const GOOD: &str = r#"[node]
name = "one"
interfaces = ["eth0"]

[[service]]
name = "web"
address = "10.77.0.100"
port = 80
protocol = "tcp"
mode = "nat"

[service.health]
type = "http"
path = "/healthz"

[[service.backend]]
name = "first"
address = "10.77.0.21"
port = 80
weight = 1
"#;

#[test]
fn a_good_file_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lbd.toml");
    fs::write(&file, GOOD).unwrap();
    let output = lbd::check(&file).unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_may_not_work_here_is_a_warning_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lbd.toml");
    let router = "[[vrrp]]\nname = \"site\"\ninterface = \"eth9\"\nrouter_id = 1\naddresses = [\"10.77.0.100/24\"]\n\
                  [vrrp.hook]\nargv = [\"/nope\"]\n";
    fs::write(&file, format!("{GOOD}{router}")).unwrap();
    let words = ["eth9 is not in `node.interfaces`", "hook: /nope cannot be run"];
    let output = lbd::check(&file).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && words.iter().all(|words| said.contains(words)),
        "{output:?}"
    );
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        shown.ends_with("valid: 1 service with 1 backend, 1 virtual router\n"),
        "{shown}"
    );
    let output = lbd::check_with(&file, &["--json"]).unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = found["warnings"].as_array().unwrap();
    assert_eq!(
        (&found["valid"], warnings.len()),
        (&true.into(), words.len()),
        "{found}"
    );
}

#[test]
fn a_bad_file_is_refused_with_the_place_and_the_reason() {
    // What is replaced, by what, and words that the message must have; the place is that of the
    // replacement.
    let cases: &[(&str, &str, &[&str])] = &[
        ("port = 80\nprotocol", "prot = 80\nprotocol", &["prot", "unknown"]),
        ("port = 80\nprotocol", "port = 70000\nprotocol", &["70000"]),
        ("port = 80\nprotocol", "port = 0\nprotocol", &["port"]),
        ("\"10.77.0.100\"", "\"10.77.0.300\"", &["10.77.0.300"]),
        ("\"10.77.0.21\"", "\"fd77::21\"", &["fd77::21", "IPv4"]),
        ("\"tcp\"", "\"sctp\"", &["sctp", "tcp", "udp"]),
        ("\"nat\"", "\"teleport\"", &["teleport", "nat"]),
        ("weight = 1", "weight = 1001", &["1001", "1000"]),
        ("weight = 1", "weight = -1", &["-1"]),
        ("[\"eth0\"]", "[]", &["interface"]),
        ("\"http\"", "\"telepathy\"", &["telepathy", "http"]),
        ("\"/healthz\"", "\"healthz\"", &["healthz", "/"]),
        ("name = \"one\"", "name = one", &["one"]),
        ("weight = 1", "weight = 1\nweight = 2", &["weight"]),
        ("path = \"/healthz\"", "interval = \"soon\"", &["soon"]),
        (
            "path = \"/healthz\"",
            "interval = \"1s\"\ntimeout = \"2s\"",
            &["timeout", "interval"],
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lbd.toml");
    for (what, by, words) in cases {
        assert_eq!(GOOD.matches(what).count(), 1, "{what:?} names one place");
        let at = GOOD.find(what).unwrap();
        let first = GOOD[..at].matches('\n').count() + 1;
        let last = first + by.matches('\n').count();
        fs::write(&file, GOOD.replace(what, by)).unwrap();
        let output = lbd::check(&file).unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{by:?} passes the check");
        let places: Vec<_> = (first..=last)
            .map(|line| format!("{}:{line}:", file.display()))
            .collect();
        assert!(
            places.iter().any(|place| message.contains(place)),
            "{by:?}: no place {places:?} in:\n{message}"
        );
        for word in *words {
            assert!(message.contains(word), "{by:?}: no {word:?} in:\n{message}");
        }
    }
}

#[test]
fn what_the_admin_api_names_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lbd.toml");
    let token = folder.path().join("read.token");
    let groups = "[api]\nread_group = \"no-such-group\"\n".to_owned();
    let listen = format!(
        "[api]\nlisten = \"127.0.0.1:9440\"\nplaintext = true\nread_token_file = \"{}\"\n",
        token.display()
    );
    for (api, reason) in [(groups, "no-such-group"), (listen.clone(), "read.token: No such file")] {
        fs::write(&file, format!("{GOOD}\n{api}")).unwrap();
        let output = lbd::check(&file).unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{api} passes the check");
        let key = api.lines().last().unwrap();
        let line = format!("{GOOD}\n{api}").lines().position(|line| line == key).unwrap() + 1;
        let place = format!("{}:{line}:", file.display());
        assert!(
            message.contains(reason) && message.contains(&place),
            "no {place} in {message}"
        );
    }
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, format!("{GOOD}\n{listen}")).unwrap();
    let output = lbd::check(&file).unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn duplicate_names_and_addresses_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lbd.toml");
    let service = &GOOD[GOOD.find("[[service]]").unwrap()..];
    let backend = &GOOD[GOOD.find("[[service.backend]]").unwrap()..];
    for (text, word) in [
        (format!("{GOOD}\n{service}"), "web"),
        (format!("{GOOD}\n{}", service.replace("web", "other")), "10.77.0.100"),
        (format!("{GOOD}\n{backend}"), "first"),
        (format!("{GOOD}\n{}", backend.replace("first", "second")), "10.77.0.21"),
    ] {
        fs::write(&file, text).unwrap();
        let output = lbd::check(&file).unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && message.contains(word),
            "{word:?}: {message}"
        );
    }
}

#[test]
fn packets_flow_while_a_killed_controller_is_away_and_flows_survive_its_return() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab, "one", 0)).unwrap();
    lbd.await_all_up("web");
    let fresh = load(0)
        .concurrency(2)
        .endless(Duration::from_millis(10))
        .start(&lab.client.namespace);
    let kept = load(0)
        .concurrency(4)
        .keep_alive()
        .endless(Duration::from_millis(10))
        .start(&lab.client.namespace);
    let flows_on = || {
        let before = (fresh.report().answered(), kept.report().answered());
        eventually(PATIENCE, "traffic flows on", || {
            fresh.report().answered() > before.0 + 50 && kept.report().answered() > before.1 + 50
        });
    };
    flows_on();
    lbd.kill9().unwrap();
    flows_on();
    lbd.restart().unwrap();
    lbd.await_all_up("web");
    flows_on();
    lbd.kill9().unwrap();
    lbd.restart().unwrap();
    flows_on();
    let active = lbd.lbctl(&["service", "list"]).unwrap()[0]["active"].as_u64().unwrap();
    assert!(active >= 4, "the adopted flows are counted: {active}");
    fresh.stop().assert_flawless();
    let kept = kept.stop();
    kept.assert_flawless();
    assert_eq!(kept.connections, 4, "no connection had to be made anew");
}

#[test]
fn after_a_clean_end_packets_flow_until_it_is_detached() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab, "one", 0)).unwrap();
    lbd.await_all_up("web");
    let kept = load(0)
        .concurrency(2)
        .keep_alive()
        .endless(Duration::from_millis(10))
        .start(&lab.client.namespace);
    eventually(PATIENCE, "traffic flows", || kept.report().answered() > 20);
    lbd.terminate().unwrap();
    load(0).run(&lab.client.namespace).assert_flawless();
    assert!(has_xdp(&lab.balancers[0]));
    let kept = kept.stop();
    kept.assert_flawless();
    assert_eq!(kept.connections, 2);

    lbd.detach().unwrap();
    assert!(!has_xdp(&lab.balancers[0]));
    let pins = lab.bpffs().join("lbd");
    let left = fs::read_dir(&pins)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect::<Vec<_>>();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        load(0).requests(1).run(&lab.client.namespace).answered(),
        0,
        "the balancer itself serves nothing"
    );
    lbd.detach().expect("detaching what is detached is no error");
    lbd.restart().unwrap();
    lbd.await_all_up("web");
    load(0).run(&lab.client.namespace).assert_flawless();
}

#[test]
fn a_worker_that_died_while_the_controller_was_away_is_noticed_on_return() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab, "one", 0)).unwrap();
    lbd.await_all_up("web");
    lbd.kill9().unwrap();
    workers[0].kill();
    lbd.restart().unwrap();
    lbd.await_state("web", "worker-1", "down");
    lbd.await_state("web", "worker-2", "up");
    let report = load(0).run(&lab.client.namespace);
    report.assert_flawless();
    assert_eq!(report.of("worker-2"), 100);
}

#[test]
fn two_balancers_work_side_by_side() {
    let lab = Lab::build(Plan {
        balancers: 2,
        ..Plan::default()
    })
    .unwrap();
    let _workers = Worker::all(&lab);
    let first = Lbd::start(&lab.balancers[0], web(&lab, "one", 0)).unwrap();
    let second = Lbd::start(&lab.balancers[1], web(&lab, "two", 1)).unwrap();
    for lbd in [&first, &second] {
        lbd.await_all_up("web");
    }
    let (one, two) = (
        load(0).start(&lab.client.namespace),
        load(1).start(&lab.client.namespace),
    );
    for report in [one.finish(), two.finish()] {
        report.assert_flawless();
        assert_eq!((report.of("worker-1"), report.of("worker-2")), (50, 50));
    }
    drop(first);
    assert!(!has_xdp(&lab.balancers[0]));
    load(1).run(&lab.client.namespace).assert_flawless();
}

#[test]
fn a_second_controller_of_the_same_node_is_refused_and_the_first_goes_on() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = Lbd::start(&lab.balancers[0], web(&lab, "one", 0)).unwrap();
    lbd.await_all_up("web");
    let mut elsewhere = web(&lab, "one", 0);
    elsewhere.socket = lab.directory().join("second.sock");
    elsewhere.file = lab.directory().join("second.toml");
    // Nor is one whose state is elsewhere: what both would write to is the same.
    let mut apart = web(&lab, "one", 0);
    apart.socket = lab.directory().join("third.sock");
    apart.file = lab.directory().join("third.toml");
    apart.state_dir = lab.directory().join("third");
    let third = apart.clone();
    for config in [web(&lab, "one", 0), elsewhere, apart] {
        let (status, log) = lbd::run_to_end(&lab.balancers[0], &config, PATIENCE).unwrap();
        assert!(!status.success() && log.contains("one"), "{status}: {log}");
        assert_eq!(lbd.lbctl(&["node", "status"]).unwrap()["pid"], lbd.id().unwrap());
        load(0).run(&lab.client.namespace).assert_flawless();
    }
    let mut detach = lab.balancers[0]
        .namespace
        .command(lbd::binary("lbd").unwrap().to_str().unwrap());
    let output = detach.args(["detach", "--config"]).arg(&third.file).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && errors.contains("another lbd runs"),
        "{errors}"
    );
    load(0).run(&lab.client.namespace).assert_flawless();
}

#[test]
fn maps_can_be_read_while_the_controller_is_away() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab, "one", 0)).unwrap();
    lbd.await_all_up("web");
    lbd.kill9().unwrap();
    let maps = lbd.lbctl(&["map", "list"]).unwrap();
    assert!(maps.to_string().contains("SERVICES_V4"), "{maps}");
    let usage = lbd.lbctl(&["map", "stats"]).unwrap();
    let usage = usage.as_array().unwrap();
    assert_eq!(usage.len(), maps.as_array().unwrap().len());
    let of = |name: &str| usage.iter().find(|map| map["name"] == name).unwrap();
    assert_eq!(of("SERVICES_V4")["used"], 1, "{usage:?}");
    assert!(of("FLOWS_V4")["bytes"].as_u64() > Some(40_000_000), "{usage:?}");
    let services = lbd.lbctl(&["map", "dump", "SERVICES_V4"]).unwrap();
    assert_eq!(services.as_array().unwrap().len(), 1, "{services}");
    let unknown = lbd.lbctl(&["map", "dump", "NO_SUCH_MAP"]).unwrap_err().to_string();
    assert!(unknown.contains("NO_SUCH_MAP"), "{unknown}");
}

#[test]
fn the_limit_of_open_files_is_raised_and_one_too_low_is_a_warning() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    // Commands get the limit that lbd began with.
    let check = "type = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"test $(ulimit -Sn) = 64\"]\n";
    let [v4, _] = virtual_addresses(0);
    let config = Config::new(&lab, "one").with(Service::http(&lab, "web", v4).health(check));
    let mut lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = lbd::binary("lbd").unwrap();
    let restart_with = |lbd: &mut Lbd<'_>, limits: &str| {
        let path = folder.path().join(limits.replace(' ', "_"));
        fs::write(
            &path,
            format!("#!/bin/sh\n{limits}\nexec {} \"$@\"\n", program.display()),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        lbd.upgrade(path);
        lbd.restart()
    };
    lbd.terminate().unwrap();
    restart_with(&mut lbd, "ulimit -Sn 64").unwrap();
    lbd.await_all_up("web");
    let log = lbd.terminate().unwrap();
    assert!(!log.contains("files may be open"), "{log}");
    // Four for each command, beside what lbd needs itself.
    restart_with(&mut lbd, "ulimit -n 257").unwrap();
    let needed = 256 + 4 * lab.workers.len();
    let warning = format!("at most 257 files may be open at a time, and {needed} may be needed");
    let log = lbd.terminate().unwrap();
    assert!(log.contains(&warning), "{log}");
    let refused = restart_with(&mut lbd, "ulimit -n 128").unwrap_err().to_string();
    assert!(
        refused.contains("the limit of open files is 128, expected at least 256"),
        "{refused}"
    );
}

#[test]
fn a_record_of_reserved_ports_that_is_broken_hinders_neither_a_start_nor_a_detachment() {
    let lab = Lab::new().unwrap();
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab, "one", 0)).unwrap();
    let record = lbd.config().state_dir.join("reserved-ports");
    let aside = record.with_file_name("reserved-ports.unreadable");
    for _ in 0..2 {
        lbd.terminate().unwrap();
        fs::write(&record, "{\"boot\":\"").unwrap();
        lbd.restart().unwrap();
        let warnings = lbd.lbctl(&["node", "status"]).unwrap()["warnings"].to_string();
        assert!(warnings.contains(aside.to_str().unwrap()), "{warnings}");
    }
    lbd.terminate().unwrap();
    fs::write(&record, "").unwrap();
    lbd.detach().unwrap();
    assert!(!record.exists());
    assert_eq!(fs::read(&aside).unwrap(), b"");
}
