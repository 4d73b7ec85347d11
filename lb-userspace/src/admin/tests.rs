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
    assert_eq!(json(&path, &["flow", "list", "--limit", "1"])["truncated"], true);
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
