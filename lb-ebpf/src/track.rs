//! Track: the flow table in the packet path, by four verbs: find, claim, touch, release.
//!
//! A flow of a mode that translates has two entries: one that its client's packets find, and one that its worker's
//! answers find. The first is the flow: its phase is the connection's, and it is what is counted. The second follows.

mod bound;
mod counts;
mod pair;

use aya_ebpf::helpers::bpf_jiffies64;
use lb_common::{
    Backend, FlowKey, Mode, Outcome, Phase,
    flow::{self, Direction},
    flow_table::{self, Bind, Claims, Hit, Places, Record, Refused},
    wire::tcp,
};

pub use self::{
    bound::{answers_to, worker_port},
    pair::release,
};
use crate::{
    cells::Bucket,
    family::Stages,
    maps::{BACKENDS, settings},
    parse::Parsed,
};

/// An entry of the flow table, shared with all CPUs.
#[derive(Clone, Copy)]
pub struct Flow<F: Stages> {
    pub bucket: Bucket,
    pub hit: Hit<F>,
}

/// A flow and its backend.
pub struct Found<F: Stages> {
    pub flow: Flow<F>,
    pub backend: &'static Backend,
}

/// A backend that was chosen for a new flow, and the service it was chosen for.
#[derive(Clone, Copy)]
pub struct Choice {
    pub service: u32,
    pub index: u32,
    pub backend: &'static Backend,
}

/// The forwarding mode of a backend's service.
#[inline(always)]
pub fn mode(backend: &Backend) -> Mode {
    Mode::from_number(backend.mode).unwrap_or(Mode::Nat)
}

/// The buckets of a 5-tuple.
#[inline(always)]
fn places<F: Stages>(key: &FlowKey<F>) -> Places {
    let seed = settings().map_or(0, |settings| settings.hash_seed);
    flow_table::places(key, seed, F::buckets())
}

/// Now, in ticks.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    flow::tick(jiffies, settings().map_or(0, |settings| settings.tick_shift))
}

#[inline(always)]
fn is_udp<F: Stages>(key: &FlowKey<F>) -> bool {
    key.protocol != tcp::PROTOCOL
}

impl<F: Stages> Found<F> {
    /// A value to look up into.
    #[inline(always)]
    pub fn blank() -> Option<Self> {
        Some(Self {
            flow: Flow {
                bucket: F::bucket(0)?,
                hit: Hit::BLANK,
            },
            backend: BACKENDS.get(0)?,
        })
    }
}

/// Looks a client's packet up where it is most likely.
#[inline(always)]
pub fn find<F: Stages>(key: &FlowKey<F>) -> Option<Found<F>> {
    let places = places(key);
    let bucket = F::bucket(places.first)?;
    let mut backend = None;
    let found = flow_table::find(bucket, &key.source, key.ports, is_udp(key), |hit| {
        backend = BACKENDS.get(hit.meta.backend());
        backend.is_some_and(|backend| is_of_client(key, backend))
    });
    Some(Found {
        flow: Flow { bucket, hit: found? },
        backend: backend?,
    })
}

/// Looks a client's packet up wherever it may be. Says whether it found it.
#[inline(never)]
pub fn search<F: Stages>(key: &FlowKey<F>, found: &mut Found<F>) -> bool {
    let places = places(key);
    for place in [places.first, places.second] {
        let Some(bucket) = F::bucket(place) else {
            return false;
        };
        let hit = flow_table::search(bucket, &key.source, key.ports, is_udp(key), |hit| {
            match BACKENDS.get(hit.meta.backend()) {
                Some(backend) if is_of_client(key, backend) => {
                    found.backend = backend;
                    true
                }
                _ => false,
            }
        });
        if let Some(hit) = hit {
            found.flow = Flow { bucket, hit };
            return true;
        }
    }
    false
}

#[inline(always)]
fn is_of_client<F: Stages>(key: &FlowKey<F>, backend: &Backend) -> bool {
    F::narrow(&backend.virtual_address) == key.destination
}

/// Looks a worker's answer up where it is most likely.
#[inline(always)]
pub fn find_answer<F: Stages>(key: &FlowKey<F>) -> Option<Found<F>> {
    let places = places(key);
    let bucket = F::bucket(places.first)?;
    let mut backend = None;
    let found = flow_table::find_answer(bucket, key.ports.destination(), is_udp(key), |hit| {
        backend = BACKENDS.get(hit.meta.backend());
        backend.is_some_and(|backend| bound::is_answer(key, hit, backend))
    });
    Some(Found {
        flow: Flow { bucket, hit: found? },
        backend: backend?,
    })
}

