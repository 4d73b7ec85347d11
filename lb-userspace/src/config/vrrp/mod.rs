//! Checks of `[[vrrp]]`.

pub(super) mod model;
mod track;

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    Vrrp,
    address::{family, unicast},
    defaults,
    duration::{duration, words as text},
    finding::{Findings, Problem, Seen},
    names,
    numbers::number,
    raw,
    words::{self, Word},
};
use crate::vrrp::wire::Covered;

const MOST_ADDRESSES: usize = 20;
const MOST_PEERS: usize = 16;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// RFC 9568, section 5.2.7: 12 bits, in hundredths of a second.
const LONGEST_V3: Duration = Duration::from_millis(40_950);
/// RFC 3768, section 5.3.7: 8 bits, in seconds.
const LONGEST_V2: Duration = Duration::from_secs(255);
const LONGEST_DELAY: Duration = Duration::from_secs(60 * 60);
const LONGEST_GRACE: Duration = Duration::from_secs(10 * 60);
const LONGEST_RELAY: Duration = Duration::from_secs(24 * 60 * 60);
const PASSWORD: usize = 8;

impl Word for Covered {
    const WHAT: &'static str = "form of the checksum";
    const WORDS: &'static [(&'static str, Self)] = &[("pseudo-header", Self::PseudoHeader), ("message", Self::Message)];
}

/// Checks all of them; `services` are the names of all services.
pub(super) fn check(raw: &[Spanned<raw::Vrrp>], services: &[&str], findings: &mut Findings) -> Option<Vec<Vrrp>> {
    track::services(raw, services, findings);
    let mut names = Seen::default();
    let mut routers = Seen::default();
    let mut addresses = Seen::default();
    let mut found = Vec::with_capacity(raw.len());
    for item in raw {
        let Some(vrrp) = findings.whole(item.span(), |findings| one(item, findings)) else {
            continue;
        };
        let is_named = names.is_new(findings, vrrp.name.clone(), item.span(), || {
            let problem = format!("two virtual routers have the name \"{}\"", vrrp.name);
            Problem::new(problem, "virtual routers with different names")
        });
        let is_v4 = vrrp.addresses.first().is_none_or(|address| address.addr().is_ipv4());
        let key = (vrrp.interface.clone(), is_v4, vrrp.router);
        let is_new = routers.is_new(findings, key, item.span(), || {
            let problem = format!(
                "two virtual routers of {} have the number {}",
                vrrp.interface, vrrp.router
            );
            Problem::new(problem, "numbers that differ on one interface and in one family")
        });
        let are_free = are_free(&vrrp, item.get_ref(), &mut addresses, findings);
        if is_named && is_new && are_free {
            found.push(vrrp);
        }
    }
    if found.len() < raw.len() {
        return None;
    }
    groups(&found, raw, findings)?;
    Some(found)
}

/// Whether its interface has none of its addresses from another virtual router, or twice from it: whichever yields would take
/// them from the other one.
fn are_free(vrrp: &Vrrp, raw: &raw::Vrrp, seen: &mut Seen<(String, IpAddr)>, findings: &mut Findings) -> bool {
    let given = raw.addresses.iter().flat_map(Spanned::get_ref);
    let mut are_free = true;
    for (address, given) in vrrp.hosts().zip(given) {
        are_free &= seen.is_new(findings, (vrrp.interface.clone(), address), given.span(), || {
            let problem = format!(
                "{address} is there twice among the virtual addresses of {}",
                vrrp.interface
            );
            Problem::new(problem, "addresses that differ on one interface")
        });
    }
    are_free
}

/// Refuses groups whose members would not move together.
fn groups(found: &[Vrrp], raw: &[Spanned<raw::Vrrp>], findings: &mut Findings) -> Option<()> {
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
                    "`{key}` differs from that of \"{}\", which is in the same group",
                    first.name
                );
                let expected = format!("the same `{key}` for all of group \"{group}\"");
                findings.add(
                    span.unwrap_or_else(|| raw[index].span()),
                    Problem::new(problem, expected),
                );
                are_right = None;
            }
        }
    }
    are_right
}

