//! The keys of checks that use TLS.

use std::path::PathBuf;

use rustls_pki_types::ServerName;
use toml::Spanned;

use crate::config::{
    Tls,
    diagnostics::{Diagnostics, Message, Span},
    names, raw,
};

use super::model::TlsClient;

/// Validates the TLS keys.
pub(super) fn client(raw: &raw::Health, diagnostics: &mut Diagnostics) -> Option<TlsClient> {
    let verify = raw.verify.as_ref().is_none_or(|verify| *verify.get_ref());
    let server_name = diagnostics.optional(&raw.server_name, None, |name| {
        match ServerName::try_from(name.clone()) {
            Ok(_) => Ok(Some(name.clone())),
            Err(_) => Err(Message::new(
                format!("\"{}\" is not a server name", name.escape_debug()),
                "a host name or an address, such as \"www.example.org\"",
            )),
        }
    });
    let ca_file = diagnostics.optional(&raw.ca_file, None, |path| names::absolute(path).map(Some));
    if let (Some(given), false) = (&raw.ca_file, verify) {
        let problem = "`ca_file` has no meaning with `verify` = false";
        diagnostics.add(given.span(), Message::new(problem, "one of the two"));
        return None;
    }
    let identity = identity(raw, diagnostics);
    Some(TlsClient {
        server_name: server_name?.or_else(|| host_name(raw)),
        verify,
        ca_file: ca_file?,
        identity: identity?,
    })
}

/// Refuses the TLS keys of a check without TLS. Returns whether none was given.
pub(super) fn refuse(raw: &raw::Health, diagnostics: &mut Diagnostics) -> bool {
    let keys: [(&str, Option<Span>); 5] = [
        ("server_name", raw.server_name.as_ref().map(Spanned::span)),
        ("verify", raw.verify.as_ref().map(Spanned::span)),
        ("ca_file", raw.ca_file.as_ref().map(Spanned::span)),
        ("certificate", raw.certificate.as_ref().map(Spanned::span)),
        ("key", raw.key.as_ref().map(Spanned::span)),
    ];
    let mut is_clean = true;
    for (key, span) in keys {
        if let Some(span) = span {
            is_clean = false;
            let problem = format!("`{key}` has no meaning without TLS");
            diagnostics.add(span, Message::new(problem, format!("no `{key}`, or `tls` = true")));
        }
    }
    is_clean
}

/// The name in `host`, without the port. `None`: there is none, or a certificate cannot be for it.
fn host_name(raw: &raw::Health) -> Option<String> {
    let host = raw.host.as_ref()?.get_ref();
    let authority: http::uri::Authority = host.parse().ok()?;
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned()).ok().map(|_| name.to_owned())
}

/// Validates `certificate` and `key`, which need each other. The inner `None`: neither is given.
fn identity(raw: &raw::Health, diagnostics: &mut Diagnostics) -> Option<Option<Tls>> {
    let path = |given: &raw::Given<String>, diagnostics: &mut Diagnostics| -> Option<Option<PathBuf>> {
        diagnostics.optional(given, None, |path| names::absolute(path).map(Some))
    };
    let certificate = path(&raw.certificate, diagnostics);
    let key = path(&raw.key, diagnostics);
    let alone = match (&raw.certificate, &raw.key) {
        (Some(given), None) => Some((given.span(), "certificate", "key")),
        (None, Some(given)) => Some((given.span(), "key", "certificate")),
        _ => None,
    };
    if let Some((span, key, other)) = alone {
        let problem = format!("`{key}` without `{other}`");
        diagnostics.add(span, Message::new(problem, "both or neither"));
        return None;
    }
    match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(Some(Tls { certificate, key })),
        _ => Some(None),
    }
}
