//! The entry that a worker's answers find, and the port that it is bound to.

use lb_common::{
    Backend, Be16, FlowKey, Mode, Ports,
    flow::Direction,
    flow_table::{self, Bind, Cells as _, Hit, Meta},
    hash,
    service::MAX_SOURCES,
    wire::{tcp, udp},
};

use super::{FULL, is_current, mode, number};
use crate::{
    family::Stages,
    maps::{BACKENDS, SERVICES},
    room,
};

/// How many ports are tried for a flow.
pub const PORT_TRIES: u32 = 32;

/// The port that a worker takes packets of a flow on.
#[inline(always)]
pub fn worker_port(backend: &Backend, ports: Ports) -> Be16 {
    let port = backend.status.port();
    // A service with several ports keeps the packet's.
    if port.memory() == 0 { ports.destination() } else { port }
}

/// Where a worker's answers of a flow go to: a source address of the service, or in `dnat` the client's.
#[inline(always)]
pub fn answers_to<'a, F: Stages>(backend: &Backend, bind: Bind, client: &'a F::Address) -> &'a F::Address {
    if !matches!(mode(backend), Mode::Dnat)
        && let Some(service) = SERVICES.get(backend.service)
    {
        return F::view(&service.sources[bind.source() as usize & (MAX_SOURCES - 1)]);
    }
    client
}

/// Whether a worker's packet is an answer of the flow that this entry is of. The port that it goes to was compared.
#[inline(always)]
pub fn is_answer<F: Stages>(key: &FlowKey<F>, hit: &Hit<F>, backend: &Backend) -> bool {
    *F::view(&backend.address) == key.source
        && worker_port(backend, hit.ports) == key.ports.source()
        && *answers_to::<F>(backend, hit.bind, &hit.address) == key.destination
}

/// Writes the 5-tuple of a worker's answers.
#[inline(always)]
pub fn put_answer_key<F: Stages>(
    key: &mut FlowKey<F>,
    backend: &Backend,
    bind: Bind,
    client: &F::Address,
    ports: Ports,
    is_udp: bool,
) {
    key.source = *F::view(&backend.address);
    key.destination = *answers_to::<F>(backend, bind, client);
    key.ports = Ports::new(worker_port(backend, ports), bind.port());
    key.protocol = if is_udp { udp::PROTOCOL } else { tcp::PROTOCOL };
    key.reserved = [0; 3];
}

/// Binds the flow in the room to a port. In `nat` it is the client's own in the first turn; in others ports spread by hash,
/// over all source addresses in turn. Returns 1 where it did.
#[inline(always)]
pub fn pick_port<F: Stages>(turn: u32) -> u32 {
    let Some(room) = F::room() else { return 0 };
    let new = &mut room.new;
    let Some(backend) = BACKENDS.get(new.record.backend) else {
        return 0;
    };
    let Some(service) = SERVICES.get(backend.service) else {
        return 0;
    };
    if !matches!(mode(backend), Mode::Dnat) {
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
            return 0;
        };
        let port = Be16::from_host(service.nat_port_low.wrapping_add(offset as u16));
        new.bind = Bind::new(port, new.bind.hop(), source);
    }
    let is_udp = new.record.udp;
    put_answer_key(&mut room.answer_key, backend, new.bind, &new.address, new.ports, is_udp);
    1
}

/// Announces the entry of the flow in the room that its worker's answers find; see [`announce`](super::announce).
#[inline(always)]
pub fn announce<F: Stages>() -> u32 {
    match F::room() {
        Some(room) => super::announce(&room.answer_key, room::BY_ANSWERS),
        None => FULL,
    }
}

/// Whether a bucket has another entry that the worker's answers of the flow in the room would find. Returns 0, or the
/// number of a [`Refused`](flow_table::Refused).
#[inline(always)]
pub fn contested<F: Stages>(bucket: u32, mine: u32) -> u32 {
    let (Some(room), Some(bucket)) = (F::room(), F::bucket(bucket)) else {
        return FULL;
    };
    let key = &room.answer_key;
    let port = key.ports.destination();
    let is_udp = room.new.record.udp;
    let difference = |way| flow_table::port_difference::<F, _>(bucket, way, port);
    let refused = flow_table::contested::<F, _>(bucket, mine as usize, difference, |other| {
        other.bind.port() == port
            && other.meta.is_kind(is_udp, Direction::ToClient)
            && BACKENDS
                .get(other.meta.backend())
                .is_some_and(|backend| is_current(other, backend) && is_answer(key, other, backend))
    });
    refused.map_or(0, number)
}

/// Returns 1 where the answers' entry of the flow that the room entered still stands, or its mode needs none.
#[inline(always)]
pub fn stands<F: Stages>() -> u32 {
    let Some(room) = F::room() else { return 0 };
    if !BACKENDS
        .get(room.chosen.backend)
        .is_some_and(|backend| mode(backend).translates())
    {
        return 1;
    }
    let answers = &room.answers;
    let way = answers.way as usize;
    match F::bucket(answers.bucket()) {
        Some(cells) if way < flow_table::WAYS => {
            let meta = Meta(cells.load_u64(F::meta(way)));
            (meta.is_live() && meta.is_same(answers.meta)) as u32
        }
        _ => 0,
    }
}

/// Takes the answers' entry of the flow in the room out again. Returns 1 where it was there.
#[inline(always)]
pub fn withdraw<F: Stages>() -> u32 {
    let Some(room) = F::room() else { return 0 };
    if F::search_answer(&room.answer_key, &mut room.other) == 0 {
        return 0;
    }
    // It may have given way, and another flow may stand there by now.
    let hit = &room.other.hit;
    if hit.address != room.new.address || hit.ports != room.new.ports {
        return 0;
    }
    match room.other.cells() {
        Some(cells) => flow_table::release(cells, hit).is_some() as u32,
        None => 0,
    }
}
