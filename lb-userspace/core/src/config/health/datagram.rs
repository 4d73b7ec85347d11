//! The keys of `type = "udp"` and `type = "dns"`.

use std::{net::IpAddr, str::FromStr};

use domain::base::{Name, Rtype};

use crate::config::{
    Protocol,
    diagnostics::{Diagnostics, Message, Span},
    raw,
};

use super::{
    http::pattern,
    model::{DnsProbe, UdpProbe},
};

/// The largest payload, in bytes: it fits every link without fragmentation.
const LARGEST_PAYLOAD: usize = 1200;
/// The most items of `answers`.
const MOST_ANSWERS: usize = 32;
/// The longest item of `answers`, in bytes.
const LONGEST_ANSWER: usize = 255;
/// The record types whose answers can be compared.
const RECORDS: [&str; 9] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"];

/// Validates the keys of a `udp` check.
pub(super) fn udp(raw: &raw::Health, table: &Span, diagnostics: &mut Diagnostics) -> Option<UdpProbe> {
    let payload = payload(raw, table, diagnostics);
    let reply = pattern(
        ("reply_contains", &raw.reply_contains),
        ("reply_matches", &raw.reply_matches),
        diagnostics,
    );
    let require_reply = raw.require_reply.as_ref().is_none_or(|given| *given.get_ref());
    let expects_reply = reply.as_ref().is_some_and(Option::is_some);
    if let (true, false, Some(given)) = (expects_reply, require_reply, &raw.require_reply) {
        let problem = "`require_reply` = false excludes `reply_contains` and `reply_matches`";
        let expected = "no `require_reply` = false, or no expected reply";
        diagnostics.add(given.span(), Message::new(problem, expected));
        return None;
    }
    Some(UdpProbe {
        payload: payload?,
        reply: reply?,
        require_reply,
    })
}

/// The payload, from `send` or `send_hex`.
fn payload(raw: &raw::Health, table: &Span, diagnostics: &mut Diagnostics) -> Option<Vec<u8>> {
    let fits = |payload: Vec<u8>| match payload.len() {
        0 => Err(Message::new("the payload is empty", "at least one byte")),
        length if length > LARGEST_PAYLOAD => Err(Message::new(
            format!("the payload has {length} bytes"),
            format!("at most {LARGEST_PAYLOAD} bytes"),
        )),
        _ => Ok(payload),
    };
    match (&raw.send, &raw.send_hex) {
        (Some(_), Some(given)) => {
            diagnostics.add(
                given.span(),
                Message::new("`send` and `send_hex` exclude each other", "one of the two"),
            );
            None
        }
        (Some(given), None) => diagnostics.value(given, |text| fits(text.as_bytes().to_vec())),
        (None, Some(given)) => diagnostics.value(given, |text| {
            let bytes = unhex(text).ok_or_else(|| {
                let problem = format!("\"{}\" is not hexadecimal", text.escape_debug());
                Message::new(problem, "an even number of hexadecimal digits; blanks are ignored")
            })?;
            fits(bytes)
        }),
        (None, None) => {
            diagnostics.missing(table, "send", "the text to send, or `send_hex` = bytes in hexadecimal");
            None
        }
    }
}

/// Decodes hexadecimal digits. `None`: the text contains something else, or an odd number of
/// digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Validates the keys of a `dns` check.
pub(super) fn dns(
    raw: &raw::Health,
    table: &Span,
    protocol: Option<Protocol>,
    diagnostics: &mut Diagnostics,
) -> Option<DnsProbe> {
    let expected = "the name to resolve, such as \"example.org\"";
    let name = diagnostics.required(
        &raw.query,
        table,
        "query",
        expected,
        |text| match Name::<Vec<u8>>::from_str(text) {
            Ok(name) => Ok(name.to_string()),
            _ => Err(Message::new(
                format!("\"{}\" is not a domain name", text.escape_debug()),
                expected,
            )),
        },
    );
    let record = diagnostics.optional(&raw.record, "A".to_owned(), |text| {
        if RECORDS.contains(&text.as_str()) && Rtype::from_str(text).is_ok() {
            return Ok(text.clone());
        }
        let known = RECORDS.into_iter().find(|known| known.eq_ignore_ascii_case(text));
        let problem = format!("unknown record type \"{}\"", text.escape_debug());
        Err(Message::new(problem, format!("one of {}", RECORDS.join(", "))).suggest(known))
    });
    let answers = match &raw.answers {
        None => Some(Vec::new()),
        Some(given) => diagnostics.list(given, MOST_ANSWERS, "answers", |text| {
            answer(text, record.as_deref().unwrap_or_default())
        }),
    };
    Some(DnsProbe {
        name: name?,
        record: record?,
        answers: answers?,
        tcp: protocol? == Protocol::Tcp,
    })
}

/// Validates an item of `answers`, which looks as `dig +short` prints it.
fn answer(text: &str, record: &str) -> Result<String, Message> {
    if text.is_empty() || text.len() > LONGEST_ANSWER {
        let problem = format!("an answer has {} bytes", text.len());
        return Err(Message::new(problem, format!("1 to {LONGEST_ANSWER} bytes")));
    }
    let wanted = match record {
        "A" => Some(4),
        "AAAA" => Some(6),
        _ => None,
    };
    let address: Option<IpAddr> = text.parse().ok();
    match (wanted, address) {
        (None, _) => Ok(text.to_owned()),
        (Some(family), Some(address)) if (family == 4) == address.is_ipv4() => Ok(address.to_string()),
        (Some(family), _) => Err(Message::new(
            format!("\"{}\" is not an IPv{family} address", text.escape_debug()),
            format!("an IPv{family} address, as in {record} records"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_decoded_from_hexadecimal() {
        assert_eq!(unhex("00 fF10"), Some(vec![0, 255, 16]));
        assert_eq!(unhex(""), Some(vec![]));
        for wrong in ["0", "0x00", "gg", "é0", "000"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