fn one(item: &Spanned<raw::Vrrp>, findings: &mut Findings) -> Option<Vrrp> {
    let table = item.span();
    let raw = item.get_ref();

    let name = findings.required(&raw.name, &table, "name", "a name for the virtual router", |name| {
        names::SERVICE.check(name)
    });
    let interface = findings.required(
        &raw.interface,
        &table,
        "interface",
        "an interface, such as \"eth0\"",
        |name| names::interface(name),
    );
    let router = findings.required(
        &raw.router_id,
        &table,
        "router_id",
        "the number of the virtual router, 1 to 255",
        number("router id", 1, 255),
    );
    let version = findings.optional(&raw.version, 3, number("version", 2, 3));
    let priority = findings.optional(&raw.priority, defaults::PRIORITY, number("priority", 1, 255));
    let group = findings.optional(&raw.group, None, |name| names::SERVICE.check(name).map(Some));
    let interval = interval(raw, version, findings);
    let grace = findings.optional(&raw.grace, defaults::GRACE, duration(Duration::ZERO, LONGEST_GRACE));
    let relay = findings.optional(&raw.relay, defaults::RELAY, duration(Duration::ZERO, LONGEST_RELAY));
    let addresses = match &raw.addresses {
        Some(given) => findings.list(given, MOST_ADDRESSES, "addresses", |text| network(text)),
        None => {
            findings.missing(
                &table,
                "addresses",
                "the addresses that move, such as [\"192.0.2.10/24\"]",
            );
            None
        }
    };
    let of_family = of_family(raw, addresses.as_deref(), version, findings);
    let peers = match &raw.peers {
        Some(given) => findings.list(given, MOST_PEERS, "peers", |text| like(text, addresses.as_deref())),
        None => Some(Vec::new()),
    };
    let source = findings.optional(&raw.source, None, |text| like(text, addresses.as_deref()).map(Some));
    let preempt = raw.preempt.as_ref().is_none_or(|preempt| *preempt.get_ref());
    let preempt_delay = findings.optional(
        &raw.preempt_delay,
        Duration::ZERO,
        duration(Duration::ZERO, LONGEST_DELAY),
    );
    let accept = accept(raw, priority, findings);
    let router_mac = router_mac(raw, priority, findings);
    let checksum = findings.optional(&raw.checksum, Covered::default(), |word| words::choice(word));
    let password = password(raw, version, findings);
    let tracks = track::tracks(raw, priority, findings);
    let hook = track::hook(raw, findings);
    of_family?;

    Some(Vrrp {
        name: name?,
        interface: interface?,
        router: u8::try_from(router?).ok()?,
        addresses: addresses?,
        version: u8::try_from(version?).ok()?,
        priority: u8::try_from(priority?).ok()?,
        group: group?,
        interval: interval?,
        grace: grace?,
        relay: relay?,
        peers: peers?,
        source: source?,
        preempt,
        preempt_delay: preempt_delay?,
        accept: accept?,
        router_mac: router_mac?,
        checksum: checksum?,
        password: password?,
        tracks: tracks?,
        hook: hook?,
    })
}

fn accept(raw: &raw::Vrrp, priority: Option<u32>, findings: &mut Findings) -> Option<bool> {
    let Some(given) = &raw.accept else { return Some(true) };
    if !given.get_ref() && priority? == 255 {
        let problem = "the owner of the addresses accepts what is sent to them";
        findings.add(
            given.span(),
            Problem::new(problem, "`accept` = true, or a `priority` below 255"),
        );
        return None;
    }
    Some(*given.get_ref())
}

fn router_mac(raw: &raw::Vrrp, priority: Option<u32>, findings: &mut Findings) -> Option<bool> {
    let Some(given) = raw.router_mac.as_ref().filter(|given| *given.get_ref()) else {
        return Some(false);
    };
    let (problem, expected) = if raw.peers.is_some() {
        (
            "switches learn where the router's link-layer address is by multicast adverts",
            "`router_mac` = false, or no `peers`",
        )
    } else if priority? == 255 {
        (
            "addresses that are the balancer's own are at its own link-layer address",
            "`router_mac` = false, or a `priority` below 255",
        )
    } else {
        return Some(true);
    };
    findings.add(given.span(), Problem::new(problem, expected));
    None
}

