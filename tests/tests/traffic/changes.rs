//! Changes of a running controller under traffic that notices everything: reload, drain, weight.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::Duration,
};

use harness::{
    client::Load,
    config::{Config, PATIENT_CHECK, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    wait::{PATIENCE, eventually},
    witness::Witness,
    worker::Worker,
};
use serde_json::{Value, json};

fn web(lab: &Lab) -> Config {
    let [v4, _] = virtual_addresses(0);
    Config::new(lab, "one").with(Service::http(lab, "web", v4).health(PATIENT_CHECK))
}

fn backend(lbd: &Lbd<'_>, name: &str) -> Value {
    let list = lbd.lbctl(&["backend", "list"]).unwrap();
    let rows = list.as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap().clone()
}

/// Names of the backends of `web`.
fn names(lbd: &Lbd<'_>) -> Vec<String> {
    let states = lbd.backend_states("web").unwrap();
    states.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn reloads_that_add_remove_and_reweight_break_nothing() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let witness = Witness::of(&lab);
    let whole = lbd.config().services[0].backends.clone();
    let without = whole[..whole.len() - 1].to_vec();
    let mut reweighted = whole.clone();
    reweighted[0].2 = 5;
    for backends in [without, whole.clone(), reweighted, whole.clone()] {
        let expected: Vec<String> = backends.iter().map(|(name, ..)| name.clone()).collect();
        lbd.reconfigure(|config| config.services[0].backends = backends)
            .unwrap();
        let shown = lbd.lbctl(&["reload", "--dry-run"]).unwrap();
        assert_eq!(shown["applied"], false);
        assert_ne!(shown["changes"].as_array().unwrap().len(), 0, "{shown}");
        let report = lbd.lbctl(&["reload"]).unwrap();
        assert_eq!(report["applied"], true, "{report}");
        lbd.await_all_up("web");
        let there = names(&lbd);
        assert!(expected.iter().all(|name| there.contains(name)), "{there:?}");
        assert!(witness.is_flowing(), "traffic does not continue");
    }

    // A file that is wrong changes nothing, and says where it is wrong.
    let text = lbd.config().text();
    std::fs::write(&lbd.config().file, text.replace("[[service]]", "[[servise]]")).unwrap();
    let before = names(&lbd);
    let refused = format!("{:#}", lbd.lbctl(&["reload"]).unwrap_err());
    assert!(refused.contains("servise"), "{refused}");
    assert_eq!(names(&lbd), before);
    let kinds = kinds(&lbd);
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "reload-applied").count(),
        4,
        "{kinds:?}"
    );
    assert!(kinds.contains(&"reload-refused".to_owned()), "{kinds:?}");
    witness.assert_flawless("4 reloads");
}

#[test]
fn a_signal_reloads_too() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    let first = names(&lbd)[0].clone();
    lbd.reconfigure(|config| config.services[0].backends[0].2 = 7).unwrap();
    let id = lbd.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    eventually(PATIENCE, "the new weight is in force", || {
        backend(&lbd, &first)["configured_weight"] == 7
    });
}

#[test]
fn a_drained_backend_keeps_its_flows_and_gets_no_new_ones_also_after_a_restart() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let witness = Witness::of(&lab);
    let name = names(&lbd)[0].clone();
    let target = format!("web/{name}");
    lbd.lbctl(&["backend", "drain", &target]).unwrap();
    let total = |lbd: &Lbd<'_>| backend(lbd, &name)["total"].as_u64().unwrap();
    let drained = total(&lbd);
    assert!(witness.is_flowing());
    assert_eq!(total(&lbd), drained, "a drained backend gets no new flows");
    assert!(
        backend(&lbd, &name)["active"].as_u64().unwrap() > 0,
        "it keeps the old ones"
    );

    lbd.kill9().unwrap();
    lbd.restart().unwrap();
    lbd.await_state("web", &name, "draining");
    assert_eq!(backend(&lbd, &name)["override"]["intent"], "drain");
    assert!(witness.is_flowing());
    assert_eq!(total(&lbd), drained, "nor after a restart");

    lbd.lbctl(&["backend", "undrain", &target]).unwrap();
    eventually(PATIENCE, "it gets new flows again", || total(&lbd) > drained);
    lbd.lbctl(&["backend", "weight", &target, "9"]).unwrap();
    assert_eq!(backend(&lbd, &name)["weight"], 9);
    lbd.lbctl(&["backend", "weight", &target, "--reset"]).unwrap();
    assert_eq!(backend(&lbd, &name)["override"], Value::Null);
    witness.assert_flawless("a drain, a death and an undrain");
}

