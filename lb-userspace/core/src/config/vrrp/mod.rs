//! Checks `[[vrrp]]` tables.

pub(super) mod model;
mod track;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    Config, Vrrp,
    address::{family, unicast},
    defaults,
    diagnostics::{Diagnostics, Message, Seen, Span},
    duration::{duration, words as text},
    names,
    numbers::number,
    raw,
    words::{self, Word},
};
use crate::vrrp::advert::ChecksumCoverage;

const MAX_ADDRESSES: usize = 20;
const MAX_PEERS: usize = 16;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// RFC 9568, section 5.2.7: 12 bits, in hundredths of a second.
const LONGEST_V3: Duration = Duration::from_millis(40_950);
/// RFC 3768, section 5.3.7: 8 bits, in seconds.
const LONGEST_V2: Duration = Duration::from_secs(255);
const LONGEST_DELAY: Duration = Duration::from_secs(60 * 60);
const LONGEST_GRACE: Duration = Duration::from_secs(10 * 60);
const LONGEST_RELAY: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
const LONGEST_REFRESH: Duration = Duration::from_secs(24 * 60 * 60);
const PASSWORD: usize = 8;

impl Word for ChecksumCoverage {
    const WHAT: &'static str = "form of the checksum";
    const WORDS: &'static [(&'static str, Self)] = &[("pseudo-header", Self::PseudoHeader), ("message", Self::Message)];
}

/// Checks all tables. `services` has the names of all services, each with the number of its
/// backends without fallbacks.
pub(super) fn check(
    raw: &[Spanned<raw::Vrrp>],
    services: &BTreeMap<&str, usize>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Vrrp>> {
    track::services(raw, services, diagnostics);
    let mut names = Seen::default();
    let mut routers = Seen::default();
    let mut addresses = Seen::default();
    let mut found = Vec::with_capacity(raw.len());
    for item in raw {
        let Some(vrrp) = diagnostics.table(item.span(), |diagnostics| one(item, diagnostics)) else {
            continue;
        };
        let is_named = names.is_new(diagnostics, vrrp.name.clone(), item.span(), || {
            let problem = format!("two virtual routers have the name \"{}\"", vrrp.name);
            Message::new(problem, "a name of its own for each virtual router")
        });
        let is_v4 = vrrp.addresses.first().is_none_or(|address| address.addr().is_ipv4());
        let key = (vrrp.interface.clone(), is_v4, vrrp.router);
        let is_new = routers.is_new(diagnostics, key, item.span(), || {
            let problem = format!(
                "two virtual routers of {} have `router_id` {}",
                vrrp.interface, vrrp.router
            );
            Message::new(
                problem,
                "a `router_id` of its own for each virtual router of an interface and address family",
            )
        });
        let are_free = are_free(&vrrp, item.get_ref(), &mut addresses, diagnostics);
        if is_named && is_new && are_free {
            found.push(vrrp);
        }
    }
    if found.len() < raw.len() {
        return None;
    }
    groups(&found, raw, diagnostics)?;
    Some(found)
}

/// Warnings about valid virtual routers that do not have all features.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let without = config
        .vrrp
        .iter()
        .filter(|vrrp| !config.node.interfaces.contains(&vrrp.interface));
    let sentence = |vrrp: &Vrrp| {
        format!(
            "virtual router {}: {} is not in `node.interfaces`, so `grace` and `relay` do not work: a dead controller causes a \
             takeover, and connections end when the addresses move",
            vrrp.name, vrrp.interface
        )
    };
    without.map(sentence).collect()
}

/// Whether each address of a virtual router is unique on its interface. If two virtual routers had
/// it, the one that yields would remove it from the other one.
fn are_free(vrrp: &Vrrp, raw: &raw::Vrrp, seen: &mut Seen<(String, IpAddr)>, diagnostics: &mut Diagnostics) -> bool {
    let given = raw.addresses.iter().flat_map(Spanned::get_ref);
    let mut are_free = true;
    for (address, given) in vrrp.hosts().zip(given) {
        are_free &= seen.is_new(diagnostics, (vrrp.interface.clone(), address), given.span(), || {
            let problem = format!("{address} is twice among the virtual addresses of {}", vrrp.interface);
            Message::new(problem, "each address once on an interface")
        });
    }
    are_free
}

