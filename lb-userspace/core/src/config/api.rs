//! Validates `[api]`: access to the admin API, and its TCP listener.

use std::{net::SocketAddr, path::PathBuf};

use toml::Spanned;

use super::{
    Api, Listen, Tls,
    diagnostics::{Diagnostics, Message, Span},
    names, raw,
};

/// Longest name of a group that useradd accepts.
const LONGEST_GROUP: usize = 32;

/// Validates `[api]`.
pub(super) fn check(raw: Option<&Spanned<raw::Api>>, diagnostics: &mut Diagnostics) -> Option<Api> {
    let Some(raw) = raw else {
        return Some(Api::default());
    };
    let table = raw.span();
    let raw = raw.get_ref();
    let group = |name: &String| group(name).map(Some);
    let read_group = diagnostics.optional(&raw.read_group, None, group);
    let admin_group = diagnostics.optional(&raw.admin_group, None, group);
    let listen = listen(raw, &table, diagnostics);
    Some(Api {
        read_group: read_group?,
        admin_group: admin_group?,
        listen: listen?,
    })
}

/// The TCP listener. The outer `None`: something is invalid.
fn listen(raw: &raw::Api, table: &Span, diagnostics: &mut Diagnostics) -> Option<Option<Listen>> {
    let path = |path: &String| names::absolute(path).map(Some);
    let read_token = diagnostics.optional(&raw.read_token_file, None, path);
    let admin_token = diagnostics.optional(&raw.admin_token_file, None, path);
    let certificate = diagnostics.optional(&raw.certificate, None, path);
    let key = diagnostics.optional(&raw.key, None, path);
    let plaintext = raw.plaintext.as_ref().is_some_and(|given| *given.get_ref());
    let address = diagnostics.optional(&raw.listen, None, |text| address(text).map(Some));
    let (read_token, admin_token, certificate, key) = (read_token?, admin_token?, certificate?, key?);

    let Some(given) = &raw.listen else {
        return has_no_listener_keys(raw, diagnostics).then_some(None);
    };
    let address = address??;
    if read_token.is_none() && admin_token.is_none() {
        let problem = Message::new(
            "`listen` has no token",
            "`read_token_file` or `admin_token_file`, or both",
        );
        diagnostics.add(given.span(), problem);
        return None;
    }
    if read_token.is_some() && read_token == admin_token {
        let problem = Message::new("both tokens are in the same file", "a file for each token");
        diagnostics.add(table.clone(), problem);
        return None;
    }
    let tls = tls(certificate, key, table, diagnostics)?;
    if tls.is_none() && !plaintext && !address.ip().is_loopback() {
        let problem = Message::new(
            format!("`listen` at {address} has no TLS"),
            "`certificate` and `key`, a loopback address, or `plaintext` = true on a trusted network",
        );
        diagnostics.add(given.span(), problem);
        return None;
    }
    if let (Some(_), Some(given)) = (&tls, raw.plaintext.as_ref().filter(|given| *given.get_ref())) {
        let problem = Message::new("`plaintext` and `certificate` exclude each other", "one of the two");
        diagnostics.add(given.span(), problem);
        return None;
    }
    Some(Some(Listen {
        address,
        read_token,
        admin_token,
        tls,
    }))
}

fn tls(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    table: &Span,
    diagnostics: &mut Diagnostics,
) -> Option<Option<Tls>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Some(Tls { certificate, key })),
        (None, None) => Some(None),
        (None, Some(_)) => {
            diagnostics.missing(
                table,
                "certificate",
                "the path of a file with the certificate chain in PEM",
            );
            None
        }
        (Some(_), None) => {
            diagnostics.missing(table, "key", "the path of a file with the private key in PEM");
            None
        }
    }
}

