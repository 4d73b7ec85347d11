//! Checks of each type against real servers.

mod command;
mod dns;
mod grpc;
mod http;
mod https;
mod icmp;
mod read_limit;
mod udp;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::probe;
use crate::health::{ProbeResources, Target};
use lb_core::config::{BackendId, CheckTarget, HealthCheck, HttpProbe, Initial, Probe, Rules, Timing};

/// The timeout of a check that must end before it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The timeout of a check that must end by it.
const SHORT: Duration = Duration::from_millis(500);

fn target(address: SocketAddr, probe: Probe, timeout: Duration) -> Target {
    let resources = ProbeResources::load(&probe).unwrap_or_else(|error| panic!("{error}"));
    let check = HealthCheck {
        probe,
        target: CheckTarget::Backend,
        port: None,
        timing: Timing {
            interval: timeout,
            fast_interval: timeout,
            jitter: 0,
            timeout,
        },
        rules: Rules {
            rise: 2,
            fall: 3,
            initial: Initial::Unknown,
            flaps: None,
        },
    };
    Target {
        address,
        check: Arc::new(check),
        resources,
        vip_path: None,
        virtual_addresses: Arc::default(),
    }
}

async fn result_within(address: SocketAddr, what: Probe, timeout: Duration) -> String {
    let id = BackendId {
        service: "web".to_owned(),
        backend: "w1".to_owned(),
    };
    match probe(&id, &target(address, what, timeout)).await {
        Ok(()) => "ok".to_owned(),
        Err(failure) => failure.to_string(),
    }
}

async fn result(address: SocketAddr, what: Probe) -> String {
    result_within(address, what, PATIENCE).await
}

fn http_probe() -> HttpProbe {
    HttpProbe {
        method: "GET".to_owned(),
        path: "/healthz".to_owned(),
        host: None,
        headers: BTreeMap::new(),
        status: vec![(200, 299), (404, 404)],
        body: None,
        tls: None,
    }
}

fn http() -> Probe {
    Probe::Http(http_probe())
}

/// A server that reads a request and writes `response`. `None`: it writes nothing.
async fn server(response: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]);
            assert!(
                text.is_empty() || text.starts_with("GET /healthz HTTP/1.1\r\n"),
                "{text}"
            );
            match &response {
                Some(response) => {
                    let _ = stream.write_all(response).await;
                }
                None => open.push(stream),
            }
        }
    });
    address
}

#[tokio::test]
async fn a_frozen_server_passes_the_tcp_check_and_fails_the_http_check() {
    let silent = server(None).await;
    assert_eq!(result(silent, Probe::Tcp).await, "ok");
    assert_eq!(result_within(silent, http(), SHORT).await, "timeout after 500ms");
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(result(address, Probe::Tcp).await, "connect: refused");
    assert_eq!(result(address, http()).await, "connect: refused");
}
