//! The types of health checks, and the keys of each type.

use toml::Spanned;

use crate::config::{
    diagnostics::{Diagnostics, Message, Span},
    raw,
    words::Word,
};

/// A type of health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Http,
    Https,
    Grpc,
    Udp,
    Dns,
    Icmp,
    Command,
}

impl Word for Kind {
    const WHAT: &'static str = "type of health check";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("tcp", Self::Tcp),
        ("http", Self::Http),
        ("https", Self::Https),
        ("grpc", Self::Grpc),
        ("udp", Self::Udp),
        ("dns", Self::Dns),
        ("icmp", Self::Icmp),
        ("command", Self::Command),
    ];
}

/// The values of `type`, which every check needs.
pub(super) const EXPECTED: &str = "\"tcp\", \"http\", \"https\", \"grpc\", \"udp\", \"dns\", \"icmp\" or \"command\"";

/// A key that only some types have.
struct Key {
    name: &'static str,
    /// Where it is in the file. `None`: it is not given.
    place: fn(&raw::Health) -> Option<Span>,
    kinds: &'static [Kind],
}

macro_rules! keys {
    ($( $kinds:expr => $($key:ident),+; )+) => {
        const KEYS: &[Key] = &[ $( $(
            Key {
                name: stringify!($key),
                place: |raw| raw.$key.as_ref().map(Spanned::span),
                kinds: $kinds,
            },
        )+ )+ ];

        /// Copies the keys that `raw` lacks from `other`.
        pub(super) fn inherit(raw: &mut raw::Health, other: &raw::Health) {
            $( $(
                if raw.$key.is_none() {
                    raw.$key = other.$key.clone();
                }
            )+ )+
        }
    };
}

keys! {
    &[Kind::Http, Kind::Https] => method, path, headers, status, body_contains, body_matches;
    &[Kind::Http, Kind::Https, Kind::Grpc] => host;
    &[Kind::Https, Kind::Grpc] => server_name, verify, ca_file, certificate, key;
    &[Kind::Grpc] => tls, grpc_service;
    &[Kind::Udp] => send, send_hex, reply_contains, reply_matches, require_reply;
    &[Kind::Dns] => query, record, answers;
    &[Kind::Command] => argv, environment, user;
    &[Kind::Tcp, Kind::Http, Kind::Https, Kind::Grpc, Kind::Udp, Kind::Dns] => port, target, source;
}

/// Refuses keys that belong to other types than this one.
pub(super) fn refuse_foreign(raw: &raw::Health, kind: Kind, diagnostics: &mut Diagnostics) {
    for key in KEYS.iter().filter(|key| !key.kinds.contains(&kind)) {
        let Some(span) = (key.place)(raw) else { continue };
        let words: Vec<_> = key.kinds.iter().map(|kind| format!("\"{}\"", kind.word())).collect();
        let (name, words) = (key.name, words.join(" or "));
        let problem = format!(
            "`{name}` belongs to health checks of type {words}, and this one is \"{}\"",
            kind.word()
        );
        diagnostics.add(span, Message::new(problem, format!("no `{name}`, or `type` = {words}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_values_are_all_types() {
        for (word, _) in Kind::WORDS {
            assert!(EXPECTED.contains(&format!("\"{word}\"")), "{word}");
        }
    }
}
