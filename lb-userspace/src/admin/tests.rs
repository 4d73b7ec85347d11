//! The API over a real socket, asked by `lbctl`'s own code.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use clap::Parser;
use serde_json::Value;

use super::{
    fake::{self, Fake, Running},
    fake_control,
    socket::{self, SocketError},
};
use crate::cli::{self, Arguments, CliError};

fn lbctl(socket: &Path, arguments: &[&str]) -> Result<String, CliError> {
    let start = ["lbctl", "--socket", socket.to_str().unwrap()];
    let arguments = Arguments::parse_from(start.iter().chain(arguments));
    let mut out = Vec::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(cli::run(arguments, &mut out))
        .map(|()| String::from_utf8(out).unwrap())
}

fn json(socket: &Path, arguments: &[&str]) -> Value {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&lbctl(socket, &arguments).unwrap()).unwrap()
}

/// Status and body of the answer to a request that `lbctl` would not make.
fn raw(socket: &Path, request: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_lowercase().contains("content-type: application/problem+json"),
        "{head}"
    );
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn json_is_what_the_controller_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    let text = |value| serde_json::to_value(value).unwrap();
    assert_eq!(json(&path, &["node", "status"]), text(&fake::node()));
    assert_eq!(
        json(&path, &["service", "list"]),
        serde_json::to_value(fake::services()).unwrap()
    );
    assert_eq!(
        json(&path, &["backend", "list"]),
        serde_json::to_value(fake::backends()).unwrap()
    );
    assert_eq!(
        json(&path, &["flow", "list"])["flows"],
        serde_json::to_value(fake::flows()).unwrap()
    );
    let first = json(&path, &["flow", "list", "--limit", "1"]);
    assert_eq!(
        (first["flows"].as_array().unwrap().len(), &first["cursor"]),
        (1, &serde_json::json!("1"))
    );
    for noun in [
        ["node", "status"],
        ["service", "list"],
        ["backend", "list"],
        ["flow", "list"],
    ] {
        assert!(
            lbctl(&path, &noun).unwrap().lines().count() > 1,
            "{noun:?} has a human form"
        );
    }
}

#[test]
fn refusals_are_problems_with_a_status() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake { broken: true });
    let given_then = [
        ("GET /v1/services/none", 404),
        ("GET /v1/nothing", 404),
        ("POST /v1/node", 405),
        ("GET /v1/flows?limit=many", 400),
        ("GET /v1/flows?client=nobody", 400),
        ("GET /v1/flows?colour=red", 400),
        ("GET /v1/events?last=10001", 400),
        (
            "GET /v1/explain?protocol=sctp&client=203.0.113.7:1&address=192.0.2.10:80",
            400,
        ),
        ("POST /v1/services/web/backends/w1/weight?value=1001", 400),
        ("POST /v1/services/web/backends/w1/drain?deadline=soon", 400),
        ("POST /v1/services/web/backends/w1/drain?deadline=-5m", 400),
        ("GET /v1/flows", 500),
    ];
    for (request, then) in given_then {
        let (status, problem) = raw(&path, request);
        assert_eq!(
            (status, &problem["status"]),
            (then, &then.into()),
            "{request}: {problem}"
        );
        assert!(
            problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{request}: {problem}"
        );
    }
    let refused = lbctl(&path, &["service", "show", "none"]).unwrap_err();
    assert_eq!(refused.exit_code(), 1);
    assert!(refused.to_string().contains("none"), "{refused}");
}

#[test]
fn options_says_which_methods_a_path_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sSi", "-X", "OPTIONS", "--unix-socket"])
        .arg(&path)
        .arg("http://lbd/v1/flows");
    let answer = String::from_utf8(curl.output().unwrap().stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let allow = answer.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
    assert!(["GET", "DELETE"].iter().all(|method| allow.contains(method)), "{allow}");
}

