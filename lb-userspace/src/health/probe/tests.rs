//! Probes against real listeners.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    base::{Message, MessageBuilder, Name, Ttl, iana::Rcode},
    rdata,
};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Response, body::Bytes, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

use super::probe;
use crate::health::{Means, Target};
use lb_core::config::BackendId;
use lb_core::config::{
    CheckTarget, CommandProbe, DnsProbe, GrpcProbe, HealthCheck, HttpProbe, Initial, Pattern, Probe, Rules, Timing,
    Tls, TlsClient, UdpProbe,
};

/// How long a check may take that is to end by its answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one may take that is to end by time.
const SHORT: Duration = Duration::from_millis(500);

fn target(address: SocketAddr, probe: Probe, timeout: Duration) -> Target {
    let means = Means::of(&probe).unwrap_or_else(|error| panic!("{error}"));
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
        means,
        way: None,
        avoided: Arc::default(),
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
            assert!(
                text.is_empty() || text.starts_with("GET /healthz HTTP/1.1\r\n"),
                "{text}"
            );
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

#[tokio::test]
async fn http_answers_are_judged_by_their_status() {
    let given_then: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nonly a part", "ok"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "ok"),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            "status 503, expected 200-299, 404",
        ),
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

/// A server that answers every request with what it was asked.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&request[..length]).await;
        }
    });
    address
}

#[tokio::test]
async fn an_http_request_has_its_method_path_host_and_headers() {
    let address = echo_server().await;
    let with = |wanted: &str| {
        Probe::Http(HttpProbe {
            method: "POST".to_owned(),
            path: "/a?b=c".to_owned(),
            host: Some("www.example.org".to_owned()),
            headers: [("authorization".to_owned(), "Bearer x".to_owned())].into(),
            body: Some(Pattern::contains(wanted)),
            ..http_probe()
        })
    };
    for wanted in [
        "POST /a?b=c HTTP/1.1\r\n",
        "host: www.example.org\r\n",
        "authorization: Bearer x\r\n",
        "user-agent: lbd/",
        "connection: close\r\n",
    ] {
        assert_eq!(result(address, with(wanted)).await, "ok", "{wanted}");
    }
    let own = HttpProbe {
        headers: [("user-agent".to_owned(), "me".to_owned())].into(),
        body: Some(Pattern::contains("user-agent: me\r\n")),
        ..http_probe()
    };
    assert_eq!(result(address, Probe::Http(own)).await, "ok");
}

#[tokio::test]
async fn a_body_has_to_say_what_is_expected() {
    let body = |text: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let long = format!("{}ready", "x".repeat(64 * 1024));
    let contains = Pattern::contains;
    let matches = |text| Pattern::matches(text).unwrap();
    for (answer, pattern, then) in [
        (body("all is ready"), contains("ready"), "ok"),
        (body("all is ready"), matches("^all .* ready$"), "ok"),
        (
            body("not yet"),
            contains("ready"),
            "the body has no \"ready\" in its first 7 bytes",
        ),
        (
            body("not ready"),
            matches("^ready"),
            "the body has no /^ready/ in its first 9 bytes",
        ),
        (
            body(""),
            contains("ready"),
            "the body has no \"ready\" in its first 0 bytes",
        ),
        // No more is read than that.
        (
            body(&long),
            contains("ready"),
            "the body has no \"ready\" in its first 65536 bytes",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n".to_owned(),
            contains("ready"),
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nready".to_owned(),
            contains("ready"),
            "no HTTP response: ",
        ),
    ] {
        let probe = HttpProbe {
            body: Some(pattern),
            ..http_probe()
        };
        let found = result(server(Some(answer.into_bytes())).await, Probe::Http(probe)).await;
        assert!(found.starts_with(then), "{found}, not {then}");
    }
}

