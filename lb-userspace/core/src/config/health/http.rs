//! The keys of `type = "http"`, `"https"` and `"grpc"`.

use std::collections::BTreeMap;

use http::{
    Method,
    header::{HeaderName, HeaderValue},
    uri::{Authority, PathAndQuery},
};
use toml::Spanned;

use crate::config::{
    defaults,
    diagnostics::{Diagnostics, Message, Seen},
    numbers, raw,
    words::nearest,
};

use super::{
    model::{GrpcProbe, HttpProbe, Pattern},
    tls,
};

/// The most items of `status`.
const MOST_STATUS: usize = 32;
/// The most `headers`.
const MOST_HEADERS: usize = 32;
/// The longest `grpc_service`, in bytes.
const LONGEST_SERVICE: usize = 256;
/// The methods to suggest for a misspelled one.
const METHODS: [&str; 5] = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];
/// Headers that the check sets itself.
const OWN_HEADERS: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "te"];

/// Validates the keys of an `http` check. TLS is not among them.
pub(super) fn http(raw: &raw::Health, diagnostics: &mut Diagnostics) -> Option<HttpProbe> {
    let method = diagnostics.optional(&raw.method, defaults::METHOD.to_owned(), |text| method(text));
    let path = diagnostics.optional(&raw.path, defaults::PATH.to_owned(), |text| path(text));
    let host = diagnostics.optional(&raw.host, None, |text| host(text).map(Some));
    let headers = headers(raw.headers.as_ref(), diagnostics);
    let status = match &raw.status {
        Some(given) => diagnostics.list(given, MOST_STATUS, "status codes or ranges", numbers::status),
        None => Some(vec![defaults::STATUS]),
    };
    let body = pattern(
        ("body_contains", &raw.body_contains),
        ("body_matches", &raw.body_matches),
        diagnostics,
    );
    if let (Some(method), Some(given)) = (&method, raw.body_contains.as_ref().or(raw.body_matches.as_ref()))
        && method == "HEAD"
    {
        let problem = Message::new(
            "a response to HEAD has no body",
            "another method, or no `body_contains` and no `body_matches`",
        );
        diagnostics.add(given.span(), problem);
    }
    Some(HttpProbe {
        method: method?,
        path: path?,
        host: host?,
        headers: headers?,
        status: status?,
        body: body?,
        tls: None,
    })
}

/// Validates the keys of a `grpc` check.
pub(super) fn grpc(raw: &raw::Health, diagnostics: &mut Diagnostics) -> Option<GrpcProbe> {
    let service = diagnostics.optional(&raw.grpc_service, String::new(), |name| {
        if name.len() > LONGEST_SERVICE || name.chars().any(char::is_control) {
            let problem = format!("\"{}\" is not a gRPC service name", name.escape_debug());
            return Err(Message::new(
                problem,
                format!("at most {LONGEST_SERVICE} bytes, such as \"shop.Cart\""),
            ));
        }
        Ok(name.clone())
    });
    let host = diagnostics.optional(&raw.host, None, |text| host(text).map(Some));
    let uses_tls = raw.tls.as_ref().is_some_and(|tls| *tls.get_ref());
    let tls = if uses_tls {
        tls::client(raw, diagnostics).map(Some)
    } else {
        tls::refuse(raw, diagnostics).then_some(None)
    };
    Some(GrpcProbe {
        service: service?,
        host: host?,
        tls: tls?,
    })
}

