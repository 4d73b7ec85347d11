//! Servers that send without end: every check ends, and closes its connection.

use rcgen::ExtendedKeyUsagePurpose;
use tokio_rustls::TlsAcceptor;

use super::{
    grpc::grpc,
    https::{Authority, trusting},
    *,
};
use lb_core::config::Pattern;

/// A server whose response body over TLS has `length` bytes, each in a record of its own, which is
/// 23 bytes long.
async fn tiny_records_server(acceptor: TlsAcceptor, length: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..length {
            if stream.write_all(b"x").await.is_err() {
                return;
            }
        }
        let _ = stream.flush().await;
        let _ = stream.read(&mut [0; 1024]).await;
    });
    address
}

#[tokio::test]
async fn tls_overhead_counts_towards_the_read_limit() {
    let authority = Authority::new();
    let own = authority.signed(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let probe = Probe::Http(HttpProbe {
        tls: Some(trusting(Some(authority.ca()), None)),
        body: Some(Pattern::contains("x")),
        ..http_probe()
    });
    for (length, then) in [(100, "ok"), (20_000, "the backend sent more than 262144 bytes")] {
        let address = tiny_records_server(authority.server(&own, false, b"http/1.1"), length).await;
        let found = result_within(address, probe.clone(), PATIENCE).await;
        assert!(found.contains(then), "{length} records: {found}");
    }
}

/// A server that writes `piece` without end. The receiver yields when the connection was closed.
async fn flooding_server(piece: Vec<u8>) -> (SocketAddr, tokio::sync::oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&piece).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = ended.send(());
    });
    (address, has_ended)
}

#[tokio::test]
async fn a_grpc_check_closes_its_connection_even_if_the_peer_keeps_it_busy() {
    // An HTTP/2 SETTINGS frame without payload. It requires an acknowledgement, which this server
    // never reads.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let (address, has_ended) = flooding_server(settings.to_vec()).await;
    let found = result_within(address, grpc("", None), Duration::from_millis(300)).await;
    assert!(found.starts_with("timeout after"), "{found}");
    tokio::time::timeout(PATIENCE, has_ended)
        .await
        .expect("the connection is closed")
        .unwrap();
}

#[tokio::test]
async fn endless_informational_responses_end_at_the_read_limit() {
    let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let (address, has_ended) = flooding_server(hint).await;
    let found = result(address, http()).await;
    assert!(found.contains("the backend sent more than 262144 bytes"), "{found}");
    tokio::time::timeout(PATIENCE, has_ended)
        .await
        .expect("the connection is closed")
        .unwrap();
}
