//! Permissions, limits and reloads over real sockets. Most requests are made with curl.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::fake::{Fake, Running};
use lb_core::config::{Api, Listen, Tls};

const READ: &str = "read-read-read-read-read-read-01";
const ADMIN: &str = "admin-admin-admin-admin-admin-01";

/// Longer than all time limits of the server.
const PATIENCE: Duration = Duration::from_secs(60);

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn secret(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// A listener in `folder`, with a certificate for 127.0.0.1 that curl can check by
/// `folder/cert.pem`.
pub(crate) fn listen(folder: &Path, with_tls: bool) -> Listen {
    let tls = with_tls.then(|| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        Tls {
            certificate: folder.join("cert.pem"),
            key: secret(folder.join("key.pem"), &made.signing_key.serialize_pem()),
        }
    });
    Listen {
        address: free_port(),
        read_token: Some(secret(folder.join("read"), READ)),
        admin_token: Some(secret(folder.join("admin"), ADMIN)),
        tls,
    }
}

/// Status, media type and body of what curl gets.
fn curl(arguments: &[&str]) -> (u16, String, String) {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-w", "\n%{http_code} %{content_type}"])
        .args(arguments)
        .output()
        .expect("curl");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, last) = text.rsplit_once('\n').unwrap();
    let (status, kind) = last.split_once(' ').unwrap();
    (status.parse().unwrap(), kind.to_owned(), body.to_owned())
}

fn api(listen: Listen) -> Api {
    Api {
        listen: Some(listen),
        ..Api::default()
    }
}

pub(crate) fn serve(folder: &Path, listen: Listen) -> Running {
    Running::start_with(&folder.join("s"), Fake::default(), &api(listen))
}

#[test]
fn over_tls_a_token_allows_what_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let listen = listen(folder.path(), true);
    let address = listen.address;
    let _running = serve(folder.path(), listen);
    let certificate = folder.path().join("cert.pem");
    let url = format!("https://{address}/v1/node");
    let ask = |method: &str, token: &str| {
        let header = format!("authorization: {token}");
        curl(&[
            "--cacert",
            certificate.to_str().unwrap(),
            "-X",
            method,
            "-H",
            &header,
            &url,
        ])
    };
    for (method, token, then) in [
        ("GET", format!("Bearer {READ}"), 200),
        ("GET", format!("bearer {ADMIN}"), 200),
        ("GET", String::new(), 401),
        ("GET", "Bearer wrong-wrong-wrong-wrong-wrong".to_owned(), 401),
        ("GET", format!("Bearer {}", &READ[..READ.len() - 1]), 401),
        ("GET", format!("Basic {READ}"), 401),
        ("POST", format!("Bearer {READ}"), 403),
        ("POST", format!("Bearer {ADMIN}"), 405),
    ] {
        let (status, kind, body) = ask(method, &token);
        assert_eq!(status, then, "{method} {token}: {body}");
        let problem = kind == "application/problem+json";
        assert_eq!(problem, then != 200, "{method} {token}: {kind}");
    }
    let plain = curl(&[&format!("http://{address}/v1/node")]);
    assert_eq!(plain.0, 0, "the TLS listener does not speak plain HTTP: {plain:?}");
}

/// Status of a response over TCP to the bearer of a token; 0 if there is none.
fn status(address: SocketAddr, token: &str) -> u16 {
    let header = format!("authorization: Bearer {token}");
    curl(&["-H", &header, &format!("http://{address}/v1/node")]).0
}

#[test]
fn a_reload_changes_a_token_and_a_bad_token_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listen = listen(folder.path(), false);
    let (address, api) = (listen.address, api(listen.clone()));
    let running = serve(folder.path(), listen);
    let new = "another-another-another-another";
    secret(folder.path().join("read"), new);
    assert_eq!((status(address, READ), status(address, new)), (200, 401));
    running.change(&api).unwrap();
    assert_eq!((status(address, READ), status(address, new)), (401, 200));
    for (text, mode, then) in [
        ("short", 0o600, "expected 24"),
        (ADMIN, 0o600, "is the same"),
        (READ, 0o644, "mode 644"),
    ] {
        let path = secret(folder.path().join("read"), text);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = running.change(&api).unwrap_err();
        assert!(error.contains(then), "{error}");
        assert_eq!(status(address, new), 200, "what was in force stays");
    }
}

