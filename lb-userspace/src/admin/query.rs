//! Values of query parameters. A query with an unknown key, a key given twice or a wrong value is
//! refused (400).

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use lb_core::config::{Protocol, Word};
use serde::{Deserialize, Deserializer, de::Error};
use utoipa::IntoParams;

use crate::{api, events::Cursor};

/// The query of a request without parameters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// A type of parameter.
pub(super) trait Parameter: Sized {
    /// Reads a value. An error says what is expected.
    fn read(text: &str) -> Result<Self, String>;
}

/// Reads a parameter that may be missing. An empty value is the same as a missing one.
pub(super) fn optional<'de, D: Deserializer<'de>, T: Parameter>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    let found = (!text.is_empty()).then(|| checked(&text));
    found.transpose().map_err(D::Error::custom)
}

/// Reads a parameter that must be there.
pub(super) fn required<'de, D: Deserializer<'de>, T: Parameter>(deserializer: D) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    checked(&text).map_err(D::Error::custom)
}

fn checked<T: Parameter>(text: &str) -> Result<T, String> {
    T::read(text).map_err(|expected| format!("`{}` is wrong; expected {expected}", text.escape_debug()))
}

fn parsed<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| expected.to_owned())
}

impl Parameter for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Parameter for bool {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text, "true or false")
    }
}

impl Parameter for IpAddr {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text, "an IPv4 or IPv6 address")
    }
}

impl Parameter for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text, "an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80")
    }
}

impl Parameter for Protocol {
    fn read(text: &str) -> Result<Self, String> {
        let known = Self::WORDS.iter().find(|(word, _)| *word == text);
        known
            .map(|(_, protocol)| *protocol)
            .ok_or_else(|| "tcp or udp".to_owned())
    }
}

impl Parameter for Duration {
    fn read(text: &str) -> Result<Self, String> {
        api::deadline(text).ok_or_else(|| "a duration such as 5m or 1h 30m".to_owned())
    }
}

/// A place in the flow table, from an earlier response.
pub(super) struct FlowCursor(pub(super) u64);

impl Parameter for FlowCursor {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text, "the `cursor` of an earlier response").map(Self)
    }
}

impl Parameter for Cursor {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text, "the `cursor` of an earlier response")
    }
}

/// A whole number from `MIN` to `MAX`.
pub(super) struct Number<const MIN: usize, const MAX: usize>(pub(super) usize);

impl<const MIN: usize, const MAX: usize> Parameter for Number<MIN, MAX> {
    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("a whole number from {MIN} to {MAX}")),
        }
    }
}
