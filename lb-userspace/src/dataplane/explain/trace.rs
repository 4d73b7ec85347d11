//! Traces a packet through the stages of the packet path.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use lb_common::{
    AddressClass, Backend, BackendState, Family, FlowKey, Guards, Mode, NextHop, OnBackendDown, Outcome, Service, V4,
    V6, choice::Pace, family::address,
};

use super::{
    Candidate, Certainty, Found, Question, Verdict,
    select::{self, Choice},
};
use crate::dataplane::{
    DataplaneError, Tables,
    flows::{FlowEntry, Tuple},
    monotonic,
};
use lb_core::{
    config::{Protocol, Word},
    reconcile::{self, GuardVerdict, Listing},
    text::{duration, number},
};

/// New flows are counted per 16 ticks, which is about a second: the shift from ticks to this unit.
const SECOND: u32 = 4;

/// Traces a packet through the stages.
///
/// # Errors
///
/// When a map cannot be read.
pub fn explain(tables: &Tables, question: &Question) -> Result<Found, DataplaneError> {
    match question.client {
        SocketAddr::V4(_) => trace::<V4>(tables, question),
        SocketAddr::V6(_) => trace::<V6>(tables, question),
    }
}

fn trace<F: Family>(tables: &Tables, question: &Question) -> Result<Found, DataplaneError> {
    let mut found = Found::new();
    let tuple = Tuple {
        source: question.client,
        destination: question.virtual_address,
        protocol: question.protocol.number(),
    };
    let class = tables.address_class(question.virtual_address.ip());
    if !class.has(AddressClass::VIRTUAL | AddressClass::SOURCE | AddressClass::WORKER) {
        found.stage("address", "no service has this virtual address");
        return Ok(found.refuse(Outcome::NotOurs));
    }
    found.stage("address", "it is, or may be, an address of the balancer");
    let mut is_moved = false;
    match tables.find_flow(tuple) {
        None => found.stage("flow", "none for this client and virtual address"),
        Some(entry) if !entry.to_worker => return Ok(trace_reply(found, tables, &entry)),
        Some(entry) => match follow(&mut found, tables, question.protocol, &entry) {
            Next::Backend => return Ok(to_worker(found, tables, question, entry.backend, Some(&entry))),
            Next::Refused(outcome) => return Ok(found.refuse(outcome)),
            Next::Choose => {}
            Next::Move => is_moved = true,
        },
    }
    let Some((index, service)) = service(tables, question)? else {
        found.stage("service", "none at this address, port and protocol");
        return Ok(found.refuse(Outcome::NotOurs));
    };
    found.service = reconcile::front(&service);
    found.stage("service", format!("found at index {index}"));
    if !is_moved && let Some(outcome) = guard(&mut found, tables, question, (index, &service))? {
        return Ok(found.refuse(outcome));
    }
    Ok(select_backend::<F>(
        found,
        tables,
        question,
        (index, &service),
        &tuple.as_key(),
        is_moved,
    ))
}

/// Selects a backend for a new flow, or for one that moves to another backend.
fn select_backend<F: Family>(
    mut found: Found,
    tables: &Tables,
    question: &Question,
    (index, service): (u32, &Service),
    key: &FlowKey<F>,
    is_moved: bool,
) -> Found {
    let mode = Mode::from_number(service.mode).unwrap_or(Mode::Nat);
    let slots = select::slots(tables, service.ring);
    found.candidates = candidates(tables, &slots);
    let (Some(scheduler), false) = (service.ring.scheduler(), slots.is_empty()) else {
        found.stage("select", "no backend takes new flows");
        return found.refuse(match question.protocol {
            Protocol::Tcp => Outcome::ResetNoBackend,
            Protocol::Udp => Outcome::NoBackend,
        });
    };
    let is_flooded = !mode.translates() && !is_moved && is_flooded(tables, index, service);
    let Choice {
        backend,
        certainty,
        how,
    } = if is_flooded || is_moved && !mode.translates() {
        select::by_hash(service, scheduler, &slots, key)
    } else {
        select::by_scheduler(tables, (index, service), scheduler, &slots, key)
    };
    let how = if is_flooded {
        format!("new flows exceed flood_rate and get no entries: {how}")
    } else {
        how
    };
    found.stage("select", how);
    found.certainty = Some(certainty);
    let is_syn = question.protocol == Protocol::Tcp && !is_moved;
    found.verdict = if is_flooded || !mode.translates() && scheduler.is_stateless() && is_syn {
        Verdict::Untracked
    } else {
        Verdict::WouldBegin
    };
    if found.verdict == Verdict::Untracked && !is_flooded {
        found.stage(
            "track",
            "no entry until the handshake is complete: the next packet gets the same slot",
        );
    }
    match backend {
        Some(backend) => to_worker(found, tables, question, backend, None),
        None => {
            found.stage("rewrite", format!("mode {}", mode.word()));
            found
        }
    }
}

/// What follows from a flow that was found.
enum Next {
    Backend,
    Choose,
    Move,
    Refused(Outcome),
}

