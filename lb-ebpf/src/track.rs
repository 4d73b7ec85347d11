//! Track: the flow table, by four verbs: find, claim, touch, release.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_coarse_ns};
use lb_common::{
    Backend, BackendLoad, Be16, Family, Flow, FlowKey, NextHop, Outcome, Phase,
    flow::{self, Direction, Tally},
    hash,
    service::MAX_SOURCES,
};

use crate::{
    atomic,
    family::Stages,
    maps::{BACKEND_LOADS, BACKENDS, SERVICES},
    parse::Parsed,
    repeat::{Step, repeat},
};

/// An entry of the flow table, shared with all CPUs.
pub struct FlowRef<F: Stages>(*mut Flow<F>);

impl<F: Stages> Clone for FlowRef<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Stages> Copy for FlowRef<F> {}

impl<F: Stages> core::ops::Deref for FlowRef<F> {
    type Target = Flow<F>;

    #[inline(always)]
    fn deref(&self) -> &Flow<F> {
        // SAFETY: the pointer came from a look-up, and elements outlive the run of the program.
        unsafe { &*self.0 }
    }
}

/// Looks a 5-tuple up.
#[inline(always)]
pub fn find<F: Stages>(key: &FlowKey<F>) -> Option<FlowRef<F>> {
    F::flow_find(key).map(FlowRef)
}

/// Notes a packet: the time, and how far the connection has come with it.
#[inline(always)]
pub fn touch<F: Stages>(flow: FlowRef<F>, direction: Direction, flags: u8) {
    let now = now();
    if flow.last_seen != now {
        // SAFETY: as in `deref`; a plain store of one word, and the later of two racing ones is as good.
        unsafe { core::ptr::write_volatile(&raw mut (*flow.0).last_seen, now) };
    }
    // A lost race means that a packet of the other side came at the same time: look again what it made of the phase.
    for _ in 0..4 {
        let before = phase(flow);
        let after = before.after(direction, flags);
        if before as u32 == after as u32 {
            return;
        }
        // SAFETY: as in `deref`.
        if atomic::compare_and_swap_u32(unsafe { &raw mut (*flow.0).phase }, before as u32, after as u32) {
            recount(flow, before.tally(), after.tally());
            return;
        }
    }
}

/// How far the connection has come.
#[inline(always)]
pub fn phase<F: Stages>(flow: FlowRef<F>) -> Phase {
    // SAFETY: as in `deref`; other CPUs change the word.
    Phase::from_number(unsafe { core::ptr::read_volatile(&raw const (*flow.0).phase) })
}

/// Remembers where the client's packets come from, when that changed.
#[inline(always)]
pub fn note_client_hop<F: Stages>(flow: FlowRef<F>, hop: NextHop) {
    if flow.client_hop != hop {
        // SAFETY: as in `deref`; a torn read sends one packet astray while the client moves.
        unsafe { core::ptr::write_volatile(&raw mut (*flow.0).client_hop, hop) };
    }
}

/// Forgets a flow that is found under `key`, in both directions.
#[inline(never)]
pub fn release<F: Stages>(key: &FlowKey<F>, flow: FlowRef<F>) {
    // Whoever moves the phase to its end takes the flow out of the count, so it is taken out once.
    for _ in 0..4 {
        let before = phase(flow);
        // SAFETY: as in `deref`.
        if atomic::compare_and_swap_u32(unsafe { &raw mut (*flow.0).phase }, before as u32, Phase::Reset as u32) {
            recount(flow, before.tally(), Tally::None);
            break;
        }
    }
    let answers = flow.rewrite.reversed();
    F::flow_remove(&answers);
    F::flow_remove(key);
}

/// A backend that was chosen for a new flow, and the service it was chosen for.
pub struct Choice<'a> {
    pub service: u32,
    pub backend_index: u32,
    pub backend: &'a Backend,
}

/// Enters a new flow: a source port towards the backend that no other flow has, and both directions in the table.
#[inline(always)]
pub fn claim<F: Stages>(parsed: &Parsed<F>, choice: &Choice<'_>, client_hop: NextHop) -> Result<FlowRef<F>, Outcome> {
    let draft = F::draft().ok_or(Outcome::Inconsistent)?;
    // Field by field: whole values would be put together on the stack first.
    let flow = &mut draft.flow;
    parsed.key.reverse_into(&mut flow.rewrite);
    flow.phase = Phase::Opening as u32;
    flow.last_seen = now();
    flow.backend = choice.backend_index;
    flow.generation = choice.backend.status.generation();
    flow.client_hop = client_hop;
    flow.service = choice.service;
    flow.direction = Direction::ToClient as u32;
    let answers = &mut draft.answers;
    answers.source = F::narrow(&choice.backend.address);
    answers.source_port = choice.backend.status.port();
    answers.protocol = parsed.key.protocol;
    answers.reserved = [0; 3];
    claim_port::<F>(draft)?;
    draft.answers.reverse_into(&mut draft.flow.rewrite);
    draft.flow.direction = Direction::ToWorker as u32;
    match F::flow_insert(&parsed.key, &draft.flow, BPF_NOEXIST as u64) {
        Ok(()) => count_new(choice.backend_index),
        Err(error) => {
            // The port belongs to nobody without the first entry.
            F::flow_remove(&draft.answers);
            // Another CPU entered the same flow at the same time: follow that one.
            if error != EEXIST {
                return Err(Outcome::FlowTableFull);
            }
        }
    }
    find(&parsed.key).ok_or(Outcome::ClaimRaced)
}

