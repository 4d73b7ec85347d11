//! Validates the guard of a service: who may begin flows, and how many.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::Mode;
use toml::Spanned;

use super::{
    Guard, defaults,
    diagnostics::{Diagnostics, Message},
    numbers::{self, number},
    prefix, raw, tunnel,
};

const MOST_PREFIXES: usize = 4096;
const MOST_CONNECTIONS: u32 = 1 << 30;
const MOST_BURST: u32 = numbers::MOST_RATE;

/// Modes that can forward without flow entries: no address or port is rewritten.
const STATELESS: [Mode; 3] = [Mode::Dsr, Mode::Ipip, Mode::Gue];

/// Validates the guard keys of a service.
pub(super) fn check(
    raw: &raw::Service,
    address: Option<IpAddr>,
    mode: Option<Mode>,
    diagnostics: &mut Diagnostics,
) -> Option<Guard> {
    let allow = prefixes(&raw.allow, "allowed prefixes", address, diagnostics);
    let deny = prefixes(&raw.deny, "denied prefixes", address, diagnostics);
    if let (Some(allowed), Some(denied)) = (&raw.allow, &raw.deny) {
        refuse_both(allowed, denied, diagnostics);
    }
    let connection_limit = diagnostics.optional(&raw.connection_limit, 0, number("a limit of", 1, MOST_CONNECTIONS));
    let source_rate = diagnostics.optional(&raw.source_rate, 0, numbers::rate);
    let source_burst = match (&raw.source_burst, &raw.source_rate) {
        (Some(given), None) => {
            let problem = "`source_burst` has no meaning without `source_rate`";
            diagnostics.add(given.span(), Message::new(problem, "`source_rate` as well"));
            None
        }
        (given, _) => {
            let default = source_rate.unwrap_or_default();
            diagnostics.optional(given, default, number("a burst of", 1, MOST_BURST))
        }
    };
    Some(Guard {
        allow: allow?,
        deny: deny?,
        connection_limit: connection_limit?,
        source_rate: source_rate?,
        source_burst: source_burst?,
        flood_rate: flood_rate(raw, mode, diagnostics)?,
    })
}

fn flood_rate(raw: &raw::Service, mode: Option<Mode>, diagnostics: &mut Diagnostics) -> Option<u32> {
    if tunnel::refuse(&raw.syn_flood_rate, "syn_flood_rate", &STATELESS, mode, diagnostics) {
        return None;
    }
    let default = if STATELESS.contains(&mode?) {
        defaults::FLOOD_RATE
    } else {
        0
    };
    diagnostics.optional(&raw.syn_flood_rate, default, number("a rate of", 0, numbers::MOST_RATE))
}

fn prefixes(
    given: &Option<raw::List<String>>,
    what: &str,
    address: Option<IpAddr>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<IpNet>> {
    match given {
        None => Some(Vec::new()),
        Some(given) => diagnostics.list(given, MOST_PREFIXES, what, |text| {
            prefix::of_family(text, address, "clients have the family of the service")
        }),
    }
}

fn refuse_both(allow: &raw::List<String>, deny: &raw::List<String>, diagnostics: &mut Diagnostics) {
    let parsed = |item: &Spanned<String>| prefix::prefix(item.get_ref()).ok().map(|prefix| (prefix, item.span()));
    let allowed: std::collections::HashMap<IpNet, _> = allow.get_ref().iter().filter_map(parsed).collect();
    for (denied, span) in deny.get_ref().iter().filter_map(parsed) {
        if let Some(other) = allowed.get(&denied) {
            let problem = format!("{denied} is in `allow` and in `deny`");
            let expected = "each prefix in only one of the lists";
            diagnostics.add_related(span, Message::new(problem, expected), other.clone(), "in `allow`");
        }
    }
}
