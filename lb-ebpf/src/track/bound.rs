//! The entry that a worker's answers find, and the port that it is bound to.

use lb_common::{
    Backend, Be16, FlowKey, Mode, Outcome, Ports,
    flow::Direction,
    flow_table::{self, Bind, Claims, Hit, Refused},
    hash,
    service::MAX_SOURCES,
    wire::{tcp, udp},
};

use super::{Choice, Found, expiry, mode, pair, places, search_answer};
use crate::{
    cells::Bucket,
    family::Stages,
    maps::{BACKENDS, SERVICES},
    repeat::{Step, repeat},
};

/// How many ports are tried for a flow.
const PORT_TRIES: u32 = 32;

/// The port that a worker takes packets of a flow on.
#[inline(always)]
pub fn worker_port(backend: &Backend, ports: Ports) -> Be16 {
    let port = backend.status.port();
    // A service with several ports keeps the packet's.
    if port.memory() == 0 { ports.destination() } else { port }
}

/// Where a worker's answers of a flow go to: a source address of the service, or in `dnat` the client's.
#[inline(always)]
pub fn answers_to<F: Stages>(backend: &Backend, bind: Bind, client: &F::Address) -> F::Address {
    if !matches!(mode(backend), Mode::Dnat)
        && let Some(service) = SERVICES.get(backend.service)
    {
        return F::narrow(&service.sources[bind.source() as usize & (MAX_SOURCES - 1)]);
    }
    *client
}

/// Whether a worker's packet is an answer of the flow that this entry is of. The port that it goes to was compared.
#[inline(always)]
pub fn is_answer<F: Stages>(key: &FlowKey<F>, hit: &Hit<F>, backend: &Backend) -> bool {
    F::narrow(&backend.address) == key.source
        && worker_port(backend, hit.ports) == key.ports.source()
        && answers_to::<F>(backend, hit.bind, &hit.address) == key.destination
}

/// The 5-tuple of a worker's answers.
#[inline(always)]
pub fn answer_key<F: Stages>(
    backend: &Backend,
    bind: Bind,
    client: &F::Address,
    ports: Ports,
    is_udp: bool,
) -> FlowKey<F> {
    FlowKey {
        source: F::narrow(&backend.address),
        destination: answers_to::<F>(backend, bind, client),
        ports: Ports::new(worker_port(backend, ports), bind.port()),
        protocol: if is_udp { udp::PROTOCOL } else { tcp::PROTOCOL },
        reserved: [0; 3],
    }
}

/// Enters the answers' direction of a new flow; in `nat` under the first source port that is free.
#[inline(always)]
pub fn claim<F: Stages>(new: &Claims<F>, choice: &Choice) -> Result<Bind, Outcome> {
    let mut search = Search {
        new: Claims { ..*new },
        choice,
        result: Err(Outcome::NatPortsExhausted),
    };
    search.new.record.direction = Direction::ToClient;
    let tries = if matches!(mode(choice.backend), Mode::Dnat) {
        1
    } else {
        PORT_TRIES
    };
    repeat(tries, try_port::<F>, &mut search);
    search.result.map(|()| search.new.bind)
}

/// Takes the answers' direction out again. Says whether it was there.
#[inline(never)]
pub fn withdraw<F: Stages>(new: &Claims<F>, choice: &Choice) -> bool {
    let key = answer_key::<F>(choice.backend, new.bind, &new.address, new.ports, new.record.udp);
    let Some(mut found) = Found::blank() else {
        return false;
    };
    search_answer(&key, &mut found) && flow_table::release(found.flow.bucket, &found.flow.hit).is_some()
}

/// The state of a search for a free source port.
struct Search<'a, F: Stages> {
    new: Claims<F>,
    choice: &'a Choice,
    result: Result<(), Outcome>,
}

/// Tries one port. The client's own goes first; then ports spread by hash, over all source addresses in turn.
extern "C" fn try_port<F: Stages>(turn: u32, search: &mut Search<'_, F>) -> Step {
    let Some(service) = SERVICES.get(search.choice.service) else {
        return Step::Stop;
    };
    let new = &mut search.new;
    if !matches!(mode(search.choice.backend), Mode::Dnat) {
        let client_port = new.ports.source();
        let seed = hash::words(client_port.memory() as u32, new.address.as_ref());
        let count = service.nat_port_count as u32;
        let own = client_port.host().wrapping_sub(service.nat_port_low) as u32;
        let offset = if turn == 0 && own < count {
            own
        } else {
            hash::reduce(hash::words(turn, &[seed]), count)
        };
        let nth = hash::reduce(seed, service.source_count) + turn;
        let Some(source) = nth.checked_rem(service.source_count) else {
            return Step::Stop;
        };
        let port = Be16::from_host(service.nat_port_low.wrapping_add(offset as u16));
        new.bind = Bind::new(port, new.bind.hop(), source);
    }
    match enter(new, search.choice.backend) {
        Ok(()) => search.result = Ok(()),
        Err(Refused::Exists | Refused::Raced) => {
            search.result = Err(Outcome::NatPortsExhausted);
            return Step::Continue;
        }
        // Another port has other buckets.
        Err(Refused::Full) => {
            search.result = Err(Outcome::FlowTableFull);
            return Step::Continue;
        }
    }
    Step::Stop
}

#[inline(always)]
fn enter<F: Stages>(new: &Claims<F>, backend: &Backend) -> Result<(), Refused> {
    let key = answer_key::<F>(backend, new.bind, &new.address, new.ports, new.record.udp);
    let places = places(&key);
    let (Some(first), Some(second)) = (F::bucket(places.first), F::bucket(places.second)) else {
        return Err(Refused::Full);
    };
    let difference = |bucket: Bucket, way| flow_table::port_difference::<F, _>(bucket, way, new.bind.port());
    let claimed = flow_table::claim([first, second], new, expiry(), difference, |other| {
        other.bind.port() == new.bind.port()
            && other.meta.is_kind(new.record.udp, Direction::ToClient)
            && BACKENDS
                .get(other.meta.backend())
                .is_some_and(|backend| is_answer(&key, other, backend))
    });
    let (result, evicted) = match claimed {
        Ok(claimed) => (Ok(()), claimed.evicted),
        Err((refused, evicted)) => (Err(refused), evicted),
    };
    if let Some(evicted) = evicted {
        pair::evicted(&evicted.0);
    }
    result
}
