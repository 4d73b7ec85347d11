//! Reads the values of options. An error says what is expected.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::builder::{PossibleValue, PossibleValuesParser};
use lb_core::config::MOST_WEIGHT;

use crate::{
    api::{self, limits::MAX_EVENT_LIMIT},
    events::Kind,
};

/// The kinds of events.
pub(super) fn kinds() -> PossibleValuesParser {
    let value = |kind: &Kind| PossibleValue::new(kind.word()).help(kind.sentence());
    PossibleValuesParser::new(Kind::ALL.iter().map(value))
}

pub(super) fn address_and_port(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80";
    text.parse().map_err(|_| expected.to_owned())
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let expected = "expected one IPv4 or IPv6 address, such as 192.0.2.7 or 2001:db8::7";
    text.parse().map_err(|_| expected.to_owned())
}

/// Checks the deadline of a drain. It stays a text, which the daemon reads.
pub(super) fn deadline(text: &str) -> Result<String, String> {
    let read = api::deadline(text).map(|_| text.to_owned());
    read.ok_or_else(|| "expected a duration such as 5m or 1h 30m".to_owned())
}

pub(super) fn weight(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(weight) if weight <= MOST_WEIGHT => Ok(weight),
        _ => Err(format!("expected a whole number from 0 to {MOST_WEIGHT}")),
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}

pub(super) fn number_of_events(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number <= MAX_EVENT_LIMIT => Ok(number),
        _ => Err(format!("expected a whole number from 0 to {MAX_EVENT_LIMIT}")),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds from 0.1 to 86400".to_owned()),
    }
}