#[test]
fn what_is_to_be_done_arrives_at_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    // What is typed; then what the controller is asked for, or words of the refusal.
    let given_then: &[(&[&str], Result<&str, &str>)] = &[
        (&["backend", "drain", "web/w1"], Ok("web/w1 Drain { deadline: None }")),
        (
            &["backend", "drain", "web/w1", "--deadline", "1m 30s"],
            Ok("web/w1 Drain { deadline: Some(90s) }"),
        ),
        (&["backend", "drain", "dns/x"], Err("no service `dns`")),
        (&["backend", "undrain", "web/w1"], Err("disabled")),
        (&["backend", "disable", "web/w1"], Ok("web/w1 Disable")),
        (&["backend", "enable", "web/w2"], Ok("web/w2 Enable")),
        (&["backend", "weight", "web/w1", "7"], Ok("web/w1 SetWeight(7)")),
        (&["backend", "weight", "web/w1", "--reset"], Ok("web/w1 ResetWeight")),
        (&["flow", "flush"], Err("nothing says which")),
        (&["flow", "flush", "--all"], Ok("flush all services")),
        (
            &["flow", "flush", "--service", "web", "--client", "192.0.2.1"],
            Ok("flush service web, client 192.0.2.1"),
        ),
        (&["reload"], Err("`node.name` cannot change from \"a\" to its default")),
    ];
    let last = || json(&path, &["event", "list", "--limit", "1"])["events"][0]["cause"].clone();
    for (typed, then) in given_then {
        let mut typed = typed.to_vec();
        if typed.contains(&"-5m") {
            typed = vec!["backend", "drain", "web/w1", "--deadline=-5m"];
        }
        match (lbctl(&path, &typed), then) {
            (Ok(_), Ok(asked)) => assert_eq!(last(), *asked, "{typed:?}"),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{typed:?}: {error}"),
            (Ok(text), Err(_)) => panic!("{typed:?} is not refused: {text}"),
            (Err(error), Ok(_)) => panic!("{typed:?} is refused: {error}"),
        }
    }
    assert_eq!(
        json(&path, &["reload", "--dry-run"]),
        serde_json::to_value(fake_control::report()).unwrap()
    );
    let with_body =
        "POST /v1/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 16\r\n\r\n{\"dry_run\":true}";
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(with_body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains(" 400 ") && answer.contains("no request takes a body"),
        "{answer}"
    );

    let (status, problem) = raw(&path, "POST /v1/reload");
    assert_eq!((status, &problem["fixed"][0]["key"]), (422, &"node.name".into()));
    let explained = json(&path, &["explain", "tcp", "203.0.113.7:50000", "192.0.2.10:80"]);
    assert_eq!(
        (&explained["verdict"], &explained["backend"]),
        (&"would-begin".into(), &"w1".into())
    );
    let typed = ["explain", "tcp", "[2001:db8::7]:1", "192.0.2.10:80"];
    let refused = lbctl(&path, &typed).unwrap_err().to_string();
    assert!(refused.contains("different families"), "{refused}");
}

#[test]
fn events_go_on_where_the_last_answer_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    lbctl(&path, &["backend", "disable", "web/w1"]).unwrap();
    lbctl(&path, &["backend", "enable", "web/w1"]).unwrap();
    let page = json(&path, &["event", "list"]);
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
    assert_eq!(page["gap"], Value::Null);
    let cursor = page["cursor"].as_str().unwrap();
    for (request, status) in [
        (format!("GET /v1/events?after={cursor}&last=3"), 400),
        ("GET /v1/events?after=yesterday".to_owned(), 400),
        ("GET /v1/events?wait=3600".to_owned(), 400),
        ("DELETE /v1/events".to_owned(), 405),
    ] {
        assert_eq!(raw(&path, &request).0, status, "{request}");
    }
}

#[test]
fn a_daemon_that_is_not_there_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let gone = lbctl(&folder.path().join("s"), &["node", "status"]).unwrap_err();
    assert_eq!(gone.exit_code(), 3);
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let refused = lbctl(&stale, &["node", "status"]).unwrap_err();
    assert_eq!(refused.exit_code(), 3);
    assert!(refused.to_string().contains("does not run"), "{refused}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/s");
    let first = socket::bind(&path).unwrap();
    assert!(matches!(socket::bind(&path), Err(SocketError::InUse { .. })));
    drop(first);
    assert!(!path.exists(), "removed at the end");
    drop(UnixListener::bind(&path).unwrap());
    drop(socket::bind(&path).unwrap());
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(socket::bind(&path), Err(SocketError::Foreign { .. })));
}