/// Kinds of the events that there were, oldest first.
fn kinds(lbd: &Lbd<'_>) -> Vec<String> {
    let events = lbd.lbctl(&["event", "list"]).unwrap();
    let kinds = events["events"].as_array().unwrap().iter();
    kinds.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_drain_comes_to_zero_by_itself_where_connections_end() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let [v4, _] = virtual_addresses(0);
    let load = Load::new((v4, 80).into()).concurrency(8);
    let traffic = load.endless(Duration::from_millis(5)).start(&lab.client.namespace);
    let name = names(&lbd)[0].clone();
    eventually(PATIENCE, "it has flows", || {
        backend(&lbd, &name)["total"].as_u64() > Some(20)
    });
    let printed = lbd
        .lbctl_text(&["backend", "drain", &format!("web/{name}"), "--wait"])
        .unwrap();
    // A line for each count of flows that it saw.
    let counts: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(counts.last().unwrap()["active"], 0, "{printed}");
    let row = backend(&lbd, &name);
    assert_eq!((&row["active"], &row["embryonic"]), (&json!(0), &json!(0)), "{row}");
    let report = traffic.stop();
    println!("{} requests, {} failed", report.answered(), report.failures.len());
    report.assert_flawless();
}

#[test]
fn a_drain_ends_at_its_deadline_as_the_policy_says() {
    for (policy, left) in [("reset", false), ("reschedule", false), ("hold", true)] {
        let lab = Lab::new().unwrap();
        let _workers = Worker::all(&lab);
        let [v4, _] = virtual_addresses(0);
        let service = Service::http(&lab, "web", v4).keys(&format!("on_backend_down = {policy:?}\n"));
        let lbd = Lbd::start(&lab.balancers[0], Config::new(&lab, "one").with(service)).unwrap();
        let load = Load::new((v4, 80).into()).concurrency(8).keep_alive();
        let traffic = load.endless(Duration::from_millis(20)).start(&lab.client.namespace);
        let name = names(&lbd)[0].clone();
        let active = || backend(&lbd, &name)["active"].as_u64();
        eventually(PATIENCE, "it has flows", || active() > Some(0));
        let target = format!("web/{name}");
        lbd.lbctl(&["backend", "drain", &target, "--deadline", "1s"]).unwrap();
        assert!(active() > Some(0), "{policy}: its flows continue");
        eventually(PATIENCE, "the drain ends", || {
            kinds(&lbd).contains(&"drain-ended".to_owned())
        });
        if left {
            assert!(active() > Some(0), "{policy}: they still continue");
        } else {
            eventually(PATIENCE, "its flows are gone", || active() == Some(0));
        }
        let before = traffic.report().answered();
        eventually(PATIENCE, "clients are served", || {
            traffic.report().answered() > before + 50
        });
        traffic.stop();
    }
}

const FIRST: &str = "0123456789abcdef0123456789abcdef";
const SECOND: &str = "fedcba9876543210fedcba9876543210";

