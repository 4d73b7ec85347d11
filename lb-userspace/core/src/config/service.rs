//! Validates `[[service]]`.

use std::{net::IpAddr, time::Duration};

use lb_common::{Mode, Scheduler, service::MAX_SOURCES};
use toml::Spanned;

use super::{
    Backend, PortRange, Protocol, Service, Timeouts, Tunnel,
    address::{self, family, unicast},
    backend::{self, Front},
    defaults,
    diagnostics::{Diagnostics, Message, Span},
    duration::duration,
    guard,
    health::{self, Checks},
    names,
    numbers::{self, number},
    passive, raw, tunnel,
    words::{self, Word},
};

const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const SHORTEST_RAMP: Duration = Duration::from_secs(1);
const LONGEST_RAMP: Duration = Duration::from_secs(60 * 60);
const LONGEST_DRAIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Validates one `[[service]]`. `node` is `[node.tunnel]`: the defaults for its tunnels. `None`:
/// that table is invalid.
pub(super) fn check(
    raw: &Spanned<raw::Service>,
    node: Option<&Tunnel>,
    diagnostics: &mut Diagnostics,
) -> Option<Service> {
    let table = raw.span();
    let raw = raw.get_ref();

    let name = diagnostics.required(&raw.name, &table, "name", "a name for the service", |name| {
        names::SERVICE.check(name)
    });
    let address = diagnostics.required(&raw.address, &table, "address", address::EXPECTED, |text| unicast(text));
    let ports = ports(raw, &table, diagnostics);
    let protocol = diagnostics.optional(&raw.protocol, defaults::PROTOCOL, |word| words::choice(word));
    let mode = diagnostics.optional(&raw.mode, defaults::MODE, |word| words::choice(word));
    let scheduler = diagnostics.optional(&raw.scheduler, defaults::SCHEDULER, |word| words::choice(word));
    let source_prefix = source_prefix(raw, address, scheduler, diagnostics);
    let slow_start = diagnostics.optional(&raw.slow_start, Duration::ZERO, duration(SHORTEST_RAMP, LONGEST_RAMP));
    let on_backend_down = diagnostics.optional(&raw.on_backend_down, defaults::ON_BACKEND_DOWN, |word| {
        words::choice(word)
    });
    let drain = duration(Duration::ZERO, LONGEST_DRAIN);
    let drain_timeout = diagnostics.optional(&raw.drain_timeout, defaults::DRAIN_TIMEOUT, drain);
    let sources = sources(raw, address, mode, diagnostics);
    let toa = toa(raw, mode, protocol, diagnostics);
    let tunnel = tunnel::service(raw, mode, &node.copied().unwrap_or_default(), diagnostics);
    let guard = guard::check(raw, address, mode, diagnostics);
    let timeouts = timeouts(&raw.timeouts, diagnostics);
    let context = health::ServiceContext {
        address,
        mode,
        ports,
        protocol,
    };
    let panic_threshold = panic_threshold(raw, diagnostics);
    let passive = passive::check(raw, mode, protocol, diagnostics);
    let (backends, are_checks_valid) = backends(raw, context, diagnostics);
    if let (Some(mode), Some(tunnel), Some(backends), Some(_)) = (mode, &tunnel, &backends, node) {
        tunnel::check_sources(mode, tunnel, backends, diagnostics);
    }
    are_checks_valid.then_some(())?;
    Some(Service {
        name: name?,
        address: address?,
        ports: ports?,
        protocol: protocol?,
        mode: mode?,
        scheduler: scheduler?,
        source_prefix: source_prefix?,
        slow_start: slow_start?,
        sources: sources?,
        toa: toa?,
        tunnel: tunnel?,
        guard: guard?,
        on_backend_down: on_backend_down?,
        drain_timeout: drain_timeout?,
        timeouts: timeouts?,
        panic_threshold: panic_threshold?,
        passive: passive?,
        backends: backends?.into_iter().map(|(_, backend)| backend).collect(),
    })
}

/// The backends with their checks, and whether all checks are valid.
fn backends(
    raw: &raw::Service,
    context: health::ServiceContext,
    diagnostics: &mut Diagnostics,
) -> (Option<Vec<(Span, Backend)>>, bool) {
    let checks = Checks::of_service(raw.health.as_ref(), context, diagnostics);
    let front = Front {
        address: context.address,
        ports: context.ports,
        mode: context.mode,
    };
    let backends = backend::check(&raw.backend, &raw.fallback, &front, &checks, diagnostics);
    (backends, checks.are_valid())
}

