//! `lbctl` beside a daemon that runs: how it finds it, with which status it ends, and what it says
//! beside its answers.

use std::{fs, path::Path, process::Output};

use harness::{
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::{Lbd, binary},
    process::Process,
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

fn web(lab: &Lab) -> Config {
    let [v4, _] = virtual_addresses(0);
    Config::new(lab, "one").with(Service::http(lab, "web", v4).keys("drain_timeout = \"0s\"\n"))
}

/// What `lbctl` answers that is given nothing but these words.
fn lbctl(lab: &Lab, words: &[&str]) -> Output {
    let mut command = lab.balancers[0]
        .namespace
        .command(binary("lbctl").unwrap().to_str().unwrap());
    command.args(words).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refusals(lbd: &Lbd<'_>) -> usize {
    let page = lbd.lbctl(&["event", "list", "--kind", "reload-refused"]).unwrap();
    page["events"].as_array().unwrap().len()
}

#[test]
fn a_reload_of_a_broken_file_is_refused_by_the_daemon_however_it_is_found() {
    let lab = Lab::new().unwrap();
    let mut config = web(&lab);
    // Where sockets are by default, so that the daemon is found when the file says nothing any
    // more.
    config.socket = format!("/run/lbd/test-{}.sock", std::process::id()).into();
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    let (file, socket) = (lbd.config().file.clone(), lbd.config().socket.clone());
    let options = [
        ["--config", file.to_str().unwrap()],
        ["--socket", socket.to_str().unwrap()],
    ];
    let right = fs::read(&file).unwrap();
    let broken: [(&str, Option<Vec<u8>>); 5] = [
        ("a syntax error", Some([right.as_slice(), b"[[service\n"].concat())),
        ("no UTF-8", Some([right.as_slice(), b"# \xff\n"].concat())),
        ("a syntax error that leaves nothing", Some(b"[node\n".to_vec())),
        ("empty", Some(Vec::new())),
        ("gone", None),
    ];
    let mut refused = 0;
    for (what, bytes) in broken {
        write(&file, bytes.as_deref());
        for option in options {
            let output = lbctl(&lab, &[option[0], option[1], "reload"]);
            assert_eq!(output.status.code(), Some(1), "{what}, {option:?}: {}", errors(&output));
            refused += 1;
            assert_eq!(refusals(&lbd), refused, "{what}, {option:?}");
        }
    }
    write(&file, Some(&right));
    for option in options {
        let output = lbctl(&lab, &[option[0], option[1], "reload"]);
        assert!(output.status.success(), "{option:?}: {}", errors(&output));
    }
    // With another file, no daemon is asked.
    let output = lbctl(&lab, &["--config", "/nonexistent/lbd.toml", "reload"]);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    assert!(errors(&output).contains("--socket PATH"), "{}", errors(&output));
}

fn write(file: &Path, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => fs::write(file, bytes).unwrap(),
        None => fs::remove_file(file).unwrap(),
    }
}

#[test]
fn wrong_usage_ends_with_two_and_errors_are_json_where_answers_are() {
    let lab = Lab::new().unwrap();
    let lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    let socket = lbd.config().socket.to_str().unwrap();
    let given_then: [(&[&str], i32, &str); 8] = [
        (
            &["backend", "drain", "web/worker-1", "--deadline", "5"],
            2,
            "such as 5m",
        ),
        (
            &["explain", "tcp", "192.0.2.1:1", "[2001:db8::1]:1"],
            2,
            "different families",
        ),
        (&["map", "list"], 2, "--bpffs PATH with --node NAME"),
        (&["flow", "list", "--backend", "web/w9"], 1, "there are: worker-1"),
        (
            &["flow", "list", "--backend", "web/worker-1", "--service", "dns"],
            2,
            "a backend of dns",
        ),
        (&["flow", "list", "--backend", "web/worker-1"], 0, ""),
        (&["--json", "service", "show", "wbe"], 1, "\"status\":404"),
        (
            &["--json", "explain", "tcp", "192.0.2.1:1", "[2001:db8::1]:1"],
            2,
            "\"title\":\"Wrong usage\"",
        ),
    ];
    for (words, status, said) in given_then {
        let output = lbctl(&lab, &[&["--socket", socket], words].concat());
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", errors(&output));
        assert!(errors(&output).contains(said), "{words:?}: {}", errors(&output));
        if words[0] == "--json" {
            serde_json::from_str::<Value>(&errors(&output)).unwrap();
        }
    }
    let mut lbd = lab.balancers[0]
        .namespace
        .command(binary("lbd").unwrap().to_str().unwrap());
    let output = lbd.args(["run", "--log", "bogus==="]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
}

#[test]
fn what_is_typed_goes_before_an_endpoint_of_the_environment() {
    let lab = Lab::new().unwrap();
    let lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    let run = |words: &[&str]| {
        let mut command = lab.balancers[0]
            .namespace
            .command(binary("lbctl").unwrap().to_str().unwrap());
        // No daemon runs.
        command.env("LBCTL_ENDPOINT", "http://127.0.0.1:9");
        command.args(words).args(["node", "status"]).output().unwrap()
    };
    let config = lbd.config();
    for words in [
        ["--config", config.file.to_str().unwrap()],
        ["--socket", config.socket.to_str().unwrap()],
    ] {
        let output = run(&words);
        assert!(output.status.success(), "{words:?}: {}", errors(&output));
    }
    assert!(!run(&[]).status.success());
}

#[test]
fn who_watches_goes_on_after_a_restart() {
    let lab = Lab::new().unwrap();
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    let mut command = lab.balancers[0]
        .namespace
        .command(binary("lbctl").unwrap().to_str().unwrap());
    command
        .arg("--socket")
        .arg(&lbd.config().socket)
        .args(["--watch=0.2", "--json", "node", "status"]);
    let mut watcher = Process::start("lbctl", command).unwrap();
    let shows = |watcher: &Process, lbd: &Lbd<'_>| watcher.log().contains(&format!("\"pid\":{},", lbd.id().unwrap()));
    eventually(PATIENCE, "the daemon shows", || shows(&watcher, &lbd));
    lbd.terminate().unwrap();
    eventually(PATIENCE, "it is said that it is gone", || {
        watcher.log().contains("trying again")
    });
    lbd.restart().unwrap();
    eventually(PATIENCE, "the next daemon shows", || shows(&watcher, &lbd));
    assert_eq!(watcher.status().unwrap(), None, "it continues");
}

#[test]
fn a_dump_has_what_is_in_use_and_says_where_there_is_more() {
    let lab = Lab::new().unwrap();
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    let dump = |lbd: &Lbd<'_>, map: &str| lbd.lbctl(&["map", "dump", map]).unwrap();
    let count = |found: &Value| found.as_array().unwrap().len();
    let before = count(&dump(&lbd, "BACKENDS"));
    assert!(before > 1);
    lbd.reconfigure(|config| drop(config.services[0].backends.remove(0)))
        .unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    eventually(PATIENCE, "its entry is not in use any more", || {
        count(&dump(&lbd, "BACKENDS")) == before - 1
    });
    for map in ["BACKENDS", "BACKEND_LOADS", "BACKEND_COUNTERS", "RINGS"] {
        assert_eq!(count(&dump(&lbd, map)), before - 1, "{map}: {}", dump(&lbd, map));
    }
    assert!(
        dump(&lbd, "BACKENDS")
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| entry["state"] == "up")
    );
    assert_eq!(dump(&lbd, "SERVICES")[0]["on_backend_down"], "reset");
    let stats = lbd.lbctl(&["map", "stats"]).unwrap();
    let used = |name: &str| {
        let mut maps = stats.as_array().unwrap().iter();
        maps.find(|map| map["name"] == name).unwrap()["used"].clone()
    };
    assert_eq!(used("BACKENDS"), before - 1);
    assert_eq!(used("PUNTS"), Value::Null);
    assert_eq!(dump(&lbd, "PUNTS"), Value::Null);

    let config = lbd.config();
    let maps = [
        "--bpffs",
        config.bpffs.to_str().unwrap(),
        "--node",
        "one",
        "map",
        "dump",
        "OUTCOMES",
    ];
    let more = "there are more; use --limit to show them";
    for (further, is_said) in [
        (&["--limit", "1"][..], true),
        (&["--limit", "1", "--json"], true),
        (&[], false),
    ] {
        let output = lbctl(&lab, &[&maps, further].concat());
        assert_eq!(errors(&output).contains(more), is_said, "{further:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains(more), "{further:?}");
    }
}
