//! The `http` check.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use lb_core::config::Pattern;

#[tokio::test]
async fn the_status_decides_about_an_http_response() {
    let given_then: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nonly a part", "ok"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "ok"),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            "status 503, expected 200-299, 404",
        ),
        (
            b"",
            "no valid HTTP response: the connection was closed before the end of the response",
        ),
        (
            b"HTTP/1.1 20",
            "no valid HTTP response: the connection was closed before the end of the response",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no valid HTTP response: "),
        (&[b'x'; 64 * 1024], "no valid HTTP response: "),
    ];
    for (answer, then) in given_then {
        let found = result(server(Some(answer.to_vec())).await, http()).await;
        let name = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        assert!(found.starts_with(then), "{name}: {found}");
    }
}

#[tokio::test]
async fn endless_headers_are_refused() {
    let mut answer = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    answer.extend(vec![b'a'; 200_000]);
    let found = result(server(Some(answer)).await, http()).await;
    assert!(found.starts_with("no valid HTTP response: "), "{found}");
}

/// A server whose response body is the request.
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
async fn a_body_must_contain_the_expected_text() {
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
            "\"ready\" not found in the first 7 bytes of the body",
        ),
        (
            body("not ready"),
            matches("^ready"),
            "/^ready/ not found in the first 9 bytes of the body",
        ),
        (
            body(""),
            contains("ready"),
            "\"ready\" not found in the first 0 bytes of the body",
        ),
        // The text comes after the part that is searched.
        (
            body(&long),
            contains("ready"),
            "\"ready\" not found in the first 65536 bytes of the body",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n".to_owned(),
            contains("ready"),
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nready".to_owned(),
            contains("ready"),
            "no valid HTTP response: ",
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