#[test]
fn a_reload_moves_and_removes_the_listener_while_the_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let listen = listen(folder.path(), false);
    let first = listen.address;
    let running = serve(folder.path(), listen.clone());
    let socket = folder.path().join("s");
    let mut local = UnixStream::connect(&socket).unwrap();
    local.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut remote = TcpStream::connect(first).unwrap();
    remote.set_read_timeout(Some(PATIENCE)).unwrap();

    let at = |address| Api {
        listen: Some(Listen {
            address,
            ..listen.clone()
        }),
        ..Api::default()
    };
    // An address in use: nothing changes.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = running.change(&at(taken.local_addr().unwrap())).unwrap_err();
    assert!(error.contains("cannot listen at"), "{error}");
    assert_eq!(status(first, READ), 200);
    // All addresses, including the one before; and back.
    let everywhere = SocketAddr::new("0.0.0.0".parse().unwrap(), first.port());
    let aside = SocketAddr::new("127.0.0.2".parse().unwrap(), first.port());
    running.change(&at(everywhere)).unwrap();
    assert_eq!((status(first, READ), status(aside, READ)), (200, 200));
    running.change(&at(first)).unwrap();
    assert_eq!((status(first, READ), status(aside, READ)), (200, 0));
    // Another port, and no listener.
    let second = free_port();
    running.change(&at(second)).unwrap();
    assert_eq!((status(first, READ), status(second, READ)), (0, 200));
    running.change(&Api::default()).unwrap();
    assert_eq!(status(second, READ), 0);

    // Old connections continue, under the rules in force now.
    let first_line = |stream: &mut dyn ReadWrite, token: &str| {
        write!(
            stream,
            "GET /v1/node HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_line(&mut local, ""), "HTTP/1.1 200 OK");
    assert_eq!(first_line(&mut remote, READ), "HTTP/1.1 401 Unauthorized");
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn a_reload_changes_groups() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("s");
    let running = Running::start(&path, Fake::default());
    let groups = |read: Option<&str>, admin: Option<&str>| Api {
        read_group: read.map(str::to_owned),
        admin_group: admin.map(str::to_owned),
        listen: None,
    };
    for (read, admin, then) in [
        (None, None, "000"),
        (Some("54321"), None, "200"),
        (None, Some("54321"), "200"),
        (Some("54320"), Some("54322"), "403"),
        (None, None, "000"),
    ] {
        running.change(&groups(read, admin)).unwrap();
        assert_eq!(as_nobody(&path, "GET", 54_321), then, "{read:?} {admin:?}");
    }
    let error = running.change(&groups(Some("no-such-group"), None)).unwrap_err();
    assert!(error.contains("there is no such group"), "{error}");
}

/// Status of a response on the socket to a user in a group; 000 if it may not connect.
fn as_nobody(path: &Path, method: &str, group: u32) -> String {
    let output = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method])
        .arg("http://lbd/v1/node")
        .arg("--unix-socket")
        .arg(path)
        .uid(65_534)
        .gid(group)
        .output()
        .expect("curl");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_group_decides_what_other_users_may_do() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("s");
    let api = Api {
        read_group: Some("54321".to_owned()),
        admin_group: Some("54322".to_owned()),
        listen: None,
    };
    let _running = Running::start_with(&path, Fake::default(), &api);
    for (method, group, then) in [
        ("GET", 65_534, "403"),
        ("GET", 54_321, "200"),
        ("POST", 54_321, "403"),
        ("POST", 54_322, "405"),
    ] {
        assert_eq!(as_nobody(&path, method, group), then, "{method} as a member of {group}");
    }
}

#[test]
fn bodies_and_heads_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = Running::start(&path, Fake::default());
    let large = folder.path().join("large");
    fs::write(&large, vec![b'x'; 70_000]).unwrap();
    let data = format!("@{}", large.display());
    let socket = path.to_str().unwrap();
    for chunked in ["content-type: application/json", "transfer-encoding: chunked"] {
        let (status, kind, _) = curl(&[
            "--unix-socket",
            socket,
            "-H",
            chunked,
            "--data-binary",
            &data,
            "http://lbd/v1/node",
        ]);
        assert_eq!((status, kind.as_str()), (413, "application/problem+json"), "{chunked}");
    }
    let header = format!("x-large: {}", "x".repeat(20_000));
    let (status, ..) = curl(&["--unix-socket", socket, "-H", &header, "http://lbd/v1/node"]);
    assert_eq!(status, 431);
}

#[test]
fn slow_or_many_callers_lock_nobody_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let listen = listen(folder.path(), false);
    let address = listen.address;
    let _running = serve(folder.path(), listen);
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(b"GET /v1/node HTTP/1.1\r\nhost:").unwrap();
    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    let path = folder.path().join("s");
    let mut local = UnixStream::connect(&path).unwrap();
    local.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(local, "GET /v1/node HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    local.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "the owner gets through: {answer}");
    let mut last = crowd.last().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut refusal = String::new();
    last.read_to_string(&mut refusal).unwrap();
    assert!(refusal.starts_with("HTTP/1.1 503"), "{refusal}");
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    // The server ends the connection, with or without a response.
    let ended = slow.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    drop(crowd);
    let header = format!("authorization: Bearer {READ}");
    let url = format!("http://{address}/v1/node");
    let again = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        curl(&["-H", &header, &url]).0 == 200
    });
    assert!(again, "connections are accepted again");
}

#[test]
fn a_connection_above_the_limit_gets_a_complete_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let listen = listen(folder.path(), false);
    let address = listen.address;
    let _running = serve(folder.path(), listen);
    let _crowd: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..100 {
        // This client still writes when the refusal has arrived.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for part in ["GET /v1/node HTTP/1.1\r\nhost: x\r\n", "connection: close\r\n\r\n"] {
            stream.write_all(part.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
}

#[test]
fn a_removed_socket_is_created_again_with_the_same_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run").join("s");
    let running = Running::start(&path, Fake::default());
    let mode = || fs::metadata(&path).map(|found| found.permissions().mode());
    let before = mode().unwrap();
    let answers = || UnixStream::connect(&path).is_ok();
    let comes_back = |what: &str| {
        let begin = std::time::Instant::now();
        while !answers() {
            assert!(begin.elapsed() < PATIENCE, "{what}: no process answers");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(mode().unwrap(), before);
    };
    // Each removal is one step, because the server could create a socket between two steps.
    fs::remove_file(&path).unwrap();
    comes_back("the socket was removed");
    fs::rename(path.parent().unwrap(), folder.path().join("moved")).unwrap();
    comes_back("its folder was moved away");
    // A foreign file stays until somebody removes it.
    let foreign = folder.path().join("foreign");
    fs::write(&foreign, "mine").unwrap();
    fs::rename(&foreign, &path).unwrap();
    std::thread::sleep(super::listeners::SOCKET_CHECKS * 2);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    fs::remove_file(&path).unwrap();
    comes_back("another file had the name");
    drop(running);
    assert!(!path.exists(), "it is removed at the end");
}