/// Refuses keys that have no meaning without `listen`. Returns whether there are none.
fn has_no_listener_keys(raw: &raw::Api, diagnostics: &mut Diagnostics) -> bool {
    let paths = [&raw.read_token_file, &raw.admin_token_file, &raw.certificate, &raw.key];
    let spans = paths.into_iter().flatten().map(Spanned::span);
    let Some(span) = spans.chain(raw.plaintext.as_ref().map(Spanned::span)).next() else {
        return true;
    };
    let problem = Message::new(
        "this key has no meaning without `listen`",
        "`listen`, such as \"127.0.0.1:9440\"",
    );
    diagnostics.add(span, problem);
    false
}

fn address(text: &str) -> Result<SocketAddr, Message> {
    let expected = "an address and a port, such as \"127.0.0.1:9440\" or \"[::1]:9440\"";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => {
            let problem = format!("\"{}\" is not an address with a port", text.escape_debug());
            Err(Message::new(problem, expected))
        }
    }
}

/// Parses the name or number of a group.
fn group(name: &str) -> Result<String, Message> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > LONGEST_GROUP || !name.chars().all(known) {
        return Err(Message::new(
            format!("\"{}\" is not a valid group", name.escape_debug()),
            "name or number of a group, as `getent group` shows it",
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn api(keys: &str) -> Result<crate::config::Api, String> {
        let text = format!("[node]\nname = \"lb1\"\ninterfaces = [\"eth0\"]\n[api]\n{keys}");
        parse("lbd.toml", &text)
            .map(|config| config.api)
            .map_err(|error| error.to_string())
    }

    const TOKEN: &str = "admin_token_file = \"/t\"\n";
    const TLS: &str = "certificate = \"/c\"\nkey = \"/k\"\n";

    #[test]
    fn a_listener_needs_a_token_and_beyond_loopback_tls_or_plaintext() {
        for (keys, wrong) in [
            ("listen = \"127.0.0.1:9440\"\n".to_owned(), "has no token"),
            (format!("listen = \"192.0.2.1:9440\"\n{TOKEN}"), "has no TLS"),
            (format!("listen = \"[::]:9440\"\n{TOKEN}"), "has no TLS"),
            (
                format!("listen = \"[::1]:0\"\n{TOKEN}"),
                "is not an address with a port",
            ),
            (
                format!("listen = \"[::1]:1\"\n{TOKEN}key = \"/k\"\n"),
                "`certificate` is missing",
            ),
            (
                format!("listen = \"[::1]:1\"\n{TOKEN}certificate = \"/c\"\n"),
                "`key` is missing",
            ),
            (
                format!("listen = \"[::1]:1\"\n{TOKEN}{TLS}plaintext = true\n"),
                "one of the two",
            ),
            (
                format!("listen = \"[::1]:1\"\n{TOKEN}read_token_file = \"/t\"\n"),
                "in the same file",
            ),
            (TOKEN.to_owned(), "no meaning without `listen`"),
            ("plaintext = true\n".to_owned(), "no meaning without `listen`"),
            ("read_group = \"a b\"\n".to_owned(), "is not a valid group"),
        ] {
            let error = api(&keys).expect_err(&keys);
            assert!(error.contains(wrong), "{keys}: {error}");
        }
    }

    #[test]
    fn a_listener_that_is_safe_is_taken() {
        assert_eq!(api(""), Ok(crate::config::Api::default()));
        let open = api(&format!("listen = \"127.0.0.1:9440\"\n{TOKEN}"))
            .unwrap()
            .listen
            .unwrap();
        assert!(open.tls.is_none() && open.read_token.is_none() && open.admin_token.is_some());
        assert!(
            api(&format!("listen = \"192.0.2.1:9440\"\n{TOKEN}{TLS}"))
                .unwrap()
                .listen
                .unwrap()
                .tls
                .is_some()
        );
        assert!(api(&format!("listen = \"192.0.2.1:9440\"\n{TOKEN}plaintext = true\n")).is_ok());
        assert_eq!(
            api("read_group = \"lbd\"\n").unwrap().read_group.as_deref(),
            Some("lbd")
        );
    }
}
