//! The `dns` check: the name server must resolve a name as expected.

use std::{
    hash::{BuildHasher, RandomState},
    str::FromStr,
};

use domain::{
    base::{Message, MessageBuilder, Name, Rtype, iana::Rcode},
    rdata::AllRecordData,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Endpoint, ProbeFailure, tcp, udp};
use lb_core::config::DnsProbe;

/// Sends the query and checks the response.
pub(super) async fn probe(to: &Endpoint, probe: &DnsProbe) -> Result<(), ProbeFailure> {
    let query = query(probe).ok_or_else(|| failed("the query cannot be encoded"))?;
    if probe.tcp {
        let response = exchange_tcp(to, &query).await?;
        return check_response(&response, &query, probe)
            .unwrap_or_else(|| Err(failed("the response is to another query")));
    }
    let socket = udp::connect(to).await?;
    let mut response = udp::request(&socket, query.as_slice()).await?;
    loop {
        // Late responses to other queries, and forged ones, are skipped.
        if let Some(checked) = check_response(&response, &query, probe) {
            return checked;
        }
        response = udp::receive(&socket).await?;
    }
}

fn failed(cause: impl Into<String>) -> ProbeFailure {
    ProbeFailure::Dns(cause.into())
}

/// The query, with a random ID. `None`: a name or record type is not valid.
fn query(probe: &DnsProbe) -> Option<Message<Vec<u8>>> {
    let name = Name::<Vec<u8>>::from_str(&probe.name).ok()?;
    let record = Rtype::from_str(&probe.record).ok()?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(RandomState::new().hash_one(()) as u16);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name, record)).ok()?;
    Some(builder.into_message())
}

/// Sends the query by TCP and reads the response. RFC 1035, section 4.2.2: "The message is prefixed
/// with a two byte length field".
async fn exchange_tcp(to: &Endpoint, query: &Message<Vec<u8>>) -> Result<Vec<u8>, ProbeFailure> {
    let mut stream = tcp::connect(to).await?;
    let broke = |error: std::io::Error| failed(format!("the connection failed: {error}"));
    let length = (query.as_slice().len() as u16).to_be_bytes();
    let framed = [&length, query.as_slice()].concat();
    stream.write_all(&framed).await.map_err(broke)?;
    let mut response = vec![0; usize::from(stream.read_u16().await.map_err(broke)?)];
    stream.read_exact(&mut response).await.map_err(broke)?;
    Ok(response)
}

/// The number of records that a cause lists at most.
const MOST_SHOWN: usize = 3;

/// Checks a response. `None`: it is a response to another query.
fn check_response(response: &[u8], query: &Message<Vec<u8>>, probe: &DnsProbe) -> Option<Result<(), ProbeFailure>> {
    let response = Message::from_octets(response).ok()?;
    if !response.is_answer(query) {
        return None;
    }
    let rcode = response.header().rcode();
    if rcode != Rcode::NOERROR {
        return Some(Err(failed(format!("{rcode}"))));
    }
    let Some(found) = records(&response, probe) else {
        return Some(Err(failed("the response is not a valid DNS message")));
    };
    Some(check_records(&found, probe))
}

/// Checks the records of a response: at least one, or at least one of those that are expected.
fn check_records(found: &[String], probe: &DnsProbe) -> Result<(), ProbeFailure> {
    if found.is_empty() {
        return Err(failed(format!("no {} records of {}", probe.record, probe.name)));
    }
    let is_expected = |found: &String| probe.answers.iter().any(|expected| alike(found, expected));
    if probe.answers.is_empty() || found.iter().any(is_expected) {
        return Ok(());
    }
    let expected = probe.answers.join(" or ");
    let shown = &found[..found.len().min(MOST_SHOWN)];
    let more = match found.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(failed(format!(
        "answers {}{more}, expected {expected}",
        shown.join(", ")
    )))
}

/// The records of the requested type, as `dig +short` shows them. `None`: they cannot be decoded.
fn records(response: &Message<&[u8]>, probe: &DnsProbe) -> Option<Vec<String>> {
    let wanted = Rtype::from_str(&probe.record).ok()?;
    let mut found = Vec::new();
    for record in response.answer().ok()? {
        let record = record.ok()?;
        if record.rtype() != wanted {
            continue;
        }
        let record = record.to_any_record::<AllRecordData<_, _>>().ok()?;
        found.push(record.data().to_string());
    }
    Some(found)
}

/// Compares records without regard to case, a final dot, and quotes.
fn alike(found: &str, expected: &str) -> bool {
    let plain = |text: &str| text.trim_matches('"').trim_end_matches('.').to_ascii_lowercase();
    plain(found) == plain(expected)
}
