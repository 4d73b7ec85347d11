//! Checks of `[[service]]` and `[[service.backend]]`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lb_common::{Mode, service::MAX_SOURCES};
use toml::Spanned;

use super::{
    Backend, Service, Timeouts,
    address::{self, family, unicast},
    defaults,
    duration::duration,
    finding::{Findings, Problem, Seen, Span},
    health, names,
    numbers::{self, number},
    raw,
    words::{self, Word},
};

const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MOST_WEIGHT: u32 = 1000;

/// What the backends have to fit to.
struct Front {
    address: Option<IpAddr>,
    port: Option<u16>,
}

/// Checks one `[[service]]`.
pub(super) fn check(raw: &Spanned<raw::Service>, findings: &mut Findings) -> Option<Service> {
    let table = raw.span();
    let raw = raw.get_ref();

    let name = findings.required(&raw.name, &table, "name", "a name for the service", |name| {
        names::SERVICE.check(name)
    });
    let address = findings.required(&raw.address, &table, "address", address::EXPECTED, |text| unicast(text));
    let port = findings.required(&raw.port, &table, "port", "an integer from 1 to 65535", numbers::port);
    let protocol = findings.optional(&raw.protocol, defaults::PROTOCOL, |word| words::choice(word));
    let mode = findings.optional(&raw.mode, defaults::MODE, |word| mode(word));
    let scheduler = findings.optional(&raw.scheduler, defaults::SCHEDULER, |word| words::choice(word));
    let on_backend_down = findings.optional(&raw.on_backend_down, defaults::ON_BACKEND_DOWN, |word| {
        words::choice(word)
    });
    let sources = sources(raw, address, findings);
    let timeouts = timeouts(&raw.timeouts, findings);
    let health = match &raw.health {
        Some(given) => health::check(given, findings).map(Some),
        None => Some(None),
    };
    let backends = backends(&raw.backend, &Front { address, port }, findings);

    Some(Service {
        name: name?,
        address: address?,
        port: port?,
        protocol: protocol?,
        mode: mode?,
        scheduler: scheduler?,
        sources: sources?,
        on_backend_down: on_backend_down?,
        timeouts: timeouts?,
        health: health?,
        backends: backends?,
    })
}

fn mode(word: &str) -> Result<Mode, Problem> {
    words::choice(word).map_err(|problem| {
        let expected = format!("\"{}\", the only forwarding mode there is today", Mode::Nat.word());
        Problem { expected, ..problem }
    })
}

fn sources(raw: &raw::Service, service: Option<IpAddr>, findings: &mut Findings) -> Option<Vec<IpAddr>> {
    match &raw.source {
        None => service.map(|address| vec![address]),
        Some(given) => findings.list(given, MAX_SOURCES, "source addresses", |text| {
            let source = unicast(text)?;
            match service {
                Some(service) if service.is_ipv4() != source.is_ipv4() => Err(Problem::new(
                    format!(
                        "{source} is {} and the service's address {service} is {}",
                        family(source),
                        family(service)
                    ),
                    format!(
                        "an {} address: packets keep their family in `nat` mode",
                        family(service)
                    ),
                )),
                _ => Ok(source),
            }
        }),
    }
}

fn timeouts(raw: &raw::Timeouts, findings: &mut Findings) -> Option<Timeouts> {
    let default = Timeouts::default();
    let mut silence =
        |given: &_, default| findings.optional(given, default, duration(SHORTEST_TIMEOUT, LONGEST_TIMEOUT));
    let opening = silence(&raw.opening, default.opening);
    let established = silence(&raw.established, default.established);
    let closing = silence(&raw.closing, default.closing);
    let time_wait = silence(&raw.time_wait, default.time_wait);
    let closed = silence(&raw.closed, default.closed);
    let udp = silence(&raw.udp, default.udp);
    Some(Timeouts {
        opening: opening?,
        established: established?,
        closing: closing?,
        time_wait: time_wait?,
        closed: closed?,
        udp: udp?,
    })
}

fn backends(raw: &[Spanned<raw::Backend>], front: &Front, findings: &mut Findings) -> Option<Vec<Backend>> {
    let mut names = Seen::default();
    let mut addresses = Seen::default();
    let mut backends = Vec::with_capacity(raw.len());
    for item in raw {
        let table = item.span();
        let raw = item.get_ref();
        let Some(backend) = backend(raw, &table, front, findings) else {
            continue;
        };
        let address_span = raw.address.as_ref().map_or(table, Spanned::span);
        let name_span = raw.name.as_ref().map_or(address_span.clone(), Spanned::span);
        let is_new = addresses.is_new(findings, backend.address, address_span, || {
            let problem = format!("two backends of this service are at {}", backend.address);
            Problem::new(problem, "backends that differ in address or port")
        });
        // Without names of their own, two backends at one address share the name too: once is enough to hear of it.
        let is_named = is_new
            && names.is_new(findings, backend.name.clone(), name_span, || {
                let problem = format!("two backends of this service have the name \"{}\"", backend.name);
                Problem::new(problem, "backends with different names")
            });
        if is_named {
            backends.push(backend);
        }
    }
    (backends.len() == raw.len()).then_some(backends)
}

fn backend(raw: &raw::Backend, table: &Span, front: &Front, findings: &mut Findings) -> Option<Backend> {
    let name = findings.optional(&raw.name, None, |name| names::BACKEND.check(name).map(Some));
    let address = findings.required(&raw.address, table, "address", address::EXPECTED, |text| {
        let address = unicast(text)?;
        fits(address, front)?;
        Ok(address)
    });
    let port = match &raw.port {
        Some(given) => findings.value(given, numbers::port),
        None => front.port,
    };
    let weight = findings.optional(&raw.weight, defaults::WEIGHT, number("weight", 0, MOST_WEIGHT));

    let address = SocketAddr::new(address?, port?);
    if Some(address.ip()) == front.address && Some(address.port()) == front.port {
        let span = raw.address.as_ref().map_or_else(|| table.clone(), Spanned::span);
        let problem = format!("the backend {address} is the service itself, so that its packets would never leave");
        findings.add(span, Problem::new(problem, "the address of a worker"));
        return None;
    }
    Some(Backend {
        name: name?.unwrap_or_else(|| address.to_string()),
        address,
        weight: weight?,
    })
}

fn fits(backend: IpAddr, front: &Front) -> Result<(), Problem> {
    match front.address {
        Some(service) if service.is_ipv4() != backend.is_ipv4() => Err(Problem::new(
            format!(
                "{backend} is {} and the service's address {service} is {}",
                family(backend),
                family(service)
            ),
            format!(
                "an {} address: `nat` mode rewrites addresses, not the family of a packet",
                family(service)
            ),
        )),
        _ => Ok(()),
    }
}
