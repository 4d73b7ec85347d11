//! The `dns` check, over UDP and TCP.

use domain::{
    base::{Message, MessageBuilder, Name, Ttl, iana::Rcode},
    rdata,
};

use super::{
    udp::{closed_udp, udp_server},
    *,
};
use lb_core::config::DnsProbe;

/// The response of a name server that knows `www.example.org`. `id` is added to the ID of the
/// query.
fn dns_response(query: &[u8], id: u16) -> Vec<u8> {
    let query = Message::from_octets(query).unwrap();
    let asked = query.first_question().unwrap();
    let name: Name<Vec<u8>> = "www.example.org".parse().unwrap();
    let known = asked.qname().to_string() == "www.example.org";
    let rcode = if known { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let mut builder = MessageBuilder::new_vec().start_answer(&query, rcode).unwrap();
    builder.header_mut().set_id(query.header().id().wrapping_add(id));
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

/// The same name server over TCP.
async fn dns_tcp_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(length) = stream.read_u16().await else { continue };
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            let response = dns_response(&query, 0);
            let _ = stream.write_u16(response.len() as u16).await;
            let _ = stream.write_all(&response).await;
        }
    });
    address
}

#[tokio::test]
async fn a_name_must_resolve_to_the_expected_records() {
    // A response to another query, and an invalid one, come first.
    let by_udp = udp_server(|query| vec![dns_response(query, 1), b"x".to_vec(), dns_response(query, 0)]).await;
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
