//! Is a name resolved as expected?

use std::{
    hash::{BuildHasher, RandomState},
    str::FromStr,
};

use domain::{
    base::{Message, MessageBuilder, Name, Rtype, iana::Rcode},
    rdata::AllRecordData,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Place, ProbeFailure, tcp, udp};
use lb_core::config::DnsProbe;

/// Asks, and looks at the answers.
pub(super) async fn probe(to: &Place, probe: &DnsProbe) -> Result<(), ProbeFailure> {
    let question = question(probe).ok_or_else(|| failed("the question cannot be written"))?;
    if probe.tcp {
        let answer = by_tcp(to, &question).await?;
        return judge(&answer, &question, probe).unwrap_or_else(|| Err(failed("an answer to another question")));
    }
    let socket = udp::connect(to).await?;
    let mut answer = udp::ask(&socket, question.as_slice()).await?;
    loop {
        // Late answers to other questions, and forged ones, are none.
        if let Some(judged) = judge(&answer, &question, probe) {
            return judged;
        }
        answer = udp::receive(&socket).await?;
    }
}

fn failed(cause: impl Into<String>) -> ProbeFailure {
    ProbeFailure::Dns(cause.into())
}

fn question(probe: &DnsProbe) -> Option<Message<Vec<u8>>> {
    let name = Name::<Vec<u8>>::from_str(&probe.name).ok()?;
    let record = Rtype::from_str(&probe.record).ok()?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(RandomState::new().hash_one(()) as u16);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name, record)).ok()?;
    Some(builder.into_message())
}

/// RFC 1035, section 4.2.2: "The message is prefixed with a two byte length field".
async fn by_tcp(to: &Place, question: &Message<Vec<u8>>) -> Result<Vec<u8>, ProbeFailure> {
    let mut stream = tcp::connect(to).await?;
    let broke = |error: std::io::Error| failed(format!("the connection broke: {error}"));
    let length = (question.as_slice().len() as u16).to_be_bytes();
    let framed = [&length, question.as_slice()].concat();
    stream.write_all(&framed).await.map_err(broke)?;
    let mut answer = vec![0; usize::from(stream.read_u16().await.map_err(broke)?)];
    stream.read_exact(&mut answer).await.map_err(broke)?;
    Ok(answer)
}

/// How many records a cause names.
const MOST_SHOWN: usize = 3;

/// What an answer means; `None`: it answers another question.
fn judge(answer: &[u8], question: &Message<Vec<u8>>, probe: &DnsProbe) -> Option<Result<(), ProbeFailure>> {
    let answer = Message::from_octets(answer).ok()?;
    if !answer.is_answer(question) {
        return None;
    }
    let rcode = answer.header().rcode();
    if rcode != Rcode::NOERROR {
        return Some(Err(failed(format!("{rcode}"))));
    }
    let Some(found) = records(&answer, probe) else {
        return Some(Err(failed("an answer that is no DNS message")));
    };
    let is_right = match probe.answers.as_slice() {
        [] => !found.is_empty(),
        wanted => found
            .iter()
            .any(|found| wanted.iter().any(|wanted| alike(found, wanted))),
    };
    Some(if is_right {
        Ok(())
    } else if found.is_empty() {
        Err(failed(format!("no {} records of {}", probe.record, probe.name)))
    } else {
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
    })
}

/// The records of the type that was asked for, as `dig +short` shows them; `None`: they cannot be read.
fn records(answer: &Message<&[u8]>, probe: &DnsProbe) -> Option<Vec<String>> {
    let wanted = Rtype::from_str(&probe.record).ok()?;
    let mut found = Vec::new();
    for record in answer.answer().ok()? {
        let record = record.ok()?;
        if record.rtype() != wanted {
            continue;
        }
        let record = record.to_any_record::<AllRecordData<_, _>>().ok()?;
        found.push(record.data().to_string());
    }
    Some(found)
}

/// Names are the same in any case, with or without their last dot, and texts with or without quotes.
fn alike(found: &str, wanted: &str) -> bool {
    let plain = |text: &str| text.trim_matches('"').trim_end_matches('.').to_ascii_lowercase();
    plain(found) == plain(wanted)
}