#[test]
fn a_reload_moves_the_tcp_listener_and_a_bad_one_changes_nothing() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    let token = lab.directory().join("token");
    std::fs::write(&token, FIRST).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let status = |port: u16, token: &str| {
        let script = format!(
            "curl -s -o /dev/null -w %{{http_code}} -H 'authorization: Bearer {token}' http://127.0.0.1:{port}/v1/node || true"
        );
        let mut command = lab.balancers[0].namespace.command("sh");
        harness::tools::output(command.args(["-c", &script])).unwrap()
    };
    let api = |port: u16| {
        format!(
            "[api]\nlisten = \"127.0.0.1:{port}\"\nadmin_token_file = {:?}\n",
            token.display().to_string()
        )
    };
    lbd.reconfigure(|config| config.node_keys = api(9440)).unwrap();
    let report = lbd.lbctl(&["reload"]).unwrap();
    assert_eq!(report["changes"][1]["key"], "api.listen", "{report}");
    assert_eq!(status(9440, FIRST), "200");

    // Only a file has changed; the configuration says the same.
    std::fs::write(&token, SECOND).unwrap();
    let report = lbd.lbctl(&["reload"]).unwrap();
    assert_eq!(report["changes"], json!([]));
    assert_eq!(
        (status(9440, FIRST).as_str(), status(9440, SECOND).as_str()),
        ("401", "200")
    );

    // A weight that came along with a listener that cannot be had is not in force either.
    let _taken = lab.balancers[0]
        .namespace
        .run(|| std::net::TcpListener::bind("127.0.0.1:9441"))
        .unwrap();
    let name = names(&lbd)[0].clone();
    lbd.reconfigure(|config| {
        config.node_keys = api(9441);
        config.services[0].backends[0].2 = 7;
    })
    .unwrap();
    for arguments in [&["reload", "--dry-run"][..], &["reload"]] {
        let error = format!("{:#}", lbd.lbctl(arguments).unwrap_err());
        assert!(error.contains("cannot listen at 127.0.0.1:9441"), "{error}");
    }
    assert_eq!(backend(&lbd, &name)["configured_weight"], 1);
    assert_eq!(status(9440, SECOND), "200");
}

#[test]
fn a_reload_that_makes_an_override_void_reports_it_and_updates_the_file() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let file = lbd.config().state_dir.join("overrides.json");
    let saved = || -> Vec<String> {
        let document: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let overrides = document["overrides"].as_array().unwrap().iter();
        overrides
            .map(|own| own["backend"].as_str().unwrap().to_owned())
            .collect()
    };
    let whole = lbd.config().services[0].backends.clone();
    let [stays, goes] = [whole[0].0.clone(), whole[1].0.clone()];
    for name in [&stays, &goes] {
        lbd.lbctl(&["backend", "disable", &format!("web/{name}")]).unwrap();
    }
    assert_eq!(saved(), [stays.clone(), goes.clone()]);
    lbd.reconfigure(|config| config.services[0].backends.truncate(1))
        .unwrap();
    let shown = lbd.lbctl(&["reload", "--dry-run"]).unwrap();
    assert!(shown["warnings"][0].as_str().unwrap().contains(&goes), "{shown}");
    assert_eq!(saved().len(), 2, "looking changes nothing");
    lbd.lbctl(&["reload"]).unwrap();
    let events = lbd.lbctl(&["event", "list"]).unwrap();
    let mut events = events["events"].as_array().unwrap().iter();
    let cleared = events.find(|event| event["kind"] == "override-cleared").unwrap();
    assert_eq!(cleared["backend"], goes.as_str());
    assert_eq!(cleared["cause"], "it was removed from the configuration");
    assert_eq!(saved(), [stays.as_str()]);

    // A backend of that name that comes later begins without it, also after a restart.
    lbd.reconfigure(|config| config.services[0].backends = whole).unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    assert_eq!(backend(&lbd, &goes)["override"], Value::Null);
    lbd.terminate().unwrap();
    lbd.restart().unwrap();
    assert_eq!(backend(&lbd, &goes)["override"], Value::Null);
    assert_eq!(backend(&lbd, &stays)["override"]["intent"], "disable");
}

