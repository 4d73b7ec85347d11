//! Checks of `[[service]]`.

use std::{net::IpAddr, time::Duration};

use lb_common::{Mode, Scheduler, service::MAX_SOURCES};
use toml::Spanned;

use super::{
    PortRange, Protocol, Service, Timeouts, Tunnel,
    address::{self, family, unicast},
    backend::{self, Front},
    defaults,
    duration::duration,
    finding::{Findings, Problem, Span},
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

/// Checks one `[[service]]`. `node` says what tunnels begin with where the service does not; `None` where that is wrong.
pub(super) fn check(raw: &Spanned<raw::Service>, node: Option<&Tunnel>, findings: &mut Findings) -> Option<Service> {
    let table = raw.span();
    let raw = raw.get_ref();

    let name = findings.required(&raw.name, &table, "name", "a name for the service", |name| {
        names::SERVICE.check(name)
    });
    let address = findings.required(&raw.address, &table, "address", address::EXPECTED, |text| unicast(text));
    let ports = ports(raw, &table, findings);
    let protocol = findings.optional(&raw.protocol, defaults::PROTOCOL, |word| words::choice(word));
    let mode = findings.optional(&raw.mode, defaults::MODE, |word| words::choice(word));
    let scheduler = findings.optional(&raw.scheduler, defaults::SCHEDULER, |word| words::choice(word));
    let source_prefix = source_prefix(raw, address, scheduler, findings);
    let slow_start = findings.optional(&raw.slow_start, Duration::ZERO, duration(SHORTEST_RAMP, LONGEST_RAMP));
    let on_backend_down = findings.optional(&raw.on_backend_down, defaults::ON_BACKEND_DOWN, |word| {
        words::choice(word)
    });
    let drain = duration(Duration::ZERO, LONGEST_DRAIN);
    let drain_timeout = findings.optional(&raw.drain_timeout, defaults::DRAIN_TIMEOUT, drain);
    let sources = sources(raw, address, mode, findings);
    let toa = toa(raw, mode, protocol, findings);
    let tunnel = tunnel::service(raw, mode, &node.copied().unwrap_or_default(), findings);
    let guard = guard::check(raw, address, mode, findings);
    let timeouts = timeouts(&raw.timeouts, findings);
    let health_front = health::Front {
        address,
        mode,
        ports,
        protocol,
    };
    let checks = Checks::of_service(raw.health.as_ref(), health_front, findings);
    let panic_threshold = panic_threshold(raw, findings);
    let passive = passive::check(raw, mode, protocol, findings);
    let front = Front { address, ports, mode };
    let backends = backend::check(&raw.backend, &raw.fallback, &front, &checks, findings);
    if let (Some(mode), Some(tunnel), Some(backends), Some(_)) = (mode, &tunnel, &backends, node) {
        tunnel::check_sources(mode, tunnel, backends, findings);
    }

    if !checks.are_right() {
        return None;
    }

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

fn ports(raw: &raw::Service, table: &Span, findings: &mut Findings) -> Option<PortRange> {
    match (&raw.port, &raw.ports) {
        (Some(port), Some(ports)) => {
            let problem = Problem::new("the service has both `port` and `ports`", "one of the two");
            findings.add_related(ports.span(), problem, port.span(), "the other one");
            None
        }
        (Some(port), None) => {
            let port = findings.value(port, numbers::port)?;
            Some(PortRange { low: port, high: port })
        }
        (None, Some(ports)) => findings.value(ports, |text| numbers::ports(text)),
        (None, None) => {
            let expected = "an integer from 1 to 65535, or `ports` = a range such as \"8000-8099\"";
            findings.missing(table, "port", expected);
            None
        }
    }
}

/// How many leading bits of clients' addresses count; all of them unless the service says otherwise.
fn source_prefix(
    raw: &raw::Service,
    address: Option<IpAddr>,
    scheduler: Option<Scheduler>,
    findings: &mut Findings,
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
        findings.add(given.span(), Problem::new(problem, expected));
        return None;
    }
    let most = if address?.is_ipv4() { 32 } else { 128 };
    let prefix = findings.optional(&raw.source_prefix, most, number("a prefix of", 1, most))?;
    u8::try_from(prefix).ok()
}

fn toa(raw: &raw::Service, mode: Option<Mode>, protocol: Option<Protocol>, findings: &mut Findings) -> Option<bool> {
    let Some(given) = &raw.toa else { return Some(false) };
    let wanted = *given.get_ref();
    if !wanted {
        return Some(false);
    }
    if mode? != Mode::Nat {
        findings.add(given.span(), tunnel::not_in("toa", &[Mode::Nat], mode?));
        return None;
    }
    if protocol? != Protocol::Tcp {
        let problem = "`toa` is an option of TCP, and the service is UDP";
        findings.add(given.span(), Problem::new(problem, "no `toa`, or `protocol` = \"tcp\""));
        return None;
    }
    Some(true)
}

fn panic_threshold(raw: &raw::Service, findings: &mut Findings) -> Option<u32> {
    let given = raw
        .health
        .as_ref()
        .and_then(|health| health.get_ref().panic_threshold.clone());
    findings.optional(&given, 0, number("panic threshold", 0, 100))
}

fn sources(
    raw: &raw::Service,
    service: Option<IpAddr>,
    mode: Option<Mode>,
    findings: &mut Findings,
) -> Option<Vec<IpAddr>> {
    if tunnel::refuse(&raw.source, "source", &[Mode::Nat], mode, findings) {
        return None;
    }
    match &raw.source {
        None if mode? != Mode::Nat => Some(Vec::new()),
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
