//! The keys that say when a check is made and what its results mean: intervals, timeout, rise,
//! fall, flap damping.

use std::time::Duration;

use crate::config::{
    defaults,
    diagnostics::{Diagnostics, Message},
    duration::{duration, words as text},
    numbers::number,
    raw,
    words::{self, Word},
};

use super::model::{Flaps, Initial, Rules, Timing};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_FLAP_PERIOD: Duration = Duration::from_secs(1);
/// The most results in a row, and the highest flap limit.
const MOST_RESULTS: u32 = 100;
/// The highest jitter, in percent.
const MOST_JITTER: u32 = 50;

impl Word for Initial {
    const WHAT: &'static str = "initial state";
    const WORDS: &'static [(&'static str, Self)] =
        &[("unknown", Self::Unknown), ("up", Self::Up), ("down", Self::Down)];
}

/// Copies the keys that `raw` lacks from `other`.
pub(super) fn inherit(raw: &mut raw::Health, other: &raw::Health) {
    macro_rules! missing {
        ($($key:ident),+) => {
            $( if raw.$key.is_none() { raw.$key = other.$key.clone(); } )+
        };
    }
    missing!(interval, jitter, rise, fall, initial, flap_limit, flap_period);
    // With an interval of its own, the service's fast interval and timeout might be longer than it.
    if raw.interval == other.interval {
        missing!(fast_interval, timeout);
    }
}

/// Validates the times of a check.
pub(super) fn timing(raw: &raw::Health, diagnostics: &mut Diagnostics) -> Option<Timing> {
    let interval = diagnostics.optional(
        &raw.interval,
        defaults::HEALTH_INTERVAL,
        duration(SHORTEST_INTERVAL, LONGEST_INTERVAL),
    );
    let longest = interval.unwrap_or(LONGEST_INTERVAL);
    let within = |what: &'static str, shortest| {
        move |given: &raw::DurationText| {
            let found = duration(shortest, LONGEST_INTERVAL)(given)?;
            if found > longest {
                return Err(Message::new(
                    format!("the {what} {} is longer than the interval", text(found)),
                    format!("at most the interval, {}", text(longest)),
                ));
            }
            Ok(found)
        }
    };
    let fast_interval = diagnostics.optional(&raw.fast_interval, longest, within("fast interval", SHORTEST_INTERVAL));
    let default = defaults::HEALTH_TIMEOUT.min(longest);
    let timeout = diagnostics.optional(&raw.timeout, default, within("timeout", SHORTEST_TIMEOUT));
    let jitter = diagnostics.optional(&raw.jitter, defaults::JITTER, number("jitter", 0, MOST_JITTER));
    Some(Timing {
        interval: interval?,
        fast_interval: fast_interval?,
        jitter: jitter?,
        timeout: timeout?,
    })
}

/// Validates rise, fall, initial state and flap damping.
pub(super) fn rules(raw: &raw::Health, diagnostics: &mut Diagnostics) -> Option<Rules> {
    let rise = diagnostics.optional(&raw.rise, defaults::RISE, number("rise", 1, MOST_RESULTS));
    let fall = diagnostics.optional(&raw.fall, defaults::FALL, number("fall", 1, MOST_RESULTS));
    let initial = diagnostics.optional(&raw.initial, Initial::default(), |word| words::choice(word));
    let limit = diagnostics.optional(&raw.flap_limit, 0, number("flap limit", 0, MOST_RESULTS));
    let period = diagnostics.optional(
        &raw.flap_period,
        defaults::FLAP_PERIOD,
        duration(SHORTEST_FLAP_PERIOD, LONGEST_INTERVAL),
    );
    if let (Some(given), None) = (&raw.flap_period, &raw.flap_limit) {
        let problem = "`flap_period` has no meaning without `flap_limit`";
        diagnostics.add(
            given.span(),
            Message::new(
                problem,
                "`flap_limit` = how often a backend may go down within `flap_period`",
            ),
        );
        return None;
    }
    let (limit, period) = (limit?, period?);
    Some(Rules {
        rise: rise?,
        fall: fall?,
        initial: initial?,
        flaps: (limit > 0).then_some(Flaps { limit, period }),
    })
}