fn interval(raw: &raw::Vrrp, version: Option<u32>, findings: &mut Findings) -> Option<Duration> {
    findings.optional(&raw.interval, defaults::ADVERT_INTERVAL, |given| {
        let (unit, longest) = match version {
            Some(2) => (Duration::from_secs(1), LONGEST_V2),
            _ => (SHORTEST_INTERVAL, LONGEST_V3),
        };
        let interval = duration(unit, longest)(given)?;
        if !interval.as_nanos().is_multiple_of(unit.as_nanos()) {
            return Err(Problem::new(
                format!("adverts cannot tell an interval of {}", text(interval)),
                format!("a multiple of {}", text(unit)),
            ));
        }
        Ok(interval)
    })
}

fn network(given: &str) -> Result<IpNet, Problem> {
    let expected = "an address with the length of its network, such as \"192.0.2.10/24\"";
    let found: IpNet = given
        .parse()
        .or_else(|_| given.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| Problem::new(format!("\"{}\" is not an address", given.escape_debug()), expected))?;
    match found.addr() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {}
        address => drop(unicast(&address.to_string())?),
    }
    Ok(found)
}

/// Refuses addresses of two families, and what version 2 cannot say.
fn of_family(
    raw: &raw::Vrrp,
    addresses: Option<&[IpNet]>,
    version: Option<u32>,
    findings: &mut Findings,
) -> Option<()> {
    let (Some(given), Some([first, rest @ ..])) = (&raw.addresses, addresses) else {
        return None;
    };
    let is_v4 = first.addr().is_ipv4();
    if rest.iter().any(|address| address.addr().is_ipv4() != is_v4) {
        let problem = "the addresses are of two families";
        findings.add(given.span(), Problem::new(problem, "a virtual router for each family"));
        return None;
    }
    if version == Some(2) && !is_v4 {
        let problem = "version 2 knows no IPv6";
        findings.add(given.span(), Problem::new(problem, "IPv4 addresses, or `version` = 3"));
        return None;
    }
    Some(())
}