/// An authority, and what it signed.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Files of a certificate for these names.
    fn signed(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Tls {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        let certificate = params.signed_by(&key, issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{}{end}", names.join("_")));
        let files = Tls {
            certificate: path(".crt"),
            key: path(".key"),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn server(&self, own: &Tls, asks_for_clients: bool, protocol: &[u8]) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&own.certificate)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_for_clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server that answers any request within TLS.
async fn https_server(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn trusting(ca: Option<PathBuf>, name: Option<&str>) -> TlsClient {
    TlsClient {
        server_name: name.map(str::to_owned),
        verify: true,
        ca_file: ca,
        identity: None,
    }
}

#[tokio::test]
async fn https_wants_a_certificate_that_is_trusted_and_of_the_right_name() {
    let authority = Authority::new();
    let other = Authority::new();
    let own = authority.signed(&["www.example.org", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let address = https_server(authority.server(&own, false, b"http/1.1")).await;
    let unverified = TlsClient {
        verify: false,
        ..trusting(None, Some("other.example.org"))
    };
    for (tls, then) in [
        (trusting(Some(authority.ca()), Some("www.example.org")), "ok"),
        (trusting(Some(authority.ca()), None), "ok"),
        (unverified, "ok"),
        (
            trusting(Some(authority.ca()), Some("other.example.org")),
            "TLS: invalid peer certificate: certificate not valid for name",
        ),
        (
            trusting(Some(other.ca()), Some("www.example.org")),
            "TLS: invalid peer certificate: ",
        ),
    ] {
        let probe = HttpProbe {
            tls: Some(tls.clone()),
            ..http_probe()
        };
        let found = result(address, Probe::Http(probe)).await;
        assert!(found.starts_with(then), "{tls:?}: {found}");
    }
    let plain = server(Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    let probe = HttpProbe {
        tls: Some(trusting(Some(authority.ca()), None)),
        ..http_probe()
    };
    let found = result(plain, Probe::Http(probe)).await;
    assert!(found.starts_with("TLS: "), "{found}");
}

#[tokio::test]
async fn https_shows_the_certificate_of_the_check() {
    let authority = Authority::new();
    let own = authority.signed(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let check = authority.signed(&["lbd"], ExtendedKeyUsagePurpose::ClientAuth);
    let address = https_server(authority.server(&own, true, b"http/1.1")).await;
    let with = |identity| {
        Probe::Http(HttpProbe {
            tls: Some(TlsClient {
                identity,
                ..trusting(Some(authority.ca()), None)
            }),
            ..http_probe()
        })
    };
    assert_eq!(result(address, with(Some(check))).await, "ok");
    assert_ne!(result(address, with(None)).await, "ok");
}

#[test]
fn files_that_cannot_be_used_are_told_before_anything_is_asked() {
    let authority = Authority::new();
    let one = authority.signed(&["a"], ExtendedKeyUsagePurpose::ClientAuth);
    let two = authority.signed(&["b"], ExtendedKeyUsagePurpose::ClientAuth);
    let empty = authority.folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    let failure = |tls: TlsClient| {
        let probe = HttpProbe {
            tls: Some(tls),
            ..http_probe()
        };
        Means::of(&Probe::Http(probe)).unwrap_err().to_string()
    };
    let with = |certificate: &Path, key: &Path| TlsClient {
        identity: Some(Tls {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        ..trusting(Some(authority.ca()), None)
    };
    for (tls, then) in [
        (
            trusting(Some("/nonexistent".into()), None),
            "cannot read /nonexistent: ",
        ),
        (trusting(Some(empty.clone()), None), "has no certificate in PEM"),
        (with(&empty, &one.key), "has no certificate in PEM"),
        (with(&one.certificate, &empty), "has no private key in PEM"),
        (with(&one.certificate, &two.key), "does not go with the certificate"),
    ] {
        let found = failure(tls);
        assert!(found.contains(then), "{found}");
    }
}

/// What a gRPC server answers.
#[derive(Clone)]
struct GrpcAnswer {
    http: u16,
    body: Vec<u8>,
    trailers: &'static [(&'static str, &'static str)],
}

fn served(status: u8) -> GrpcAnswer {
    GrpcAnswer {
        http: 200,
        body: vec![0, 0, 0, 0, 2, 8, status],
        trailers: &[("grpc-status", "0")],
    }
}

/// A server whose health service knows one service, `shop.Cart`, besides the server as a whole.
async fn grpc_server(answer: GrpcAnswer, acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, acceptor) = (answer.clone(), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => serve_grpc(stream, answer).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve_grpc(stream, answer).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn serve_grpc(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    answer: GrpcAnswer,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let answer = answer.clone();
        async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            let known = asked == [0_u8; 5][..] || asked.ends_with(b"\x0a\x09shop.Cart");
            let mut trailers = HeaderMap::new();
            let told: &[(&'static str, &'static str)] = if known {
                answer.trailers
            } else {
                &[("grpc-status", "5"), ("grpc-message", "who?")]
            };
            for (name, value) in told {
                trailers.insert(*name, value.parse().unwrap());
            }
            let body = if known { answer.body } else { Vec::new() };
            let body = Full::new(Bytes::from(body)).with_trailers(async move { Some(Ok(trailers)) });
            Response::builder().status(answer.http).body(body)
        }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn grpc(service: &str, tls: Option<TlsClient>) -> Probe {
    Probe::Grpc(GrpcProbe {
        service: service.to_owned(),
        host: None,
        tls,
    })
}

#[tokio::test]
async fn a_grpc_server_has_to_say_that_it_serves() {
    let unimplemented = GrpcAnswer {
        body: Vec::new(),
        trailers: &[("grpc-status", "12")],
        ..served(1)
    };
    let other_status = GrpcAnswer { http: 503, ..served(1) };
    let no_status = GrpcAnswer {
        trailers: &[],
        ..served(1)
    };
    for (answer, service, then) in [
        (served(1), "", "ok"),
        (served(1), "shop.Cart", "ok"),
        (served(1), "shop.Till", "gRPC: status 5 NOT_FOUND who?"),
        (served(2), "", "gRPC: NOT_SERVING"),
        (served(3), "", "gRPC: SERVICE_UNKNOWN"),
        (served(9), "", "gRPC: serving status 9"),
        (unimplemented, "", "gRPC: status 12 UNIMPLEMENTED"),
        (other_status, "", "gRPC: HTTP status 503"),
        (no_status, "", "gRPC: an answer without `grpc-status`"),
    ] {
        let address = grpc_server(answer, None).await;
        assert_eq!(result(address, grpc(service, None)).await, then);
    }
}

#[tokio::test]
async fn grpc_speaks_tls_too() {
    let authority = Authority::new();
    let own = authority.signed(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let acceptor = authority.server(&own, false, b"h2");
    let address = grpc_server(served(1), Some(acceptor)).await;
    let tls = trusting(Some(authority.ca()), None);
    assert_eq!(result(address, grpc("", Some(tls))).await, "ok");
    let found = result(address, grpc("", None)).await;
    assert!(found.starts_with("gRPC: "), "{found}");
}

#[tokio::test]
async fn what_is_no_grpc_server_is_told_in_time() {
    for answer in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(answer).await;
            }
        });
        let found = result(address, grpc("", None)).await;
        assert!(found.starts_with("gRPC: "), "{found}");
    }
}

/// A server that answers within TLS by a body of so many bytes, each in a record of its own, which has 23.
async fn wordy_server(acceptor: TlsAcceptor, length: usize) -> SocketAddr {
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
async fn what_tls_adds_counts_too() {
    let authority = Authority::new();
    let own = authority.signed(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let probe = Probe::Http(HttpProbe {
        tls: Some(trusting(Some(authority.ca()), None)),
        body: Some(Pattern::contains("x")),
        ..http_probe()
    });
    for (length, then) in [(100, "ok"), (20_000, "more than 262144 bytes came")] {
        let address = wordy_server(authority.server(&own, false, b"http/1.1"), length).await;
        let found = result_within(address, probe.clone(), PATIENCE).await;
        assert!(found.contains(then), "{length} records: {found}");
    }
}

/// A server that writes `piece` without end, and tells when nobody takes it any more.
async fn flooder(piece: Vec<u8>) -> (SocketAddr, tokio::sync::oneshot::Receiver<()>) {
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
async fn a_grpc_check_leaves_no_connection_behind_however_busy_the_peer_keeps_it() {
    // An HTTP/2 frame without payload, which wants an answer that the peer never reads: SETTINGS.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let (address, has_ended) = flooder(settings.to_vec()).await;
    let found = result_within(address, grpc("", None), Duration::from_millis(300)).await;
    assert!(found.starts_with("timeout after"), "{found}");
    tokio::time::timeout(PATIENCE, has_ended)
        .await
        .expect("the connection is closed")
        .unwrap();
}

#[tokio::test]
async fn whoever_sends_without_end_what_means_nothing_is_left_soon() {
    let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let (address, has_ended) = flooder(hint).await;
    let found = result(address, http()).await;
    assert!(found.contains("more than 262144 bytes came"), "{found}");
    tokio::time::timeout(PATIENCE, has_ended)
        .await
        .expect("the connection is closed")
        .unwrap();
}

/// A server that answers each datagram with what `answer` makes of it, as often as that is.
async fn udp_server(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            for answer in answer(&datagram[..length]) {
                let _ = socket.send_to(&answer, from).await;
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

/// An address where nobody listens.
async fn closed_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_datagram_has_to_be_answered_as_expected() {
    let echo = udp_server(|datagram| vec![datagram.to_vec()]).await;
    let silent = udp_server(|_| Vec::new()).await;
    let closed = closed_udp().await;
    let ping = Pattern::contains("ping");
    let nothing = Pattern::matches("^$").unwrap();
    assert_eq!(result(echo, udp("ping", None)).await, "ok");
    assert_eq!(result(echo, udp("ping", Some(ping.clone()))).await, "ok");
    assert_eq!(
        result(echo, udp("pong", Some(ping))).await,
        "the reply has no \"ping\" in its first 4 bytes"
    );
    assert_eq!(
        result(echo, udp("x", Some(nothing))).await,
        "the reply has no /^$/ in its first 1 bytes"
    );
    assert_eq!(
        result_within(silent, udp("ping", None), SHORT).await,
        "timeout after 500ms"
    );
    assert_eq!(result(closed, udp("ping", None)).await, "connect: refused");
}

#[tokio::test]
async fn silence_is_enough_where_no_reply_is_required() {
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

/// The answer of a name server that knows `www.example.org`.
fn dns_answer(question: &[u8], id: u16) -> Vec<u8> {
    let question = Message::from_octets(question).unwrap();
    let asked = question.first_question().unwrap();
    let name: Name<Vec<u8>> = "www.example.org".parse().unwrap();
    let known = asked.qname().to_string() == "www.example.org";
    let rcode = if known { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let mut builder = MessageBuilder::new_vec().start_answer(&question, rcode).unwrap();
    builder.header_mut().set_id(question.header().id().wrapping_add(id));
    let ttl = Ttl::from_secs(60);
    match asked.qtype().to_string().as_str() {
        _ if !known => {}
        "A" => {
            for last in [1, 2] {
                builder
                    .push((&name, ttl, rdata::A::from_octets(192, 0, 2, last)))
                    .unwrap();
            }
        }
        "MX" => {
            let host: Name<Vec<u8>> = "mail.example.org".parse().unwrap();
            builder.push((&name, ttl, rdata::Mx::new(10, host))).unwrap();
        }
        "TXT" => {
            let text = rdata::Txt::<Vec<u8>>::build_from_slice(b"all is well").unwrap();
            builder.push((&name, ttl, text)).unwrap();
        }
        _ => {}
    }
    builder.finish()
}

fn dns(name: &str, record: &str, answers: &[&str], tcp: bool) -> Probe {
    Probe::Dns(DnsProbe {
        name: name.to_owned(),
        record: record.to_owned(),
        answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
        tcp,
    })
}

/// The same name server by TCP.
async fn dns_tcp_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(length) = stream.read_u16().await else { continue };
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await.unwrap();
            let answer = dns_answer(&question, 0);
            let _ = stream.write_u16(answer.len() as u16).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

#[tokio::test]
async fn a_name_has_to_be_resolved_as_expected() {
    // An answer to another question, and one that is none, come first.
    let by_udp = udp_server(|question| vec![dns_answer(question, 1), b"x".to_vec(), dns_answer(question, 0)]).await;
    let by_tcp = dns_tcp_server().await;
    for (name, record, answers, then) in [
        ("www.example.org", "A", &[][..], "ok"),
        ("www.example.org", "A", &["192.0.2.2"], "ok"),
        ("www.example.org", "A", &["192.0.2.9", "192.0.2.1"], "ok"),
        (
            "www.example.org",
            "A",
            &["192.0.2.9"],
            "DNS: answers 192.0.2.1, 192.0.2.2, expected 192.0.2.9",
        ),
        ("www.example.org", "MX", &["10 MAIL.example.org."], "ok"),
        ("www.example.org", "TXT", &["all is well"], "ok"),
        (
            "www.example.org",
            "AAAA",
            &[],
            "DNS: no AAAA records of www.example.org",
        ),
        ("gone.example.org", "A", &[], "DNS: NXDOMAIN"),
    ] {
        for (address, tcp) in [(by_udp, false), (by_tcp, true)] {
            assert_eq!(
                result(address, dns(name, record, answers, tcp)).await,
                then,
                "{name} {record}"
            );
        }
    }
    let found = result(closed_udp().await, dns("a", "A", &[], false)).await;
    assert_eq!(found, "connect: refused");
}

#[tokio::test]
async fn an_echo_request_is_answered_by_who_is_there() {
    for address in ["127.0.0.1:0", "[::1]:0", "127.5.6.7:0"] {
        assert_eq!(result(address.parse().unwrap(), Probe::Icmp).await, "ok", "{address}");
    }
    let many = (0..50).map(|_| tokio::spawn(result("127.0.0.1:0".parse().unwrap(), Probe::Icmp)));
    for each in many.collect::<Vec<_>>() {
        assert_eq!(each.await.unwrap(), "ok");
    }
}

fn shell(script: &str) -> Probe {
    Probe::Command(CommandProbe {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: [("MINE".to_owned(), "yes".to_owned())].into(),
        user: "nobody".to_owned(),
    })
}

const WORKER: &str = "192.0.2.7:8080";

#[tokio::test]
async fn a_command_succeeds_by_its_exit_status() {
    let address = WORKER.parse().unwrap();
    for (script, then) in [
        ("exit 0", "ok"),
        ("echo much; exit 0", "ok"),
        ("exit 3", "command: exit status 3"),
        (
            "echo one >&2; echo two >&2; echo >&2; exit 1",
            "command: exit status 1: two",
        ),
        ("kill -TERM $$", "command: killed by signal 15"),
        // More than any pipe holds.
        ("yes | head -c 300000 >&2; exit 0", "ok"),
        // The end is what counts, however much came before it.
        (
            "yes | head -c 300000 >&2; echo the disk is full >&2; exit 1",
            "command: exit status 1: the disk is full",
        ),
        (
            "printf '\\033[31mred\\342\\200\\256rtl' >&2; exit 3",
            "command: exit status 3:  [31mred rtl",
        ),
        (
            "test $LBD_SERVICE/$LBD_BACKEND/$LBD_ADDRESS/$LBD_PORT = web/w1/192.0.2.7/8080",
            "ok",
        ),
        (
            "test $MINE = yes && test -z \"$CARGO_PKG_NAME\" && test $(pwd) = /",
            "ok",
        ),
    ] {
        assert_eq!(result(address, shell(script)).await, then, "{script}");
    }
    let missing = |program: &Path| {
        Probe::Command(CommandProbe {
            argv: vec![program.display().to_string()],
            environment: BTreeMap::new(),
            user: "nobody".to_owned(),
        })
    };
    let found = result(address, missing(Path::new("/nonexistent/check"))).await;
    assert_eq!(found, "command: /nonexistent/check does not exist");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("check");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o600)).unwrap();
    let found = result(address, missing(&program)).await;
    assert!(found.contains("nobody may not run "), "{found}");
}

#[tokio::test]
async fn a_command_has_no_privileges() {
    let address = WORKER.parse().unwrap();
    assert_eq!(
        result(address, shell("test $(id -u) != 0 && test $(id -g) != 0")).await,
        "ok"
    );
    assert_eq!(result(address, shell("test \"$(id -G)\" = \"$(id -g)\"")).await, "ok");
    let nothing = "grep -q '^CapEff:\t0*$' /proc/self/status && grep -q '^CapAmb:\t0*$' /proc/self/status && \
                   grep -q '^NoNewPrivs:\t1$' /proc/self/status";
    assert_eq!(result(address, shell(&nothing.replace("\\t", "\t"))).await, "ok");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_began() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
    let found = result_within(WORKER.parse().unwrap(), shell(&script), Duration::from_secs(2)).await;
    assert_eq!(found, "timeout after 2s");
    let started = fs::read_to_string(&pids).unwrap();
    let alive = || {
        let is_alive = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        started.lines().any(is_alive)
    };
    assert_eq!(started.lines().count(), 2);
    let begin = Instant::now();
    while alive() {
        assert!(begin.elapsed() < PATIENCE, "they are still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_a_command_leaves_behind_neither_delays_nor_outlives_it() {
    let begin = Instant::now();
    assert_eq!(
        result(WORKER.parse().unwrap(), shell("sleep 1000 & exit 0")).await,
        "ok"
    );
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn commands_run_as_nobody_who_matters() {
    let of = |user: &str| {
        let probe = CommandProbe {
            argv: vec!["/bin/true".to_owned()],
            environment: BTreeMap::new(),
            user: user.to_owned(),
        };
        Means::of(&Probe::Command(probe))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(of("nobody"), Ok(()));
    assert_eq!(
        of("nosuchuser"),
        Err("the user \"nosuchuser\" does not exist on this machine".to_owned())
    );
}