/// Refuses sync groups whose virtual routers would not move together.
fn groups(found: &[Vrrp], raw: &[Spanned<raw::Vrrp>], diagnostics: &mut Diagnostics) -> Option<()> {
    let mut are_right = Some(());
    for (index, vrrp) in found.iter().enumerate() {
        let Some(group) = &vrrp.group else { continue };
        let first = found[..index].iter().find(|other| other.group.as_ref() == Some(group));
        let Some(first) = first else { continue };
        let given = raw[index].get_ref();
        let own = [
            (
                "priority",
                vrrp.priority == first.priority,
                given.priority.as_ref().map(Spanned::span),
            ),
            (
                "preempt",
                vrrp.preempt == first.preempt,
                given.preempt.as_ref().map(Spanned::span),
            ),
            (
                "preempt_delay",
                vrrp.preempt_delay == first.preempt_delay,
                given.preempt_delay.as_ref().map(Spanned::span),
            ),
            (
                "grace",
                vrrp.grace == first.grace,
                given.grace.as_ref().map(Spanned::span),
            ),
        ];
        for (key, is_same, span) in own {
            if !is_same {
                let problem = format!(
                    "`{key}` differs from that of \"{}\", which is in the same sync group",
                    first.name
                );
                let expected = format!("the same `{key}` for all of sync group \"{group}\"");
                diagnostics.add(
                    span.unwrap_or_else(|| raw[index].span()),
                    Message::new(problem, expected),
                );
                are_right = None;
            }
        }
    }
    are_right
}

fn one(item: &Spanned<raw::Vrrp>, diagnostics: &mut Diagnostics) -> Option<Vrrp> {
    let table = item.span();
    let raw = item.get_ref();
    let identity = identity(raw, &table, diagnostics);
    let version = diagnostics.optional(&raw.version, 3, number("version", 2, 3));
    let priority = diagnostics.optional(&raw.priority, defaults::PRIORITY, number("priority", 1, 255));
    let group = diagnostics.optional(&raw.group, None, |name| names::GROUP.check(name).map(Some));
    let preempt = raw.preempt.as_ref().is_none_or(|preempt| *preempt.get_ref());
    let times = times(raw, version, preempt, diagnostics);
    let addresses = addresses(raw, &table, diagnostics);
    let of_family = of_family(raw, addresses.as_deref(), version, diagnostics);
    let peers = match &raw.peers {
        Some(given) => diagnostics.list(given, MAX_PEERS, "peers", |text| own(text, addresses.as_deref())),
        None => Some(Vec::new()),
    };
    let source = diagnostics.optional(&raw.source, None, |text| {
        source(text, addresses.as_deref(), priority).map(Some)
    });
    let accept = accept(raw, priority, diagnostics);
    let router_mac = router_mac(raw, priority, diagnostics);
    let checksum = checksum(raw, version, addresses.as_deref(), diagnostics);
    let password = password(raw, version, diagnostics);
    let tracks = track::tracks(raw, priority, diagnostics);
    let hook = raw.hook.as_ref();
    let hook = hook.map_or(Some(None), |hook| track::hook(hook, diagnostics).map(Some));
    of_family?;
    let (
        Identity {
            name,
            interface,
            router,
        },
        times,
    ) = (identity?, times?);

    Some(Vrrp {
        name,
        interface,
        router,
        addresses: addresses?,
        version: u8::try_from(version?).ok()?,
        priority: u8::try_from(priority?).ok()?,
        group: group?,
        interval: times.interval,
        grace: times.grace,
        relay: times.relay,
        refresh: times.refresh,
        peers: peers?,
        source: source?,
        preempt,
        preempt_delay: times.preempt_delay,
        accept: accept?,
        router_mac: router_mac?,
        checksum: checksum?,
        password: password?,
        tracks: tracks?,
        hook: hook?,
    })
}

/// Name, interface and number of a virtual router.
struct Identity {
    name: String,
    interface: String,
    router: u8,
}

fn identity(raw: &raw::Vrrp, table: &Span, diagnostics: &mut Diagnostics) -> Option<Identity> {
    let name = diagnostics.required(&raw.name, table, "name", "a name for the virtual router", |name| {
        names::ROUTER.check(name)
    });
    let expected = "an interface, such as \"eth0\"";
    let interface = diagnostics.required(&raw.interface, table, "interface", expected, |name| {
        names::interface(name)
    });
    let expected = "the number of the virtual router, 1 to 255";
    let number = number("router id", 1, 255);
    let router = diagnostics.required(&raw.router_id, table, "router_id", expected, number);
    Some(Identity {
        name: name?,
        interface: interface?,
        router: u8::try_from(router?).ok()?,
    })
}

/// The durations of a virtual router.
struct Times {
    interval: Duration,
    grace: Duration,
    relay: Duration,
    refresh: Duration,
    preempt_delay: Duration,
}