fn like(given: &str, addresses: Option<&[IpNet]>) -> Result<IpAddr, Problem> {
    let expected = "an address, such as \"192.0.2.2\"";
    let found: IpAddr = given
        .parse()
        .map_err(|_| Problem::new(format!("\"{}\" is not an address", given.escape_debug()), expected))?;
    match addresses.and_then(<[IpNet]>::first) {
        Some(first) if first.addr().is_ipv4() != found.is_ipv4() => Err(Problem::new(
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

fn password(raw: &raw::Vrrp, version: Option<u32>, findings: &mut Findings) -> Option<Option<[u8; PASSWORD]>> {
    let Some(given) = &raw.password else { return Some(None) };
    if version? != 2 {
        let problem = "`password` belongs to version 2: later ones know none, since everybody could read it";
        findings.add(given.span(), Problem::new(problem, "no `password`, or `version` = 2"));
        return None;
    }
    findings
        .value(given, |text| {
            let bytes = text.as_bytes();
            if bytes.is_empty() || bytes.len() > PASSWORD {
                let problem = format!("the password has {} bytes", bytes.len());
                return Err(Problem::new(problem, format!("1 to {PASSWORD} bytes")));
            }
            let mut password = [0; PASSWORD];
            password[..bytes.len()].copy_from_slice(bytes);
            Ok(password)
        })
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routers(tables: &[&str]) -> Result<Vec<Vrrp>, String> {
        let tables: Vec<_> = tables.iter().map(|table| format!("{{ {table} }}")).collect();
        let text = format!(
            "vrrp = [{}]\n[node]\nname = \"n\"\ninterfaces = [\"eth0\"]\n",
            tables.join(", ")
        );
        let config = crate::config::parse("lbd.toml", &text).map_err(|error| {
            let found: Vec<_> = error.diagnostics().iter().map(|found| found.message.clone()).collect();
            found.join("; ")
        })?;
        Ok(config.vrrp)
    }

    const LEAST: &str = "name = 'a', interface = 'eth0', router_id = 1, addresses = ['192.0.2.10/24']";

    #[test]
    fn what_is_not_said_has_its_default() {
        let [found] = routers(&[LEAST]).unwrap().try_into().unwrap();
        assert_eq!((found.version, found.priority, found.preempt), (3, 100, true));
        assert_eq!(
            (found.interval, found.preempt_delay),
            (Duration::from_secs(1), Duration::ZERO)
        );
        assert_eq!((found.peers.len(), found.source, found.password), (0, None, None));
        assert_eq!(found.rules().interval, 1_000_000);
        assert!(found.accept && !found.router_mac);
        let with_mac = routers(&[&format!("{LEAST}, router_mac = true")]).unwrap();
        assert!(with_mac[0].router_mac);
        let secret = routers(&[&format!("{LEAST}, version = 2, password = 'secret'")]).unwrap();
        assert_eq!(secret[0].password, Some(*b"secret\0\0"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (keys, message) in [
            ("interval = '5ms'", "5ms is out of range"),
            ("interval = '15ms'", "adverts cannot tell an interval of 15ms"),
            ("interval = '41s'", "41s is out of range"),
            (
                "version = 2, interval = '1500ms'",
                "adverts cannot tell an interval of 1s 500ms",
            ),
            ("version = 4", "version 4 is out of range"),
            ("priority = 0", "priority 0 is out of range"),
            ("peers = ['2001:db8::1']", "is IPv6 and the virtual addresses are IPv4"),
            ("source = 'a'", "\"a\" is not an address"),
            ("checksum = 'none'", "unknown form of the checksum \"none\""),
            ("accept = false, priority = 255", "the owner of the addresses accepts"),
            ("router_mac = true, priority = 255", "are at its own link-layer address"),
            ("router_mac = true, peers = ['192.0.2.9']", "by multicast adverts"),
            ("password = 'secret'", "`password` belongs to version 2"),
            ("version = 2, password = '123456789'", "the password has 9 bytes"),
        ] {
            let found = routers(&[&format!("{LEAST}, {keys}")]).expect_err(keys);
            assert!(found.contains(message) && !found.contains("; "), "{keys}: {found}");
        }
        let with = |addresses: &str, keys: &str| {
            let table = format!("name = 'a', interface = 'eth0', router_id = 1, addresses = {addresses}{keys}");
            routers(&[&table]).map(drop)
        };
        for (addresses, keys, message) in [
            ("[]", "", "0 addresses"),
            ("['192.0.2.1', '2001:db8::1']", "", "of two families"),
            ("['2001:db8::1/64']", ", version = 2", "version 2 knows no IPv6"),
            ("['224.0.0.1']", "", "multicast"),
            ("['192.0.2.0/33']", "", "is not an address"),
        ] {
            let found = with(addresses, keys).expect_err(addresses);
            assert!(found.contains(message), "{addresses}: {found}");
        }
        assert_eq!(with("['fe80::1/64', '2001:db8::1/64']", ""), Ok(()));
        let other = "name = 'b', interface = 'eth0', router_id = 1, addresses = ['2001:db8::1/64']";
        assert_eq!(
            routers(&[LEAST, other]).map(|found| found.len()),
            Ok(2),
            "one for each family"
        );
        for (other, message) in [
            (LEAST, "two virtual routers have the name \"a\""),
            (
                "name = 'b', interface = 'eth0', router_id = 1, addresses = ['192.0.2.20']",
                "two virtual routers of eth0 have the number 1",
            ),
            (
                "name = 'b', router_id = 2, addresses = ['192.0.2.20']",
                "`interface` is missing",
            ),
        ] {
            let found = routers(&[LEAST, other]).unwrap_err();
            assert!(found.contains(message), "{found}");
        }
    }

    #[test]
    fn an_address_is_on_an_interface_by_one_virtual_router() {
        let router = |number: u8, keys: &str| format!("name = 'r{number}', router_id = {number}, {keys}");
        let first = router(1, "interface = 'eth0', addresses = ['192.0.2.9/24', '192.0.2.10/24']");
        for (keys, then) in [
            ("interface = 'eth1', addresses = ['192.0.2.10/24']", Ok(2)),
            ("interface = 'eth0', addresses = ['192.0.2.11/24']", Ok(2)),
            (
                "interface = 'eth0', addresses = ['192.0.2.11/24', '192.0.2.10/32']",
                Err("192.0.2.10 is there twice among the virtual addresses of eth0".to_owned()),
            ),
            (
                "interface = 'eth1', addresses = ['192.0.2.11/24', '192.0.2.11/32']",
                Err("192.0.2.11 is there twice among the virtual addresses of eth1".to_owned()),
            ),
        ] {
            let found = routers(&[&first, &router(2, keys)]).map(|found| found.len());
            assert_eq!(found, then, "{keys}");
        }
    }

    #[test]
    fn what_it_depends_on_is_one_thing_each() {
        let track = |table: &str| {
            let found = routers(&[&format!("{LEAST}, track = [{table}]")])?;
            let [track] = &found[0].tracks[..] else {
                panic!("{} tracks", found[0].tracks.len())
            };
            Ok::<_, String>((track.what.to_string(), track.weight))
        };
        for (table, then) in [
            ("{ interface = 'eth1' }", ("interface eth1", None)),
            (
                "{ file = '/run/x', expect = 'absent', weight = -253 }",
                ("file /run/x", Some(-253)),
            ),
            ("{ argv = ['/bin/true'], weight = 7 }", ("command /bin/true", Some(7))),
        ] {
            assert_eq!(track(table), Ok((then.0.to_owned(), then.1)), "{table}");
        }
        for (table, message) in [
            ("{ weight = 1 }", "it is not said what is tracked"),
            (
                "{ interface = 'eth1', file = '/x' }",
                "`interface` and `file` are two things",
            ),
            ("{ service = 'web' }", "there is no service \"web\""),
            (
                "{ interface = 'eth1', quorum = 2 }",
                "`quorum` belongs to `service`, and this is about `interface`",
            ),
            ("{ interface = 'eth1', weight = 0 }", "weight 0 is out of range"),
            ("{ interface = 'eth1', weight = 254 }", "weight 254 is out of range"),
            (
                "{ interface = 'eth1' }, { interface = 'eth1', weight = 3 }",
                "interface eth1 is tracked twice",
            ),
            ("{ argv = ['true'] }", "absolute"),
            ("{ argv = ['/bin/true'], user = 'root' }", "do not run commands as root"),
            (
                "{ argv = ['/bin/true'], timeout = '2s' }",
                "the timeout 2s is longer than the interval",
            ),
            ("{ file = '/x', expect = 'gone' }", "unknown state of a file \"gone\""),
        ] {
            let found = track(table).expect_err(table);
            assert!(found.contains(message), "{table}: {found}");
        }
        let owner = format!("{LEAST}, priority = 255, track = [{{ interface = 'eth1', weight = 3 }}]");
        assert!(routers(&[&owner]).unwrap_err().contains("the owner of the addresses"));
    }

    #[test]
    fn a_hook_may_run_as_root() {
        let found = routers(&[&format!("{LEAST}, hook = {{ argv = ['/bin/true'], user = 'root' }}")]).unwrap();
        let hook = found[0].hook.as_ref().unwrap();
        assert_eq!(
            (hook.command.user.as_str(), hook.timeout),
            ("root", Duration::from_secs(10))
        );
        let found = routers(&[&format!("{LEAST}, hook = {{ timeout = '1s' }}")]).unwrap_err();
        assert!(found.contains("`argv` is missing"), "{found}");
    }

    #[test]
    fn members_of_a_group_move_alike() {
        let member = |name: &str, number: u8, keys: &str| {
            format!(
                "name = '{name}', interface = 'eth0', router_id = {number}, addresses = ['192.0.2.{number}/24'], group = \
                 'edge'{keys}"
            )
        };
        let pair = |keys: &str| routers(&[&member("a", 1, ""), &member("b", 2, keys)]);
        assert_eq!(pair("").unwrap()[1].group.as_deref(), Some("edge"));
        for (keys, message) in [
            (", priority = 7", "`priority` differs from that of \"a\""),
            (", preempt = false", "`preempt` differs"),
            (", preempt_delay = '1s'", "`preempt_delay` differs"),
            (", grace = '1s'", "`grace` differs"),
        ] {
            let found = pair(keys).unwrap_err();
            assert!(found.contains(message), "{found}");
        }
    }
}
