//! Checks of `[service.health]`.

use std::time::Duration;

use hyper::{
    Method,
    http::uri::{Authority, PathAndQuery},
};
use toml::Spanned;

use super::{
    HealthCheck, HttpProbe, Probe, defaults,
    duration::{duration, words},
    finding::{Findings, Problem, Span},
    numbers::{self, number},
    raw,
    words::nearest,
};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_IN_A_ROW: u32 = 100;
const MOST_STATUS: usize = 32;
const TYPES: [&str; 2] = ["tcp", "http"];
const METHODS: [&str; 5] = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];

/// Checks `[service.health]`.
pub(super) fn check(raw: &Spanned<raw::Health>, findings: &mut Findings) -> Option<HealthCheck> {
    let table = raw.span();
    let raw = raw.get_ref();

    let probe = probe(raw, &table, findings);
    let port = findings.optional(&raw.port, None, |port| numbers::port(port).map(Some));
    let interval = findings.optional(
        &raw.interval,
        defaults::HEALTH_INTERVAL,
        duration(SHORTEST_INTERVAL, LONGEST_INTERVAL),
    );
    let timeout = timeout(raw, interval, findings);
    let rise = findings.optional(&raw.rise, defaults::RISE, number("rise", 1, MOST_IN_A_ROW));
    let fall = findings.optional(&raw.fall, defaults::FALL, number("fall", 1, MOST_IN_A_ROW));

    Some(HealthCheck {
        probe: probe?,
        port: port?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
    })
}

fn timeout(raw: &raw::Health, interval: Option<Duration>, findings: &mut Findings) -> Option<Duration> {
    let longest = interval.unwrap_or(LONGEST_INTERVAL);
    let default = defaults::HEALTH_TIMEOUT.min(longest);
    findings.optional(&raw.timeout, default, |text| {
        let timeout = duration(SHORTEST_TIMEOUT, LONGEST_INTERVAL)(text)?;
        if timeout > longest {
            return Err(Problem::new(
                format!("the timeout {} is longer than the interval", words(timeout)),
                format!("at most the interval, {}", words(longest)),
            ));
        }
        Ok(timeout)
    })
}

fn probe(raw: &raw::Health, table: &Span, findings: &mut Findings) -> Option<Probe> {
    let kind = findings.required(&raw.kind, table, "type", "\"tcp\" or \"http\"", |kind| {
        TYPES.into_iter().find(|known| known == kind).ok_or_else(|| {
            let problem = format!("unknown type of health check \"{}\"", kind.escape_debug());
            Problem::new(problem, "\"tcp\" or \"http\"").suggest(nearest(kind, TYPES.into_iter()))
        })
    });
    if kind == Some("tcp") {
        refuse_http_keys(raw, findings);
        return Some(Probe::Tcp);
    }
    // Without a type, the keys are checked all the same.
    let http = http(raw, findings)?;
    kind.map(|_| Probe::Http(http))
}

fn refuse_http_keys(raw: &raw::Health, findings: &mut Findings) {
    let keys = [
        ("path", raw.path.as_ref().map(Spanned::span)),
        ("method", raw.method.as_ref().map(Spanned::span)),
        ("host", raw.host.as_ref().map(Spanned::span)),
        ("status", raw.status.as_ref().map(Spanned::span)),
    ];
    for (key, span) in keys {
        if let Some(span) = span {
            let problem = format!("`{key}` belongs to health checks of type \"http\", and this one is \"tcp\"");
            findings.add(span, Problem::new(problem, format!("no `{key}`, or `type` = \"http\"")));
        }
    }
}

fn http(raw: &raw::Health, findings: &mut Findings) -> Option<HttpProbe> {
    let method = findings.optional(&raw.method, defaults::METHOD.to_owned(), |text| method(text));
    let path = findings.optional(&raw.path, defaults::PATH.to_owned(), |text| path(text));
    let host = findings.optional(&raw.host, None, |text| host(text).map(Some));
    let status = match &raw.status {
        Some(given) => findings.list(given, MOST_STATUS, "status codes or ranges", numbers::status),
        None => Some(vec![defaults::STATUS]),
    };
    Some(HttpProbe {
        method: method?,
        path: path?,
        host: host?,
        status: status?,
    })
}

fn method(text: &str) -> Result<String, Problem> {
    // Methods are case-sensitive (RFC 9110, 9.1), and no server knows `get`.
    let known = METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(text));
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) | Err(_) => {}
        Ok(_) if known.is_some_and(|known| known != text) => {}
        Ok(method) => return Ok(method.as_str().to_owned()),
    }
    let problem = format!("\"{}\" is not a method that can be asked", text.escape_debug());
    Err(Problem::new(problem, "an HTTP method such as \"GET\" or \"HEAD\"").suggest(known))
}

fn path(text: &str) -> Result<String, Problem> {
    let refused = |why| {
        Err(Problem::new(
            why,
            "path and query, such as \"/healthz\" or \"/status?full=1\"",
        ))
    };
    if !text.starts_with('/') {
        return refused(format!("the path \"{}\" does not begin with `/`", text.escape_debug()));
    }
    // The parser would silently drop a fragment.
    match text.parse::<PathAndQuery>() {
        Ok(path) if path.as_str() == text => Ok(text.to_owned()),
        _ => refused(format!(
            "the path \"{}\" cannot be asked for as it is",
            text.escape_debug()
        )),
    }
}

fn host(text: &str) -> Result<String, Problem> {
    match text.parse::<Authority>() {
        Ok(host) if !text.contains('@') && !host.host().is_empty() => Ok(text.to_owned()),
        _ => Err(Problem::new(
            format!("\"{}\" is not a host", text.escape_debug()),
            "a host name or address, with a port where needed, such as \"example.org\" or \"example.org:8080\"",
        )),
    }
}