fn times(raw: &raw::Vrrp, version: Option<u32>, preempt: bool, diagnostics: &mut Diagnostics) -> Option<Times> {
    let interval = interval(raw, version, diagnostics);
    let grace = diagnostics.optional(&raw.grace, defaults::GRACE, duration(Duration::ZERO, LONGEST_GRACE));
    let relay = diagnostics.optional(&raw.relay, defaults::RELAY, duration(Duration::ZERO, LONGEST_RELAY));
    let refresh = diagnostics.optional(&raw.refresh, defaults::REFRESH, refresh);
    let preempt_delay = preempt_delay(raw, preempt, diagnostics);
    Some(Times {
        interval: interval?,
        grace: grace?,
        relay: relay?,
        refresh: refresh?,
        preempt_delay: preempt_delay?,
    })
}

fn addresses(raw: &raw::Vrrp, table: &Span, diagnostics: &mut Diagnostics) -> Option<Vec<IpNet>> {
    let Some(given) = &raw.addresses else {
        let expected = "the addresses that move, such as [\"192.0.2.10/24\"]";
        diagnostics.missing(table, "addresses", expected);
        return None;
    };
    diagnostics.list(given, MAX_ADDRESSES, "addresses", |text| network(text))
}

fn preempt_delay(raw: &raw::Vrrp, preempt: bool, diagnostics: &mut Diagnostics) -> Option<Duration> {
    diagnostics.optional(&raw.preempt_delay, Duration::ZERO, |given| {
        let found = duration(Duration::ZERO, LONGEST_DELAY)(given)?;
        if !preempt && !found.is_zero() {
            let problem = "`preempt_delay` requires `preempt = true`";
            return Err(Message::new(problem, "no `preempt_delay`, or `preempt` = true"));
        }
        Ok(found)
    })
}

fn checksum(
    raw: &raw::Vrrp,
    version: Option<u32>,
    addresses: Option<&[IpNet]>,
    diagnostics: &mut Diagnostics,
) -> Option<ChecksumCoverage> {
    let is_v6 = addresses
        .and_then(<[IpNet]>::first)
        .is_some_and(|first| first.addr().is_ipv6());
    diagnostics.optional(&raw.checksum, ChecksumCoverage::default(), |word| {
        if version == Some(2) || is_v6 {
            let problem = "version 2 and IPv6 have only one form of the checksum";
            return Err(Message::new(problem, "no `checksum`"));
        }
        words::choice(word)
    })
}

fn accept(raw: &raw::Vrrp, priority: Option<u32>, diagnostics: &mut Diagnostics) -> Option<bool> {
    let Some(given) = &raw.accept else { return Some(true) };
    if !given.get_ref() && priority? == 255 {
        let problem = "the owner of the addresses always accepts packets to them";
        diagnostics.add(
            given.span(),
            Message::new(problem, "`accept` = true, or a `priority` below 255"),
        );
        return None;
    }
    Some(*given.get_ref())
}

fn router_mac(raw: &raw::Vrrp, priority: Option<u32>, diagnostics: &mut Diagnostics) -> Option<bool> {
    let Some(given) = raw.router_mac.as_ref().filter(|given| *given.get_ref()) else {
        return Some(false);
    };
    let (problem, expected) = if raw.peers.is_some() {
        (
            "switches learn the virtual router's MAC address only from multicast adverts",
            "`router_mac` = false, or no `peers`",
        )
    } else if priority? == 255 {
        (
            "the owner of the addresses uses the MAC address of its interface",
            "`router_mac` = false, or a `priority` below 255",
        )
    } else {
        return Some(true);
    };
    diagnostics.add(given.span(), Message::new(problem, expected));
    None
}

/// Time between two announcements. The lower limit keeps them from being a flood.
fn refresh(given: &raw::DurationText) -> Result<Duration, Message> {
    let length = duration(Duration::ZERO, LONGEST_REFRESH)(given)?;
    if length.is_zero() || length >= SHORTEST_REFRESH {
        return Ok(length);
    }
    let problem = format!("{} is out of range", text(length));
    let (least, most) = (text(SHORTEST_REFRESH), text(LONGEST_REFRESH));
    Err(Message::new(
        problem,
        format!("0s (never), or a duration from {least} to {most}"),
    ))
}