/// Looks a worker's answer up wherever it may be. Says whether it found it.
#[inline(never)]
pub fn search_answer<F: Stages>(key: &FlowKey<F>, found: &mut Found<F>) -> bool {
    let places = places(key);
    for place in [places.first, places.second] {
        let Some(bucket) = F::bucket(place) else {
            return false;
        };
        let hit = flow_table::search_answer(bucket, key.ports.destination(), is_udp(key), |hit| {
            match BACKENDS.get(hit.meta.backend()) {
                Some(backend) if bound::is_answer(key, hit, backend) => {
                    found.backend = backend;
                    true
                }
                _ => false,
            }
        });
        if let Some(hit) = hit {
            found.flow = Flow { bucket, hit };
            return true;
        }
    }
    false
}

/// Notes a client's packet: the time, and how far the connection has come with it.
#[inline(always)]
pub fn touch<F: Stages>(flow: &Flow<F>, backend: &'static Backend, parsed: &Parsed<F>) {
    let (flags, udp) = (parsed.flags, parsed.is_udp());
    let both_ways = mode(backend).translates();
    let touched = flow_table::touch(flow.bucket, &flow.hit, now(), |phase| {
        if both_ways {
            phase.after(Direction::ToWorker, flags)
        } else {
            phase.after_one_sided(flags, udp)
        }
    });
    if let Some(touched) = touched
        && touched.before as u32 != touched.after as u32
    {
        pair::changed(flow, backend, touched.before, touched.after);
    }
}

/// Notes a worker's packet.
#[inline(always)]
pub fn touch_answer<F: Stages>(flow: &Flow<F>, backend: &'static Backend, parsed: &Parsed<F>) {
    flow_table::touch(flow.bucket, &flow.hit, now(), |phase| phase);
    let tells = if parsed.is_udp() {
        matches!(flow.hit.meta.phase(), Phase::Opening)
    } else {
        parsed.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
    };
    if tells {
        pair::answered(flow, backend, parsed.flags);
    }
}

/// Enters a new flow, in both directions where answers pass here too.
#[inline(always)]
pub fn claim<F: Stages>(parsed: &Parsed<F>, choice: &Choice, hop: u32) -> Result<Flow<F>, Outcome> {
    let udp = parsed.is_udp();
    let translates = mode(choice.backend).translates();
    let mut new = Claims {
        record: Record {
            phase: if translates {
                Phase::Opening
            } else {
                Phase::first(parsed.flags, udp)
            },
            udp,
            direction: Direction::ToWorker,
            backend: choice.index,
            generation: choice.backend.status.generation(),
            now: now(),
        },
        address: parsed.key.source,
        ports: parsed.key.ports,
        bind: Bind::new(parsed.key.ports.source(), hop, 0),
    };
    if translates {
        new.bind = bound::claim(&new, choice)?;
    }
    let mut found = Found::blank().ok_or(Outcome::Inconsistent)?;
    let refused = enter(&parsed.key, &new, &mut found.flow);
    if refused == ENTERED {
        counts::begun(choice.index, choice.service, new.record.phase);
        return Ok(found.flow);
    }
    if translates {
        // The port belongs to nobody without the first entry.
        bound::withdraw(&new, choice);
    }
    if refused == Refused::Full as u32 {
        return Err(Outcome::FlowTableFull);
    }
    // Another CPU entered the same flow at the same time: follow that one.
    if refused == Refused::Exists as u32 && search(&parsed.key, &mut found) {
        return Ok(found.flow);
    }
    Err(Outcome::ClaimRaced)
}

/// Beside the numbers of [`Refused`].
const ENTERED: u32 = u32::MAX;

/// Enters the entry that the client's packets find. Returns [`ENTERED`], or the number of a [`Refused`].
#[inline(never)]
fn enter<F: Stages>(key: &FlowKey<F>, new: &Claims<F>, flow: &mut Flow<F>) -> u32 {
    let places = places(key);
    let (Some(first), Some(second)) = (F::bucket(places.first), F::bucket(places.second)) else {
        return Refused::Full as u32;
    };
    let difference = |bucket, way| F::difference(bucket, way, &new.address, new.ports);
    let claimed = flow_table::claim([first, second], new, expiry(), difference, |other| {
        other.address == new.address
            && other.ports == new.ports
            && other.meta.is_kind(new.record.udp, Direction::ToWorker)
            && BACKENDS
                .get(other.meta.backend())
                .is_some_and(|backend| is_of_client(key, backend))
    });
    match claimed {
        Ok(claimed) => {
            *flow = Flow {
                bucket: if claimed.second { second } else { first },
                hit: claimed.hit,
            };
            if let Some(evicted) = claimed.evicted {
                pair::evicted(&evicted.0);
            }
            ENTERED
        }
        Err((refused, evicted)) => {
            if let Some(evicted) = evicted {
                pair::evicted(&evicted.0);
            }
            refused as u32
        }
    }
}

#[inline(always)]
fn expiry() -> u32 {
    settings().map_or(0, |settings| settings.expiry)
}

/// Remembers where the client's packets come from, when that changed.
#[inline(always)]
pub fn note_hop<F: Stages>(flow: &Flow<F>, backend: &'static Backend, hop: u32) {
    pair::note_hop(flow, backend, hop);
}
