//! The API over a real socket.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use serde_json::Value;

use super::{
    fake::{Fake, Running},
    socket::{self, SocketError},
};

/// Status and body of the error response to a request.
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
}

#[test]
fn options_says_which_methods_a_path_supports() {
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
fn a_request_with_a_body_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
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
}

#[test]
fn a_refused_reload_names_the_keys_that_cannot_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    let (status, problem) = raw(&path, "POST /v1/reload");
    assert_eq!((status, &problem["fixed"][0]["key"]), (422, &"node.name".into()));
}

#[tokio::test]
async fn only_a_stale_socket_is_replaced() {
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

#[test]
fn event_requests_with_wrong_parameters_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    for (request, status) in [
        ("GET /v1/events?after=1-0&last=3", 400),
        ("GET /v1/events?after=yesterday", 400),
        ("GET /v1/events?wait=3600", 400),
        ("DELETE /v1/events", 405),
    ] {
        assert_eq!(raw(&path, request).0, status, "{request}");
    }
}