fn interval(raw: &raw::Vrrp, version: Option<u32>, diagnostics: &mut Diagnostics) -> Option<Duration> {
    diagnostics.optional(&raw.interval, defaults::ADVERT_INTERVAL, |given| {
        let (unit, longest) = match version {
            Some(2) => (Duration::from_secs(1), LONGEST_V2),
            _ => (SHORTEST_INTERVAL, LONGEST_V3),
        };
        let interval = duration(unit, longest)(given)?;
        if !interval.as_nanos().is_multiple_of(unit.as_nanos()) {
            return Err(Message::new(
                format!("adverts cannot contain an interval of {}", text(interval)),
                format!("a multiple of {}", text(unit)),
            ));
        }
        Ok(interval)
    })
}

fn network(given: &str) -> Result<IpNet, Message> {
    let expected = "an address with its prefix length, such as \"192.0.2.10/24\"";
    let found: IpNet = given
        .parse()
        .or_else(|_| given.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| Message::new(format!("\"{}\" is not an address", given.escape_debug()), expected))?;
    match found.addr() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {}
        address => drop(unicast(&address.to_string())?),
    }
    let is_network = match found {
        IpNet::V4(v4) => v4.prefix_len() < 31 && (v4.addr() == v4.network() || v4.addr() == v4.broadcast()),
        // RFC 4291, section 2.6.1: the address of all routers of a subnet.
        IpNet::V6(v6) => v6.prefix_len() < 127 && v6.addr() == v6.network(),
    };
    if is_network {
        let problem = format!("{found} is a network, or its broadcast address");
        return Err(Message::new(problem, expected));
    }
    Ok(found)
}

/// An address that belongs to one balancer.
fn own(given: &str, addresses: Option<&[IpNet]>) -> Result<IpAddr, Message> {
    let found = like(given, addresses)?;
    let is_virtual = addresses.is_some_and(|all| all.iter().any(|address| address.addr() == found));
    if is_virtual {
        let problem = format!("{found} is a virtual address: it moves");
        return Err(Message::new(problem, "a balancer's own address"));
    }
    match found {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Ok(found),
        _ => unicast(given),
    }
}

fn source(given: &str, addresses: Option<&[IpNet]>, priority: Option<u32>) -> Result<IpAddr, Message> {
    match priority {
        // The owner's own address is the virtual one.
        Some(255) => like(given, addresses),
        _ => own(given, addresses),
    }
}

/// Refuses addresses of two families, and IPv6 in version 2.
fn of_family(
    raw: &raw::Vrrp,
    addresses: Option<&[IpNet]>,
    version: Option<u32>,
    diagnostics: &mut Diagnostics,
) -> Option<()> {
    let (Some(given), Some([first, rest @ ..])) = (&raw.addresses, addresses) else {
        return None;
    };
    let is_v4 = first.addr().is_ipv4();
    if rest.iter().any(|address| address.addr().is_ipv4() != is_v4) {
        let problem = "the addresses are of two families";
        diagnostics.add(given.span(), Message::new(problem, "a virtual router for each family"));
        return None;
    }
    if version == Some(2) && !is_v4 {
        let problem = "version 2 does not support IPv6";
        diagnostics.add(given.span(), Message::new(problem, "IPv4 addresses, or `version` = 3"));
        return None;
    }
    Some(())
}

fn like(given: &str, addresses: Option<&[IpNet]>) -> Result<IpAddr, Message> {
    let expected = "an address, such as \"192.0.2.2\"";
    let found: IpAddr = given
        .parse()
        .map_err(|_| Message::new(format!("\"{}\" is not an address", given.escape_debug()), expected))?;
    match addresses.and_then(<[IpNet]>::first) {
        Some(first) if first.addr().is_ipv4() != found.is_ipv4() => Err(Message::new(
            format!(
                "{found} is {} and the virtual addresses are {}",
                family(found),
                family(first.addr())
            ),
            format!("an {} address", family(first.addr())),
        )),
        _ => Ok(found),
    }
}

fn password(raw: &raw::Vrrp, version: Option<u32>, diagnostics: &mut Diagnostics) -> Option<Option<[u8; PASSWORD]>> {
    let Some(given) = &raw.password else { return Some(None) };
    if version? != 2 {
        let problem =
            "`password` belongs to version 2: version 3 has none, because everybody on the link could read it";
        diagnostics.add(given.span(), Message::new(problem, "no `password`, or `version` = 2"));
        return None;
    }
    diagnostics
        .value(given, |text| {
            let bytes = text.as_bytes();
            if bytes.is_empty() || bytes.len() > PASSWORD {
                let problem = format!("the password has {} bytes", bytes.len());
                return Err(Message::new(problem, format!("1 to {PASSWORD} bytes")));
            }
            let mut password = [0; PASSWORD];
            password[..bytes.len()].copy_from_slice(bytes);
            Ok(password)
        })
        .map(Some)
}

#[cfg(test)]
mod tests;
