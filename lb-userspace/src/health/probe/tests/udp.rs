//! The `udp` check.

use tokio::net::UdpSocket;

use super::*;
use lb_core::config::{Pattern, UdpProbe};

/// A server that sends for each datagram all replies that `replies` makes of it.
pub(super) async fn udp_server(replies: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            for reply in replies(&datagram[..length]) {
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    address
}

fn udp(payload: &str, reply: Option<Pattern>) -> Probe {
    Probe::Udp(UdpProbe {
        payload: payload.as_bytes().to_vec(),
        reply,
        require_reply: true,
    })
}

/// An address without a listener.
pub(super) async fn closed_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_datagram_needs_the_expected_reply() {
    let echo = udp_server(|datagram| vec![datagram.to_vec()]).await;
    let silent = udp_server(|_| Vec::new()).await;
    let closed = closed_udp().await;
    let ping = Pattern::contains("ping");
    let nothing = Pattern::matches("^$").unwrap();
    assert_eq!(result(echo, udp("ping", None)).await, "ok");
    assert_eq!(result(echo, udp("ping", Some(ping.clone()))).await, "ok");
    assert_eq!(
        result(echo, udp("pong", Some(ping))).await,
        "\"ping\" not found in the first 4 bytes of the reply"
    );
    assert_eq!(
        result(echo, udp("x", Some(nothing))).await,
        "/^$/ not found in the first 1 bytes of the reply"
    );
    assert_eq!(
        result_within(silent, udp("ping", None), SHORT).await,
        "timeout after 500ms"
    );
    assert_eq!(result(closed, udp("ping", None)).await, "connect: refused");
}

#[tokio::test]
async fn silence_is_a_success_when_no_reply_is_required() {
    let probe = || {
        Probe::Udp(UdpProbe {
            payload: b"log".to_vec(),
            reply: None,
            require_reply: false,
        })
    };
    let silent = udp_server(|_| Vec::new()).await;
    let echo = udp_server(|datagram| vec![datagram.to_vec()]).await;
    assert_eq!(result_within(silent, probe(), SHORT).await, "ok");
    assert_eq!(result(echo, probe()).await, "ok");
    assert_eq!(result(closed_udp().await, probe()).await, "connect: refused");
}