/// The text to search for, as a plain text or as a regular expression. The inner `None`: neither
/// key is given. Each argument is a key and its value.
pub(super) fn pattern(
    contains: (&str, &raw::Given<String>),
    matches: (&str, &raw::Given<String>),
    diagnostics: &mut Diagnostics,
) -> Option<Option<Pattern>> {
    let (text_key, text) = contains;
    let (regex_key, regex) = matches;
    match (text, regex) {
        (None, None) => Some(None),
        (Some(_), Some(given)) => {
            let problem = format!("`{text_key}` and `{regex_key}` exclude each other");
            diagnostics.add(given.span(), Message::new(problem, "one of the two"));
            None
        }
        (Some(given), None) => diagnostics
            .value(given, |text| match text.as_str() {
                "" => Err(Message::new("the text is empty", "a text to search for")),
                text => Ok(Pattern::contains(text)),
            })
            .map(Some),
        (None, Some(given)) => diagnostics
            .value(given, |text| {
                Pattern::matches(text).map_err(|error| {
                    let why = error.to_string();
                    // The last line is the error. Those before it show its position.
                    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    Message::new(
                        format!("\"{}\" is not a regular expression: {why}", text.escape_debug()),
                        "a regular expression such as \"^ok( |$)\"",
                    )
                })
            })
            .map(Some),
    }
}

/// Validates `headers`.
fn headers(
    given: Option<&Spanned<BTreeMap<Spanned<String>, Spanned<String>>>>,
    diagnostics: &mut Diagnostics,
) -> Option<BTreeMap<String, String>> {
    let Some(given) = given else {
        return Some(BTreeMap::new());
    };
    let entries = given.get_ref();
    if entries.len() > MOST_HEADERS {
        let problem = format!("{} headers are given", entries.len());
        diagnostics.add(
            given.span(),
            Message::new(problem, format!("at most {MOST_HEADERS} headers")),
        );
        return None;
    }
    let mut found = BTreeMap::new();
    let mut names = Seen::default();
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (given, value) in &entries {
        let name = diagnostics.value(given, |name| header_name(name));
        let value = diagnostics.value(value, |value| match HeaderValue::from_str(value) {
            Ok(_) => Ok(value.clone()),
            Err(_) => Err(Message::new(
                format!("\"{}\" is not a valid header value", value.escape_debug()),
                "visible characters",
            )),
        });
        if let (Some(name), Some(value)) = (name, value)
            && names.is_new(diagnostics, name.clone(), given.span(), || {
                let problem = format!("duplicate header \"{name}\" (names are not case-sensitive)");
                Message::new(problem, "headers that all differ")
            })
        {
            found.insert(name, value);
        }
    }
    (found.len() == entries.len()).then_some(found)
}

fn header_name(name: &str) -> Result<String, Message> {
    if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        let expected = if name.eq_ignore_ascii_case("host") {
            "`host` of the health check"
        } else {
            "other headers; the check sets this one itself"
        };
        return Err(Message::new(
            format!("the header \"{name}\" cannot be set here"),
            expected,
        ));
    }
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(Message::new(
            format!("\"{}\" is not a header name", name.escape_debug()),
            "a name such as \"authorization\"",
        )),
    }
}

fn method(text: &str) -> Result<String, Message> {
    // Methods are case-sensitive (RFC 9110, section 9.1): `get` is not `GET`.
    let known = METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(text));
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) | Err(_) => {}
        Ok(_) if known.is_some_and(|known| known != text) => {}
        Ok(method) => return Ok(method.as_str().to_owned()),
    }
    let problem = format!("\"{}\" is not a method for health checks", text.escape_debug());
    let known = known.or_else(|| nearest(text, METHODS.into_iter()));
    Err(Message::new(problem, "an HTTP method such as \"GET\" or \"HEAD\"").suggest(known))
}

fn path(text: &str) -> Result<String, Message> {
    let refused = |why| {
        Err(Message::new(
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
            "the path \"{}\" is not valid in a request",
            text.escape_debug()
        )),
    }
}

fn host(text: &str) -> Result<String, Message> {
    match text.parse::<Authority>() {
        Ok(host) if !text.contains('@') && !host.host().is_empty() => Ok(text.to_owned()),
        _ => Err(Message::new(
            format!("\"{}\" is not a host", text.escape_debug()),
            "a host name or address, with a port where needed, such as \"example.org\" or \"example.org:8080\"",
        )),
    }
}