/// How many ports are tried for a flow.
const PORT_TRIES: u32 = 32;
const EEXIST: i32 = -17;

/// A new flow while it is put together. It lives in a per-CPU map, because the stack is too small for it.
#[repr(C)]
pub struct Draft<F: Family> {
    flow: Flow<F>,
    /// Key of the answers' direction; its destination is what is searched.
    answers: FlowKey<F>,
}

/// Enters the answers' direction under the first free source port.
#[inline(always)]
fn claim_port<F: Stages>(draft: &mut Draft<F>) -> Result<(), Outcome> {
    let mut search = PortSearch {
        draft,
        result: Err(Outcome::NatPortsExhausted),
    };
    repeat(PORT_TRIES, try_port::<F>, &mut search);
    search.result
}

/// The state of a search for a free source port.
struct PortSearch<'a, F: Stages> {
    draft: &'a mut Draft<F>,
    result: Result<(), Outcome>,
}

/// Tries one port. The client's own goes first; then ports spread by hash, over all source addresses in turn.
extern "C" fn try_port<F: Stages>(turn: u32, search: &mut PortSearch<'_, F>) -> Step {
    let Draft { flow, answers } = &mut *search.draft;
    let Some(service) = SERVICES.get(flow.service) else {
        return Step::Stop;
    };
    let client_port = flow.rewrite.destination_port;
    let seed = hash::words(client_port.memory() as u32, flow.rewrite.destination.as_ref());
    let count = service.nat_port_count as u32;
    let own = client_port.host().wrapping_sub(service.nat_port_low) as u32;
    let offset = if turn == 0 && own < count { own } else { hash::reduce(hash::words(turn, &[seed]), count) };
    let nth = hash::reduce(seed, service.source_count) + turn;
    let Some(source) = nth.checked_rem(service.source_count) else {
        return Step::Stop;
    };
    answers.destination = F::narrow(&service.sources[source as usize & (MAX_SOURCES - 1)]);
    answers.destination_port = Be16::from_host(service.nat_port_low.wrapping_add(offset as u16));
    search.result = match F::flow_insert(answers, flow, BPF_NOEXIST as u64) {
        Ok(()) => Ok(()),
        Err(EEXIST) => return Step::Continue,
        Err(_) => Err(Outcome::FlowTableFull),
    };
    Step::Stop
}

#[inline(always)]
fn count_new(backend: u32) {
    if let Some(load) = BACKEND_LOADS.get_ptr_mut(backend) {
        // SAFETY: a pointer to a map value.
        unsafe {
            atomic::fetch_add_u64(&raw mut (*load).total, 1);
            atomic::add_u32(&raw mut (*load).embryonic, 1);
        }
    }
}

/// Moves a flow from one number of its backend to another.
#[inline(always)]
fn recount<F: Stages>(flow: FlowRef<F>, before: Tally, after: Tally) {
    if before == after {
        return;
    }
    // Another backend may hold the entry by now, whose numbers are not this flow's.
    if BACKENDS
        .get(flow.backend)
        .is_none_or(|backend| backend.status.generation() != flow.generation)
    {
        return;
    }
    let Some(load) = BACKEND_LOADS.get_ptr_mut(flow.backend) else {
        return;
    };
    if let Some(number) = tally(load, before) {
        atomic::add_u32(number, u32::MAX);
    }
    if let Some(number) = tally(load, after) {
        atomic::add_u32(number, 1);
    }
}

#[inline(always)]
fn tally(load: *mut BackendLoad, tally: Tally) -> Option<*mut u32> {
    // SAFETY: a pointer to a map value.
    unsafe {
        match tally {
            Tally::Embryonic => Some(&raw mut (*load).embryonic),
            Tally::Active => Some(&raw mut (*load).active),
            Tally::None => None,
        }
    }
}

#[inline(always)]
fn now() -> u32 {
    // SAFETY: the helper takes no arguments.
    flow::tick(unsafe { bpf_ktime_get_coarse_ns() })
}
