//! Probes against real listeners.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::probe;
use crate::config::{HealthCheck, HttpProbe, Probe};

fn check(probe: Probe, timeout: Duration) -> HealthCheck {
    HealthCheck { probe, port: None, interval: timeout, timeout, rise: 2, fall: 3 }
}

fn http() -> Probe {
    Probe::Http(HttpProbe {
        method: "GET".to_owned(),
        path: "/healthz".to_owned(),
        host: None,
        status: vec![(200, 299), (404, 404)],
    })
}

/// A server that reads a request and writes `answer`, or keeps silent.
async fn server(answer: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]);
            assert!(text.is_empty() || text.starts_with("GET /healthz HTTP/1.1\r\n"), "{text}");
            match &answer {
                Some(answer) => {
                    let _ = stream.write_all(answer).await;
                }
                None => open.push(stream),
            }
        }
    });
    address
}

async fn result(address: SocketAddr, what: Probe) -> String {
    let check = check(what, Duration::from_millis(500));
    match probe(address, &check).await {
        Ok(()) => "ok".to_owned(),
        Err(failure) => failure.to_string(),
    }
}

#[tokio::test]
async fn http_answers_are_judged_by_their_status() {
    let given_then: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nonly a part", "ok"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "ok"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503, expected 200-299, 404"),
        (b"", "no HTTP response: the connection was closed before it"),
        (b"HTTP/1.1 20", "no HTTP response: the connection was closed before it"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP response: "),
        (&[b'x'; 64 * 1024], "no HTTP response: "),
    ];
    for (answer, then) in given_then {
        let found = result(server(Some(answer.to_vec())).await, http()).await;
        let name = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        assert!(found.starts_with(then), "{name}: {found}");
    }
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let mut answer = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    answer.extend(vec![b'a'; 200_000]);
    let found = result(server(Some(answer)).await, http()).await;
    assert!(found.starts_with("no HTTP response: "), "{found}");
}

#[tokio::test]
async fn a_frozen_server_passes_the_tcp_check_and_fails_the_http_check() {
    let silent = server(None).await;
    assert_eq!(result(silent, Probe::Tcp).await, "ok");
    assert_eq!(result(silent, http()).await, "timeout after 500ms");
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(result(address, Probe::Tcp).await, "connect: refused");
    assert_eq!(result(address, http()).await, "connect: refused");
}
