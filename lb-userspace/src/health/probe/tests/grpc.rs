//! The `grpc` check.

use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Response, body::Bytes, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::ExtendedKeyUsagePurpose;
use tokio_rustls::TlsAcceptor;

use super::{
    https::{Authority, trusting},
    *,
};
use lb_core::config::{GrpcProbe, TlsClient};

/// The response of a gRPC server.
#[derive(Clone)]
struct GrpcResponse {
    http: u16,
    body: Vec<u8>,
    trailers: &'static [(&'static str, &'static str)],
}

fn serving_response(status: u8) -> GrpcResponse {
    GrpcResponse {
        http: 200,
        body: vec![0, 0, 0, 0, 2, 8, status],
        trailers: &[("grpc-status", "0")],
    }
}

/// A server whose health service knows the service `shop.Cart` and the server as a whole.
async fn grpc_server(response: GrpcResponse, acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (response, acceptor) = (response.clone(), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => serve_grpc(stream, response).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve_grpc(stream, response).await;
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
    response: GrpcResponse,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let response = response.clone();
        async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            let known = asked == [0_u8; 5][..] || asked.ends_with(b"\x0a\x09shop.Cart");
            let mut trailers = HeaderMap::new();
            let sent: &[(&'static str, &'static str)] = if known {
                response.trailers
            } else {
                &[("grpc-status", "5"), ("grpc-message", "who?")]
            };
            for (name, value) in sent {
                trailers.insert(*name, value.parse().unwrap());
            }
            let body = if known { response.body } else { Vec::new() };
            let body = Full::new(Bytes::from(body)).with_trailers(async move { Some(Ok(trailers)) });
            Response::builder().status(response.http).body(body)
        }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

pub(super) fn grpc(service: &str, tls: Option<TlsClient>) -> Probe {
    Probe::Grpc(GrpcProbe {
        service: service.to_owned(),
        host: None,
        tls,
    })
}

#[tokio::test]
async fn a_grpc_server_must_report_serving() {
    let unimplemented = GrpcResponse {
        body: Vec::new(),
        trailers: &[("grpc-status", "12")],
        ..serving_response(1)
    };
    let other_status = GrpcResponse {
        http: 503,
        ..serving_response(1)
    };
    let no_status = GrpcResponse {
        trailers: &[],
        ..serving_response(1)
    };
    for (response, service, then) in [
        (serving_response(1), "", "ok"),
        (serving_response(1), "shop.Cart", "ok"),
        (serving_response(1), "shop.Till", "gRPC: status 5 NOT_FOUND who?"),
        (serving_response(2), "", "gRPC: NOT_SERVING"),
        (serving_response(3), "", "gRPC: SERVICE_UNKNOWN"),
        (serving_response(9), "", "gRPC: serving status 9"),
        (unimplemented, "", "gRPC: status 12 UNIMPLEMENTED"),
        (other_status, "", "gRPC: HTTP status 503"),
        (no_status, "", "gRPC: the response has no `grpc-status`"),
    ] {
        let address = grpc_server(response, None).await;
        assert_eq!(result(address, grpc(service, None)).await, then);
    }
}

#[tokio::test]
async fn grpc_works_over_tls() {
    let authority = Authority::new();
    let own = authority.signed(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let acceptor = authority.server(&own, false, b"h2");
    let address = grpc_server(serving_response(1), Some(acceptor)).await;
    let tls = trusting(Some(authority.ca()), None);
    assert_eq!(result(address, grpc("", Some(tls))).await, "ok");
    let found = result(address, grpc("", None)).await;
    assert!(found.starts_with("gRPC: "), "{found}");
}

#[tokio::test]
async fn a_server_of_another_protocol_fails_without_waiting_for_the_timeout() {
    for response in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(response).await;
            }
        });
        let found = result(address, grpc("", None)).await;
        assert!(found.starts_with("gRPC: "), "{found}");
    }
}