fn ports(raw: &raw::Service, table: &Span, diagnostics: &mut Diagnostics) -> Option<PortRange> {
    match (&raw.port, &raw.ports) {
        (Some(port), Some(ports)) => {
            let problem = Message::new("the service has both `port` and `ports`", "one of the two");
            diagnostics.add_related(ports.span(), problem, port.span(), "the other one");
            None
        }
        (Some(port), None) => {
            let port = diagnostics.value(port, numbers::port)?;
            Some(PortRange { low: port, high: port })
        }
        (None, Some(ports)) => diagnostics.value(ports, |text| numbers::ports(text)),
        (None, None) => {
            let expected = "an integer from 1 to 65535, or `ports` = a range such as \"8000-8099\"";
            diagnostics.missing(table, "port", expected);
            None
        }
    }
}

/// Number of leading bits of clients' addresses that `source-hash` uses. Default: all.
fn source_prefix(
    raw: &raw::Service,
    address: Option<IpAddr>,
    scheduler: Option<Scheduler>,
    diagnostics: &mut Diagnostics,
) -> Option<u8> {
    if let (Some(given), Some(scheduler)) = (&raw.source_prefix, scheduler)
        && scheduler != Scheduler::SourceHash
    {
        let problem = format!(
            "`source_prefix` has no meaning with the scheduler \"{}\"",
            scheduler.word()
        );
        let expected = format!(
            "no `source_prefix`, or `scheduler` = \"{}\"",
            Scheduler::SourceHash.word()
        );
        diagnostics.add(given.span(), Message::new(problem, expected));
        return None;
    }
    let most = if address?.is_ipv4() { 32 } else { 128 };
    let prefix = diagnostics.optional(&raw.source_prefix, most, number("a prefix of", 1, most))?;
    u8::try_from(prefix).ok()
}

fn toa(
    raw: &raw::Service,
    mode: Option<Mode>,
    protocol: Option<Protocol>,
    diagnostics: &mut Diagnostics,
) -> Option<bool> {
    let Some(given) = &raw.toa else { return Some(false) };
    let wanted = *given.get_ref();
    if !wanted {
        return Some(false);
    }
    if mode? != Mode::Nat {
        diagnostics.add(given.span(), tunnel::not_in("toa", &[Mode::Nat], mode?));
        return None;
    }
    if protocol? != Protocol::Tcp {
        let problem = "`toa` needs TCP, and the service is UDP";
        diagnostics.add(given.span(), Message::new(problem, "no `toa`, or `protocol` = \"tcp\""));
        return None;
    }
    Some(true)
}

fn panic_threshold(raw: &raw::Service, diagnostics: &mut Diagnostics) -> Option<u32> {
    let given = raw
        .health
        .as_ref()
        .and_then(|health| health.get_ref().panic_threshold.clone());
    diagnostics.optional(&given, 0, number("panic threshold", 0, 100))
}

fn sources(
    raw: &raw::Service,
    service: Option<IpAddr>,
    mode: Option<Mode>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<IpAddr>> {
    if tunnel::refuse(&raw.source, "source", &[Mode::Nat], mode, diagnostics) {
        return None;
    }
    match &raw.source {
        None if mode? != Mode::Nat => Some(Vec::new()),
        None => service.map(|address| vec![address]),
        Some(given) => diagnostics.list(given, MAX_SOURCES, "source addresses", |text| {
            let source = unicast(text)?;
            match service {
                Some(service) if service.is_ipv4() != source.is_ipv4() => Err(Message::new(
                    format!(
                        "{source} is {} and the service's address {service} is {}",
                        family(source),
                        family(service)
                    ),
                    format!(
                        "an {} address: the mode \"nat\" does not change the family",
                        family(service)
                    ),
                )),
                _ => Ok(source),
            }
        }),
    }
}

fn timeouts(raw: &raw::Timeouts, diagnostics: &mut Diagnostics) -> Option<Timeouts> {
    let default = Timeouts::default();
    let mut silence =
        |given: &_, default| diagnostics.optional(given, default, duration(SHORTEST_TIMEOUT, LONGEST_TIMEOUT));
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