fn follow(found: &mut Found, tables: &Tables, protocol: Protocol, entry: &FlowEntry) -> Next {
    let backend = tables.backends.read(entry.backend).unwrap_or(Backend::ZERO);
    let idle = tables.clock.now().map_or_else(
        |_| String::new(),
        |now| format!(", silent for {}", duration(tables.clock.tick() * entry.idle(now))),
    );
    let here = format!("found in phase {}{idle}", entry.phase.name());
    if !entry.meta.is_generation(backend.status.generation()) || backend.status.state() == BackendState::Free {
        found.stage("flow", format!("{here}, to a backend that was removed: the flow ends"));
        return Next::Choose;
    }
    let policy = tables
        .services
        .read(backend.service)
        .map_or(OnBackendDown::Reset, |service| {
            OnBackendDown::from_number(service.on_backend_down)
        });
    if backend.status.state() == BackendState::Down && policy != OnBackendDown::Hold {
        found.stage(
            "flow",
            format!("{here}, whose backend is down; the policy is {}", policy.word()),
        );
        return match (protocol, policy) {
            (Protocol::Udp, _) => Next::Choose,
            (Protocol::Tcp, OnBackendDown::Reschedule) => Next::Move,
            (Protocol::Tcp, _) => Next::Refused(Outcome::ResetBackendDown),
        };
    }
    if protocol == Protocol::Tcp && entry.phase.is_over() {
        found.stage("flow", format!("{here}: a new connection replaces it"));
        return Next::Choose;
    }
    found.stage("flow", here);
    found.verdict = Verdict::HasFlow;
    found.certainty = Some(Certainty::Always);
    let service = tables.services.read(backend.service);
    found.service = service.and_then(|service| reconcile::front(&service));
    Next::Backend
}

/// Traces a worker's packet.
fn trace_reply(mut found: Found, tables: &Tables, entry: &FlowEntry) -> Found {
    let client = entry.rewrite.destination;
    found.stage(
        "flow",
        format!("it is a reply of the flow of {client}, in phase {}", entry.phase.name()),
    );
    found.service = tables
        .services
        .read(entry.service)
        .and_then(|service| reconcile::front(&service));
    found.stage("rewrite", format!("from {} to {client}", entry.rewrite.source));
    found.verdict = Verdict::IsReply;
    found
}

/// The service of the packet, and its index. A single port wins over a range.
fn service(tables: &Tables, question: &Question) -> Result<Option<(u32, Service)>, DataplaneError> {
    let at = question.virtual_address;
    let protocol = question.protocol.number();
    let is_it = |listing: &Listing| {
        let first = listing.first();
        first.address == at.ip()
            && first.protocol == protocol
            && (first.port..=listing.last_port()).contains(&at.port())
    };
    let bits = |listing: &Listing| match listing {
        Listing::Port(_) => u32::from(u16::BITS as u16) + 1,
        Listing::Block { bits, .. } => u32::from(*bits),
    };
    let listed = tables.listings()?.into_iter().filter(|(listing, _)| is_it(listing));
    let index = listed.max_by_key(|(listing, _)| bits(listing)).map(|(_, index)| index);
    Ok(index.and_then(|index| Some((index, tables.services.read(index)?))))
}

/// Applies the guards of the service to a new flow. Returns the outcome if the flow is refused.
fn guard(
    found: &mut Found,
    tables: &Tables,
    question: &Question,
    (index, service): (u32, &Service),
) -> Result<Option<Outcome>, DataplaneError> {
    if u32::from(service.guards) | service.connection_limit | service.source_rate == 0 {
        found.stage("guard", "the service has none");
        return Ok(None);
    }
    let source = question.client.ip();
    if service.guards != 0 && prefix_denies(found, tables, source, (index, service))? {
        return Ok(Some(Outcome::GuardDenied));
    }
    if service.connection_limit != 0 {
        let flows = tables.service_states.read(index).map_or(0, |state| state.flows);
        let limit = service.connection_limit;
        found.stage("guard", format!("{} of at most {limit}", number(flows, "flow")));
        if flows >= limit {
            return Ok(Some(Outcome::ConnectionLimit));
        }
    }
    if service.source_rate != 0 && is_too_fast(found, tables, source, (index, service))? {
        return Ok(Some(Outcome::RateLimited));
    }
    Ok(None)
}

/// Whether the allow and deny lists refuse the client.
fn prefix_denies(
    found: &mut Found,
    tables: &Tables,
    source: IpAddr,
    (index, service): (u32, &Service),
) -> Result<bool, DataplaneError> {
    let longest = tables
        .guards()?
        .into_iter()
        .filter(|(guarded, _)| guarded.service == index && guarded.sources.contains(&source))
        .max_by_key(|(guarded, _)| guarded.sources.prefix_len());
    let (denies, finding) = match longest {
        Some((guarded, GuardVerdict::Deny)) => (true, format!("{} is denied", guarded.sources)),
        None if service.guards & Guards::ALLOW != 0 => (true, "no allowed prefix contains the client".to_owned()),
        Some((guarded, GuardVerdict::Allow)) => (false, format!("{} is allowed", guarded.sources)),
        None => (false, "no denied prefix contains the client".to_owned()),
    };
    found.stage("guard", finding);
    Ok(denies)
}