/// Clients that wait for an answer which takes longer than they are connected.
fn waiting(lab: &Lab, count: usize) -> Vec<TcpStream> {
    let [v4, _] = virtual_addresses(0);
    let connect = |_| {
        let mut stream = TcpStream::connect((v4, 80)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap();
        stream
    };
    lab.client.namespace.run(|| (0..count).map(connect).collect())
}

#[track_caller]
fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[test]
fn clients_of_what_a_reload_removes_learn_of_it() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut config = web(&lab);
    config.services[0].keys = "drain_timeout = \"1s\"\n".to_owned();
    let mut lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    lbd.await_all_up("web");
    let clients = waiting(&lab, 4);
    let worker = |stream: &TcpStream| {
        let flows = lbd.lbctl(&["flow", "list"]).unwrap();
        let client = stream.local_addr().unwrap().to_string();
        let mut flows = flows["flows"].as_array().unwrap().iter();
        let flow = flows.find(|flow| flow["client"] == client.as_str()).unwrap();
        flow["backend"].as_str().unwrap().to_owned()
    };
    let gone = lbd.config().services[0].backends[1].1.to_string();
    let (removed, kept): (Vec<_>, Vec<_>) = clients.iter().partition(|stream| worker(stream) == gone);
    assert_eq!((removed.len(), kept.len()), (2, 2));
    lbd.reconfigure(|config| config.services[0].backends.truncate(1))
        .unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    for stream in removed {
        assert_reset(stream);
    }

    eventually(PATIENCE, "nothing is left of it", || {
        lbd.lbctl(&["backend", "list"]).unwrap().as_array().unwrap().len() == 1
    });
    // The whole service goes: the kernel of the balancer answers for its address.
    lbd.reconfigure(|config| config.services.clear()).unwrap();
    let report = lbd.lbctl(&["reload"]).unwrap();
    let note = report["changes"][0]["note"].as_str().unwrap();
    assert!(note.ends_with("ends the flows of the service"), "{note}");
    for stream in kept {
        assert_reset(stream);
    }
}

#[test]
fn a_service_may_have_another_name() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let whole = lbd.config().services[0].backends.clone();
    let [stays, goes] = [whole[0].0.clone(), whole[1].0.clone()];
    let witness = Witness::of(&lab);
    lbd.lbctl(&["backend", "weight", &format!("web/{stays}"), "7"]).unwrap();
    lbd.reconfigure(|config| config.services[0].backends.truncate(1))
        .unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    // Flows of the removed backend continue, and the override of the operator holds.
    lbd.reconfigure(|config| config.services[0].name = "site".to_owned())
        .unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    let rows = lbd.lbctl(&["backend", "list"]).unwrap();
    let shown: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["service"].as_str().unwrap(),
                row["name"].as_str().unwrap(),
                row["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [("site", stays.as_str(), "up"), ("site", goes.as_str(), "draining")],
        "{rows}"
    );
    assert_eq!(rows[0]["weight"], 7);
    assert!(witness.is_flowing());
    witness.assert_flawless("a service that is renamed");
}

#[test]
fn a_file_that_cannot_be_read_holds_nothing_up() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let file = lbd.config().file.clone();
    std::fs::remove_file(&file).unwrap();
    lab.balancers[0]
        .run_script(&format!("mkfifo {}", file.display()))
        .unwrap();
    let socket = lbd.config().socket.display().to_string();
    let lbctl = |arguments: &[&str]| {
        let mut command = lab.balancers[0]
            .namespace
            .command(harness::lbd::binary("lbctl").unwrap().to_str().unwrap());
        command.args(["--socket", &socket]).args(arguments).output().unwrap()
    };
    let refused = lbctl(&["reload"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && errors.contains("not a regular file"),
        "{errors}"
    );
    assert!(lbctl(&["service", "list"]).status.success());
    std::fs::remove_file(&file).unwrap();
    lbd.reconfigure(|_| {}).unwrap();
    lbd.lbctl(&["reload"]).unwrap();
}

#[test]
fn a_reload_whose_promises_cannot_be_saved_is_refused() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let _clients = waiting(&lab, 2);
    let whole = lbd.config().services[0].backends.clone();
    // Where the file is written, something else is.
    let obstacle = lbd.config().state_dir.join("overrides.json.new");
    std::fs::create_dir(&obstacle).unwrap();
    lbd.reconfigure(|config| config.services[0].backends.truncate(1))
        .unwrap();
    let refused = format!("{:#}", lbd.lbctl(&["reload"]).unwrap_err());
    assert!(refused.contains("nothing is changed"), "{refused}");
    assert_eq!(backend(&lbd, &whole[1].0)["state"], "up");
    std::fs::remove_dir(&obstacle).unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    assert_eq!(backend(&lbd, &whole[1].0)["state"], "draining");
}
