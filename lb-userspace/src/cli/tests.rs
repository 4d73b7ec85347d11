//! `lbctl` against a real server of the admin API, with a fake controller behind it.

use std::{fs, os::unix::net::UnixListener, path::Path};

use clap::Parser;
use serde_json::Value;

use super::{Arguments, CliError, run};
use crate::{
    admin::testing::{Fake, Running, listen, report, secret, serve},
    api::samples,
};

fn lbctl(socket: &Path, arguments: &[&str]) -> Result<String, CliError> {
    let start = ["lbctl", "--socket", socket.to_str().unwrap()];
    let arguments = Arguments::parse_from(start.iter().chain(arguments));
    let mut out = Vec::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(run(arguments, &mut out))
        .map(|()| String::from_utf8(out).unwrap())
}

fn json(socket: &Path, arguments: &[&str]) -> Value {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&lbctl(socket, &arguments).unwrap()).unwrap()
}

#[test]
fn json_output_is_the_document_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    let text = |value| serde_json::to_value(value).unwrap();
    assert_eq!(json(&path, &["node", "status"]), text(&samples::node()));
    assert_eq!(
        json(&path, &["service", "list"]),
        serde_json::to_value(samples::services()).unwrap()
    );
    assert_eq!(
        json(&path, &["backend", "list"]),
        serde_json::to_value(samples::backends()).unwrap()
    );
    assert_eq!(
        json(&path, &["flow", "list"])["flows"],
        serde_json::to_value(samples::flows()).unwrap()
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
fn a_refusal_has_an_exit_code_and_the_sentence_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    let refused = lbctl(&path, &["service", "show", "none"]).unwrap_err();
    assert_eq!(refused.exit_code(), 1);
    assert!(refused.to_string().contains("none"), "{refused}");
}

#[test]
fn changes_arrive_at_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    // What is typed; then what the controller gets, or words of the refusal.
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
        (&["flow", "flush"], Err("no flows are chosen")),
        (&["flow", "flush", "--all"], Ok("flush all services")),
        (
            &["flow", "flush", "--service", "web", "--client", "192.0.2.1"],
            Ok("flush service web, client 192.0.2.1"),
        ),
        (&["reload"], Err("`node.name` cannot change from \"a\" to its default")),
    ];
    let last = || json(&path, &["event", "list", "--limit", "1"])["events"][0]["cause"].clone();
    for (typed, then) in given_then {
        let typed = typed.to_vec();
        match (lbctl(&path, &typed), then) {
            (Ok(_), Ok(asked)) => assert_eq!(last(), *asked, "{typed:?}"),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{typed:?}: {error}"),
            (Ok(text), Err(_)) => panic!("{typed:?} is not refused: {text}"),
            (Err(error), Ok(_)) => panic!("{typed:?} is refused: {error}"),
        }
    }
    assert_eq!(
        json(&path, &["reload", "--dry-run"]),
        serde_json::to_value(report()).unwrap()
    );
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
fn event_list_shows_what_the_controller_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    lbctl(&path, &["backend", "disable", "web/w1"]).unwrap();
    lbctl(&path, &["backend", "enable", "web/w1"]).unwrap();
    let page = json(&path, &["event", "list"]);
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
    assert_eq!(page["gap"], Value::Null);
    assert!(page["cursor"].is_string());
}

#[test]
fn an_unreachable_daemon_has_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let gone = lbctl(&folder.path().join("s"), &["node", "status"]).unwrap_err();
    assert_eq!(gone.exit_code(), 3);
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let refused = lbctl(&stale, &["node", "status"]).unwrap_err();
    assert_eq!(refused.exit_code(), 3);
    assert!(refused.to_string().contains("does not run"), "{refused}");
}

#[test]
fn lbctl_uses_the_tcp_listener_and_explains_errors() {
    let folder = tempfile::tempdir().unwrap();
    let listen = listen(folder.path(), true);
    let endpoint = format!("https://{}", listen.address);
    let _running = serve(folder.path(), listen);
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    secret(folder.path().join("wrong"), "wrong-wrong-wrong-wrong-wrong");
    let ask = |endpoint: &str, token: &str, roots: &str| {
        let (token, roots) = (file(token), file(roots));
        let arguments = [
            "lbctl",
            "--endpoint",
            endpoint,
            "--token-file",
            &token,
            "--ca-file",
            &roots,
        ];
        let arguments = Arguments::parse_from(arguments.iter().chain(&["node", "status", "--json"]));
        let mut out = Vec::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(run(arguments, &mut out))
    };
    let lbctl = |token: &str, roots: &str| ask(&endpoint, token, roots).map_err(|error| error.exit_code());
    assert_eq!(lbctl("read", "cert.pem"), Ok(()));
    assert_eq!(lbctl("wrong", "cert.pem"), Err(4));
    assert_eq!(lbctl("none", "cert.pem"), Err(2));
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(folder.path().join("other.pem"), other.cert.pem()).unwrap();
    assert_eq!(
        lbctl("read", "other.pem"),
        Err(3),
        "an unknown certificate is not trusted"
    );
    let mistaken = ask(&endpoint.replace("https", "http"), "read", "cert.pem").unwrap_err();
    assert!(
        mistaken.to_string().contains("expected --endpoint https://"),
        "{mistaken}"
    );
}

#[test]
fn lbctl_explains_https_to_a_server_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let listen = listen(folder.path(), false);
    let endpoint = format!("https://{}", listen.address);
    let _running = serve(folder.path(), listen);
    let roots = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = folder.path().join("roots.pem");
    fs::write(&file, roots.cert.pem()).unwrap();
    let token = folder.path().join("read");
    let [token, file] = [&token, &file].map(|path| path.to_str().unwrap());
    let words = [
        "lbctl",
        "--endpoint",
        &endpoint,
        "--token-file",
        token,
        "--ca-file",
        file,
        "node",
        "status",
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let arguments = Arguments::parse_from(words);
    let error = runtime.block_on(run(arguments, &mut Vec::new())).unwrap_err();
    assert!(error.to_string().contains("speaks no TLS; expected http://"), "{error}");
}