/// Whether the client begins flows faster than `source_rate`.
fn is_too_fast(
    found: &mut Found,
    tables: &Tables,
    source: IpAddr,
    (index, service): (u32, &Service),
) -> Result<bool, DataplaneError> {
    let rates = tables.rates(source.is_ipv4())?;
    let own = rates
        .iter()
        .find(|(service, address, _)| *service == index && *address == network(source));
    let pace = Pace::new(service.source_rate, service.source_burst);
    let now = monotonic().unwrap_or_default();
    let is_within = own.is_none_or(|(_, _, expected)| pace.next(*expected, now).is_some());
    let more = if is_within { "no more" } else { "more" };
    let rate = number(service.source_rate, "flow");
    found.stage("guard", format!("the client begins {more} than {rate} a second"));
    Ok(!is_within)
}

/// The part of an address that counts as one source: all of an IPv4 address, the first 64 bits of
/// an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Whether new flows of the service exceed its flood rate now.
fn is_flooded(tables: &Tables, index: u32, service: &Service) -> bool {
    let recent = tables.service_states.read(index).map_or(0, |state| state.recent);
    let Ok(now) = tables.clock.now() else { return false };
    service.flood_rate != 0 && (recent >> 32) as u32 == now >> SECOND && recent as u32 >= service.flood_rate
}

fn candidates(tables: &Tables, slots: &[lb_common::RingSlot]) -> Vec<Candidate> {
    let mut found: Vec<(u32, Candidate)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for slot in slots {
        let place = *places.entry(slot.backend).or_insert(found.len());
        if place < found.len() {
            found[place].1.slots += 1;
        } else if let Some(address) = tables.backends.read(slot.backend).as_ref().and_then(worker) {
            let candidate = Candidate {
                backend: String::new(),
                address,
                weight: slot.weight,
                slots: 1,
                flows: select::load(tables, slot).flows,
            };
            found.push((slot.backend, candidate));
        }
    }
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

fn worker(backend: &Backend) -> Option<SocketAddr> {
    let address = address::from_words(backend.status.family(), backend.address)?;
    Some(SocketAddr::new(address, backend.status.port().host()))
}

/// The packet goes to the backend at `index`. `entry` is its flow, if it has one.
fn to_worker(mut found: Found, tables: &Tables, question: &Question, index: u32, entry: Option<&FlowEntry>) -> Found {
    let Some(backend) = tables.backends.read(index) else {
        return found.refuse(Outcome::Inconsistent);
    };
    let mode = Mode::from_number(backend.mode).unwrap_or(Mode::Nat);
    found.worker = worker(&backend).map(|worker| match worker.port() {
        0 => SocketAddr::new(worker.ip(), question.virtual_address.port()),
        _ => worker,
    });
    let to = found.worker.map(|worker| worker.to_string()).unwrap_or_default();
    let how = match (mode, entry) {
        (Mode::Nat, Some(entry)) => format!("from {} to {to}", entry.rewrite.source),
        (Mode::Nat, None) => format!("from {} to {to}", source(tables, question, &backend)),
        (Mode::Dnat, _) => format!("from {} to {to}", question.client),
        (Mode::Dsr, _) => "only the frame gets a new address".to_owned(),
        (Mode::Ipip | Mode::Gue, _) => format!(
            "encapsulated in a packet to {}",
            found.worker.map_or(to, |at| at.ip().to_string())
        ),
    };
    found.stage("rewrite", format!("mode {}: {how}", mode.word()));
    let hop = tables.next_hops.read(backend.next_hop).unwrap_or(NextHop::ZERO);
    if hop.is_resolved() {
        let mac = hop.destination().map(|byte| format!("{byte:02x}")).join(":");
        found.stage("emit", format!("to {mac} by interface {}", hop.ifindex));
    } else if mode == Mode::Dsr {
        found.stage("emit", "the next hop is not resolved");
        return found.refuse(Outcome::NoNextHop);
    } else {
        found.stage("emit", "the next hop is not resolved: the controller sends the packet");
    }
    found
}

/// The source of a new flow in mode `nat`, as text.
fn source(tables: &Tables, question: &Question, backend: &Backend) -> String {
    let Some(service) = tables.services.read(backend.service) else {
        return "a source address".to_owned();
    };
    let port = question.client.port();
    let low = service.nat_port_low;
    let keeps = port.wrapping_sub(low) < service.nat_port_count;
    let address = match service.source_count {
        1 => address::from_words(service.family, service.sources[0]).map(|address| address.to_string()),
        _ => None,
    };
    let address = address.unwrap_or_else(|| "one of the source addresses".to_owned());
    if keeps {
        format!("{address}, port {port} if it is free there,")
    } else {
        format!(
            "{address}, a port of {low}-{},",
            low.saturating_add(service.nat_port_count - 1)
        )
    }
}
