//! Reconciliation against maps in memory: the desired state is reached from any state, also after a
//! crash.

use std::net::{IpAddr, SocketAddr};

use lb_common::{BackendState, BackendStatus, Mode, NextHop, OnBackendDown, Ring, RingSlot, Scheduler};
use proptest::prelude::*;

use super::{
    Desired, Plan, Step, apply,
    classes::classes,
    desired::{DesiredBackend, DesiredService, DesiredTunnel},
    entries,
    fake::Fake,
    observe, plan, plan_with,
    store::Capacity,
};
use crate::{
    config::{Guard, PortRange},
    reconcile::{GuardVerdict, Listing, VirtualAddress},
    schedule::RingCache,
};

const CAPACITY: Capacity = Capacity {
    services: 16,
    backends: 64,
    ring_slots: 400,
};

fn reconcile(desired: &Desired, fake: &mut Fake) -> Vec<String> {
    let plan = plan(desired, &observe(fake).unwrap());
    // A process that dies loses the rest of the plan; here that is an error.
    let _ = apply(&plan, fake);
    plan.problems
}

fn service(port: u16, scheduler: Scheduler, backends: Vec<DesiredBackend>) -> DesiredService {
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    DesiredService {
        at: VirtualAddress {
            address,
            port,
            protocol: 6,
        },
        last_port: port,
        mode: Mode::Nat,
        scheduler,
        source_prefix: 32,
        on_backend_down: OnBackendDown::Reset,
        sources: vec![address],
        nat_ports: PortRange {
            low: 20000,
            high: 29999,
        },
        toa: false,
        guard: Guard::default(),
        backends,
    }
}

fn backend(host: u8, weight: u32, state: Option<BackendState>) -> DesiredBackend {
    let address = SocketAddr::new(IpAddr::from([10, 0, 0, host]), 80);
    let next_hop = (!host.is_multiple_of(3)).then(|| NextHop::new(2, [2; 6], [host; 6]));
    DesiredBackend {
        address,
        fallback: false,
        weight,
        state,
        begins: BackendState::Draining,
        next_hop,
        tunnel: None,
    }
}

/// The same service in another mode, with what that mode needs.
fn in_mode(mut service: DesiredService, mode: Mode, tunnel_source: &str) -> DesiredService {
    service.mode = mode;
    if mode != Mode::Nat {
        service.sources.clear();
    }
    for backend in &mut service.backends {
        backend.tunnel = mode.encapsulates().then(|| DesiredTunnel {
            source: tunnel_source.parse().unwrap(),
            port: if mode == Mode::Gue { 6080 } else { 0 },
        });
    }
    service
}

fn guard(allow: &[&str], deny: &[&str]) -> Guard {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Guard {
        allow: prefixes(allow),
        deny: prefixes(deny),
        ..Guard::default()
    }
}

fn any_backend() -> impl Strategy<Value = DesiredBackend> {
    let state = prop_oneof![
        4 => Just(Some(BackendState::Up)),
        1 => Just(Some(BackendState::Down)),
        1 => Just(Some(BackendState::Draining)),
        1 => Just(None),
    ];
    let fallback = prop::bool::weighted(0.2);
    (1_u8..6, 0_u32..5, state, fallback).prop_map(|(host, weight, state, fallback)| DesiredBackend {
        fallback,
        ..backend(host, weight, state)
    })
}

fn any_guard() -> impl Strategy<Value = Guard> {
    let list = || prop::collection::vec(0_u8..4, 0..3);
    (list(), list(), 0_u32..3).prop_map(|(allow, deny, limit)| {
        let prefix = |net: u8| ipnet::IpNet::new([10, net, 0, 0].into(), 16).unwrap();
        let (mut allow, mut deny): (Vec<_>, Vec<_>) = (
            allow.into_iter().map(prefix).collect(),
            deny.into_iter().map(prefix).collect(),
        );
        allow.sort();
        allow.dedup();
        deny.sort();
        deny.dedup();
        deny.retain(|prefix| !allow.contains(prefix));
        Guard {
            allow,
            deny,
            connection_limit: limit,
            ..Guard::default()
        }
    })
}

fn any_service() -> impl Strategy<Value = DesiredService> {
    let scheduler = prop::sample::select(vec![
        Scheduler::RoundRobin,
        Scheduler::LeastConnection,
        Scheduler::Random,
    ]);
    let mode = prop_oneof![2 => Just(Mode::Nat), 3 => prop::sample::select(&Mode::ALL[1..])];
    let tunnel_source = prop::sample::select(vec!["10.9.0.0/24", "10.9.1.0/28"]);
    (
        1_u16..6,
        scheduler,
        prop::collection::vec(any_backend(), 0..5),
        any::<bool>(),
        (mode, tunnel_source),
        any_guard(),
    )
        .prop_map(|(port, scheduler, mut backends, hold, (mode, tunnel_source), guard)| {
            backends.sort_by_key(|backend| backend.address);
            backends.dedup_by_key(|backend| backend.address);
            let mut service = in_mode(service(port, scheduler, backends), mode, tunnel_source);
            service.guard = guard;
            service.on_backend_down = if hold {
                OnBackendDown::Hold
            } else {
                OnBackendDown::Reset
            };
            service
        })
}

/// The same service with several ports.
fn ranged(mut service: DesiredService, last_port: u16) -> DesiredService {
    service.last_port = last_port;
    for backend in &mut service.backends {
        backend.address.set_port(0);
    }
    service
}

/// Some services with one port each, and perhaps one with a range that contains some of these
/// ports.
fn any_desired() -> impl Strategy<Value = Desired> {
    let range = prop::option::of((any_service(), 1_u16..30));
    (prop::collection::vec(any_service(), 0..5), range).prop_map(|(mut services, range)| {
        services.sort_by_key(|service| service.at);
        services.dedup_by_key(|service| service.at);
        services.extend(range.map(|(service, more)| {
            let last = service.at.port + more;
            ranged(service, last)
        }));
        Desired {
            services,
            ..Desired::default()
        }
    })
}

/// The service that packets to a port find.
fn find(fake: &Fake, at: VirtualAddress) -> Option<u32> {
    let holds = |listing: &Listing| (listing.first().port..=listing.last_port()).contains(&at.port);
    let blocks = fake.listed.iter().filter(|(listing, _)| holds(listing));
    // A single port has priority over blocks, and a block with more leading bits over one with
    // fewer.
    let longest = blocks.max_by_key(|(listing, _)| match listing {
        Listing::Port(_) => u8::MAX,
        Listing::Block { bits, .. } => *bits,
    });
    longest.map(|(_, index)| *index)
}

/// A port of the service that no other service has.
fn own_port(service: &DesiredService) -> VirtualAddress {
    VirtualAddress {
        port: service.last_port,
        ..service.at
    }
}

/// The entry of the service, by what its listings say.
fn index_of(fake: &Fake, service: &DesiredService) -> u32 {
    fake.listed[&Listing::of(service.at, service.last_port)[0]]
}

/// The backends that clients of the service would get, by address.
fn shares(fake: &Fake, service: &DesiredService) -> Vec<SocketAddr> {
    let entry = fake.services[&index_of(fake, service)];
    let slots = entry.ring.offset()..entry.ring.offset() + entry.ring.length();
    let mut addresses: Vec<_> = slots
        .map(|slot| {
            let backend = fake.backends[&fake.rings[&slot].backend];
            let address = lb_common::family::address::from_words(4, backend.address).unwrap();
            SocketAddr::new(address, backend.status.port().host())
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn assert_arrived(desired: &Desired, fake: &Fake) {
    let listings = desired
        .services
        .iter()
        .map(|service| Listing::of(service.at, service.last_port).len());
    assert_eq!(fake.listed.len(), listings.sum::<usize>());
    assert_eq!(fake.classes, classes(desired));
    let mut guards = Vec::new();
    for service in &desired.services {
        let index = index_of(fake, service);
        guards.extend(entries::guards(index, service));
        assert_eq!(
            fake.services[&index],
            entries::service(service, fake.services[&index].ring, Some(&fake.services[&index]))
        );
        assert_members(fake, service);
        for backend in &service.backends {
            let entry = |state, (at, entry): (&u32, &lb_common::Backend)| {
                let generation = entry.status.generation();
                *entry == entries::backend((index, service), *at, backend, state, generation)
            };
            let is = |found| {
                [BackendState::Up, BackendState::Draining, BackendState::Down]
                    .into_iter()
                    .any(|state| entry(state, found))
            };
            assert_eq!(
                fake.backends.iter().filter(|found| is(*found)).count(),
                1,
                "{backend:?}"
            );
        }
    }
    assert_eq!(fake.guards, guards.into_iter().collect());
}

/// New flows go to the backends that are up, and to the fallback ones where there are none.
fn assert_members(fake: &Fake, service: &DesiredService) {
    let found = shares(fake, service);
    // A backend of unknown state keeps its state, which this function does not know.
    if service.backends.iter().any(|backend| backend.state.is_none()) {
        return;
    }
    let up = |fallback: bool| {
        let members = service
            .backends
            .iter()
            .filter(|b| b.state == Some(BackendState::Up) && b.weight > 0);
        let mut addresses: Vec<_> = members.filter(|b| b.fallback == fallback).map(|b| b.address).collect();
        addresses.sort_unstable();
        addresses
    };
    let expected = if up(false).is_empty() { up(true) } else { up(false) };
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_sequence_of_desired_states_is_reached_and_then_nothing_is_left_to_do(
        sequence in prop::collection::vec(any_desired(), 1..6),
    ) {
        let mut fake = Fake::new(CAPACITY);
        for desired in &sequence {
            prop_assert_eq!(reconcile(desired, &mut fake), Vec::<String>::new());
            assert_arrived(desired, &fake);
            let again = plan(desired, &observe(&fake).unwrap());
            prop_assert_eq!(again.steps, Vec::<Step>::new());
        }
    }

    #[test]
    fn a_crash_after_any_write_is_repaired_by_the_next_start(
        first in any_desired(),
        second in any_desired(),
        third in any_desired(),
        deaths in prop::collection::vec(any::<prop::sample::Index>(), 2),
    ) {
        let mut fake = Fake::new(CAPACITY);
        for (desired, death) in [&first, &second].into_iter().zip(deaths) {
            let steps = plan(desired, &observe(&fake).unwrap()).steps.len();
            fake.budget = death.index(steps + 1);
            reconcile(desired, &mut fake);
            fake.budget = usize::MAX;
            // A start takes longer than any packet.
            super::Store::settle(&mut fake).unwrap();
        }
        prop_assert_eq!(reconcile(&third, &mut fake), Vec::<String>::new());
        assert_arrived(&third, &fake);
    }

    /// The maps in memory check at every successful write that no service leads to nothing.
    #[test]
    fn random_write_failures_are_repaired_and_never_leave_a_service_without_backends(
        sequence in prop::collection::vec(any_desired(), 1..6),
        failing in prop::collection::vec(prop::bool::weighted(0.2), 1..50),
    ) {
        let mut fake = Fake::new(CAPACITY);
        for desired in &sequence {
            // Several attempts with the same state; some of them fail before the end.
            fake.failing.clone_from(&failing);
            for _ in 0..3 {
                reconcile(desired, &mut fake);
            }
        }
        fake.failing.clear();
        let last = sequence.last().unwrap();
        prop_assert_eq!(reconcile(last, &mut fake), Vec::<String>::new());
        assert_arrived(last, &fake);
        prop_assert_eq!(plan(last, &observe(&fake).unwrap()).steps, Vec::<Step>::new());
    }

    #[test]
    fn any_state_of_the_maps_is_repaired(
        before in any_desired(),
        after in any_desired(),
        damages in prop::collection::vec(any_damage(), 0..12),
    ) {
        let mut fake = Fake::new(CAPACITY);
        reconcile(&before, &mut fake);
        fake.is_checked = false;
        for damage in &damages {
            damage.strike(&mut fake);
        }
        // What exists twice may have to be freed before it is created once.
        for _ in 0..2 {
            reconcile(&after, &mut fake);
        }
        prop_assert_eq!(reconcile(&after, &mut fake), Vec::<String>::new());
        assert_arrived(&after, &fake);
        prop_assert_eq!(plan(&after, &observe(&fake).unwrap()).steps, Vec::<Step>::new());
    }

    #[test]
    fn known_rings_give_the_same_plan_as_computed_ones(sequence in prop::collection::vec(any_desired(), 1..6)) {
        let mut known = RingCache::default();
        let mut fake = Fake::new(CAPACITY);
        for desired in &sequence {
            for _ in 0..2 {
                let observed = observe(&fake).unwrap();
                let plan = plan(desired, &observed);
                prop_assert_eq!(&plan, &plan_with(desired, &observed, &mut known));
                apply(&plan, &mut fake).unwrap();
            }
        }
    }
}

/// Damage that no controller does to maps.
#[derive(Clone, Debug)]
enum Damage {
    List(u16, u32),
    Unlist(prop::sample::Index),
    Service(u32, u32, Option<u32>),
    Backend(u32, u32),
    Status(u32, u64),
    Slot(u32, u32),
    Hop(u32),
    Class(u32, u64),
    Guard(u32, u8),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let (service, backend, slot) = (0..CAPACITY.services, 0..CAPACITY.backends, 0..CAPACITY.ring_slots);
    prop_oneof![
        (1_u16..40, service.clone()).prop_map(|(port, index)| Damage::List(port, index)),
        any::<prop::sample::Index>().prop_map(Damage::Unlist),
        (service.clone(), service.clone(), prop::option::of(slot.clone()))
            .prop_map(|(from, to, ring)| Damage::Service(from, to, ring)),
        (0..8_u32, 0..8_u32).prop_map(|(from, to)| Damage::Backend(from, to)),
        (backend.clone(), any::<u64>()).prop_map(|(index, word)| Damage::Status(index, word)),
        (0..40_u32, backend.clone()).prop_map(|(slot, backend)| Damage::Slot(slot, backend)),
        (0..8_u32).prop_map(Damage::Hop),
        (0..64_u32, any::<u64>()).prop_map(|(index, word)| Damage::Class(index, word)),
        (service, 0_u8..4).prop_map(|(service, net)| Damage::Guard(service, net)),
    ]
}

impl Damage {
    fn strike(&self, fake: &mut Fake) {
        match *self {
            Self::List(port, index) => {
                let at = service(port, Scheduler::Random, vec![]).at;
                fake.listed.insert(Listing::Port(at), index);
            }
            Self::Unlist(which) => {
                let mut listings: Vec<_> = fake.listed.keys().copied().collect();
                listings.sort_by_key(|listing| format!("{listing:?}"));
                if !listings.is_empty() {
                    fake.listed.remove(which.get(&listings));
                }
            }
            Self::Service(from, to, ring) => match (fake.services.get(&from).copied(), ring) {
                (Some(mut entry), Some(offset)) => {
                    entry.ring = Ring::new(Scheduler::Random, offset, 7);
                    fake.services.insert(to, entry);
                }
                (Some(entry), None) => drop(fake.services.insert(to, entry)),
                (None, _) => drop(fake.services.remove(&to)),
            },
            Self::Backend(from, to) => match fake.backends.get(&from).copied() {
                Some(entry) => drop(fake.backends.insert(to, entry)),
                None => drop(fake.backends.remove(&to)),
            },
            Self::Status(index, word) => {
                if let Some(backend) = fake.backends.get_mut(&index) {
                    backend.status = BackendStatus(word);
                }
            }
            Self::Slot(slot, backend) => drop(fake.rings.insert(slot, RingSlot { backend, weight: 1 })),
            Self::Hop(index) => drop(fake.next_hops.insert(index, NextHop::new(9, [9; 6], [9; 6]))),
            Self::Class(index, word) => drop(fake.classes.insert(index, word)),
            Self::Guard(service, net) => {
                let guarded = crate::reconcile::Guarded {
                    service,
                    sources: ipnet::IpNet::new([10, net, 0, 0].into(), 16).unwrap(),
                };
                fake.guards.insert(guarded, GuardVerdict::Deny);
            }
        }
    }
}

#[test]
fn an_unknown_next_hop_is_kept_and_a_lost_one_is_removed() {
    let with = |next_hop| Desired {
        services: vec![service(
            80,
            Scheduler::RoundRobin,
            vec![DesiredBackend {
                next_hop,
                ..backend(1, 1, Some(BackendState::Up))
            }],
        )],
        ..Desired::default()
    };
    let hop = NextHop::new(2, [2; 6], [1; 6]);
    let mut fake = Fake::new(CAPACITY);
    for (next_hop, expected) in [
        (None, NextHop::ZERO),
        (Some(hop), hop),
        // As after a restart, before the kernel has answered.
        (None, hop),
        (Some(NextHop::ZERO), NextHop::ZERO),
    ] {
        reconcile(&with(next_hop), &mut fake);
        assert_eq!(fake.next_hops[&0], expected, "{next_hop:?}");
    }
}

#[test]
fn a_backend_that_goes_down_leaves_the_ring_before_its_flows_are_refused() {
    let mut fake = Fake::new(CAPACITY);
    let up = |state| Desired {
        services: vec![service(
            80,
            Scheduler::RoundRobin,
            vec![backend(1, 1, Some(BackendState::Up)), backend(2, 1, state)],
        )],
        ..Desired::default()
    };
    reconcile(&up(Some(BackendState::Up)), &mut fake);
    let plan = plan(&up(Some(BackendState::Down)), &observe(&fake).unwrap());
    let position = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted).unwrap();
    let ring = position(|step| matches!(step, Step::SetRing { .. }));
    let settle = position(|step| matches!(step, Step::Settle));
    let down = position(|step| matches!(step, Step::SetBackendStatus { .. }));
    assert!(ring < settle && settle < down, "{plan:?}");
}

#[test]
fn a_backend_of_unknown_health_keeps_its_state_and_a_new_one_waits() {
    let mut fake = Fake::new(CAPACITY);
    let with = |state| Desired {
        services: vec![service(80, Scheduler::RoundRobin, vec![backend(1, 1, state)])],
        ..Desired::default()
    };
    reconcile(&with(None), &mut fake);
    assert_eq!(shares(&fake, &with(None).services[0]), []);
    reconcile(&with(Some(BackendState::Up)), &mut fake);
    reconcile(&with(None), &mut fake);
    assert_eq!(shares(&fake, &with(None).services[0]).len(), 1);
}

#[test]
fn an_unchanged_service_is_not_touched_when_another_changes() {
    let mut fake = Fake::new(CAPACITY);
    let desired = |weight| Desired {
        services: vec![
            service(80, Scheduler::RoundRobin, vec![backend(1, 1, Some(BackendState::Up))]),
            service(
                81,
                Scheduler::RoundRobin,
                vec![
                    backend(1, weight, Some(BackendState::Up)),
                    backend(2, 1, Some(BackendState::Up)),
                ],
            ),
        ],
        ..Desired::default()
    };
    reconcile(&desired(1), &mut fake);
    let untouched = fake.services[&index_of(&fake, &desired(1).services[0])];
    let plan = plan(&desired(3), &observe(&fake).unwrap());
    assert_eq!(plan.steps.len(), 3, "a new ring, its switch, and a wait: {plan:?}");
    apply(&plan, &mut fake).unwrap();
    assert_eq!(fake.services[&index_of(&fake, &desired(1).services[0])], untouched);
}

#[test]
fn what_does_not_fit_is_reported_and_the_rest_is_applied() {
    let mut fake = Fake::new(Capacity {
        services: 1,
        backends: 1,
        ring_slots: 4,
    });
    let desired = Desired {
        services: vec![
            service(
                80,
                Scheduler::RoundRobin,
                vec![
                    backend(1, 1, Some(BackendState::Up)),
                    backend(2, 1, Some(BackendState::Up)),
                ],
            ),
            service(81, Scheduler::RoundRobin, vec![]),
        ],
        ..Desired::default()
    };
    let problems = reconcile(&desired, &mut fake);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(
        shares(&fake, &desired.services[0]),
        [desired.services[0].backends[0].address]
    );
}

#[test]
fn fallback_backends_take_flows_only_while_no_other_does() {
    use BackendState::{Down, Up};
    let (web, sorry) = (backend(1, 1, None).address, backend(2, 1, None).address);
    for (ordinary, fallback, expected) in [
        (Some(Up), Some(Up), vec![web]),
        (Some(Down), Some(Up), vec![sorry]),
        (Some(Down), Some(Down), vec![]),
        (None, Some(Up), vec![sorry]),
    ] {
        let mut fake = Fake::new(CAPACITY);
        let backends = vec![
            backend(1, 1, ordinary),
            DesiredBackend {
                fallback: true,
                ..backend(2, 1, fallback)
            },
        ];
        let desired = Desired {
            services: vec![service(80, Scheduler::RoundRobin, backends)],
            ..Desired::default()
        };
        reconcile(&desired, &mut fake);
        assert_eq!(
            shares(&fake, &desired.services[0]),
            expected,
            "{ordinary:?} {fallback:?}"
        );
        let states: Vec<_> = fake.backends.values().map(|entry| entry.status.state()).collect();
        assert_eq!(
            states[1],
            fallback.unwrap(),
            "a fallback backend keeps the flows it has"
        );
    }
}

/// Applies a plan step by step, and calls `look` before the first step, between all steps, and
/// after the last.
fn step_by_step(desired: &Desired, fake: &mut Fake, look: impl Fn(&Fake)) -> usize {
    let plan = plan(desired, &observe(fake).unwrap());
    look(fake);
    for step in &plan.steps {
        let one = Plan {
            steps: vec![step.clone()],
            problems: vec![],
        };
        apply(&one, fake).unwrap();
        look(fake);
    }
    plan.steps.len()
}

#[test]
fn a_range_that_changes_is_reachable_all_the_time() {
    let up = || vec![backend(1, 1, Some(BackendState::Up))];
    let at = |first| service(first, Scheduler::RoundRobin, up());
    for (before, after) in [
        (ranged(at(8000), 8099), ranged(at(8000), 8199)),
        (ranged(at(8000), 8199), ranged(at(8000), 8049)),
        (ranged(at(8000), 8099), ranged(at(7990), 8099)),
        (ranged(at(8000), 8099), at(8000)),
        (at(8000), ranged(at(8000), 8001)),
        (ranged(at(1), 65535), ranged(at(8000), 8099)),
        (
            ranged(at(8000), 8099),
            in_mode(ranged(at(8000), 8099), Mode::Dsr, "10.9.0.0/24"),
        ),
    ] {
        let mut fake = Fake::new(CAPACITY);
        reconcile(
            &Desired {
                services: vec![before.clone()],
                ..Desired::default()
            },
            &mut fake,
        );
        let common: Vec<u16> = (before.at.port.max(after.at.port)..=before.last_port.min(after.last_port)).collect();
        let steps = step_by_step(
            &Desired {
                services: vec![after.clone()],
                ..Desired::default()
            },
            &mut fake,
            |fake| {
                for port in &common {
                    let index = find(
                        fake,
                        VirtualAddress {
                            port: *port,
                            ..after.at
                        },
                    );
                    let service = &fake.services[&index.unwrap_or_else(|| panic!("port {port} leads nowhere"))];
                    assert_eq!(service.ring.length(), 1, "port {port} leads to no backend");
                }
            },
        );
        assert!(steps > 0);
        for (port, reachable) in [
            (before.at.port, common.contains(&before.at.port)),
            (after.last_port, true),
        ] {
            let found = find(&fake, VirtualAddress { port, ..after.at });
            assert_eq!(
                found.is_some(),
                reachable,
                "{port} of {}-{}",
                after.at.port,
                after.last_port
            );
        }
    }
}

#[test]
fn a_single_port_within_a_range_wins() {
    let mut fake = Fake::new(CAPACITY);
    let single = service(8010, Scheduler::RoundRobin, vec![backend(1, 1, Some(BackendState::Up))]);
    let range = ranged(service(8000, Scheduler::RoundRobin, vec![]), 8099);
    let same_first = service(8000, Scheduler::RoundRobin, vec![]);
    let desired = Desired {
        services: vec![range.clone(), single.clone(), same_first.clone()],
        ..Desired::default()
    };
    reconcile(&desired, &mut fake);
    assert_eq!(find(&fake, own_port(&single)), Some(index_of(&fake, &single)));
    assert_eq!(find(&fake, own_port(&range)), Some(index_of(&fake, &range)));
    assert_eq!(find(&fake, own_port(&same_first)), Some(index_of(&fake, &same_first)));
    assert_eq!(fake.services.len(), 3);
}

#[test]
fn a_backend_with_another_tunnel_gets_a_new_entry_and_the_state_it_had() {
    let mut fake = Fake::new(CAPACITY);
    let desired = |source, state| Desired {
        services: vec![in_mode(
            service(80, Scheduler::RoundRobin, vec![backend(1, 1, state)]),
            Mode::Ipip,
            source,
        )],
        ..Desired::default()
    };
    reconcile(&desired("10.9.0.0/24", Some(BackendState::Up)), &mut fake);
    let before = fake.backends.clone();
    // Its health is unknown: the state of its former entry is the better information.
    let after = desired("10.9.1.0/24", None);
    reconcile(&after, &mut fake);
    let service = &fake.services[&index_of(&fake, &after.services[0])];
    let index = fake.rings[&service.ring.offset()].backend;
    assert!(!before.contains_key(&index), "a new entry");
    assert_eq!(fake.backends[&index].tunnel_source[0].to_ne_bytes(), [10, 9, 1, 0]);
    assert_eq!(
        fake.backends[&0].status.state(),
        BackendState::Free,
        "the old one is let go"
    );
    assert_eq!(plan(&after, &observe(&fake).unwrap()).steps, []);
}

#[test]
fn a_mode_change_is_never_half_applied() {
    let mut fake = Fake::new(CAPACITY);
    let desired = |mode| Desired {
        services: vec![in_mode(
            service(80, Scheduler::RoundRobin, vec![backend(1, 1, Some(BackendState::Up))]),
            mode,
            "10.9.0.0/24",
        )],
        ..Desired::default()
    };
    reconcile(&desired(Mode::Nat), &mut fake);
    let at = desired(Mode::Nat).services[0].at;
    step_by_step(&desired(Mode::Gue), &mut fake, |fake| {
        let service = &fake.services[&find(fake, at).unwrap()];
        let backend = &fake.backends[&fake.rings[&service.ring.offset()].backend];
        assert_eq!(service.mode, backend.mode);
        assert_eq!(backend.mode == Mode::Gue as u8, backend.tunnel_port.host() == 6080);
    });
    assert_arrived(&desired(Mode::Gue), &fake);
}

#[test]
fn a_service_with_a_new_mode_takes_flows_before_its_health_is_known() {
    let mut fake = Fake::new(CAPACITY);
    let desired = |mode, state| Desired {
        services: vec![in_mode(
            service(80, Scheduler::RoundRobin, vec![backend(1, 1, state)]),
            mode,
            "10.9.0.0/24",
        )],
        ..Desired::default()
    };
    reconcile(&desired(Mode::Nat, Some(BackendState::Up)), &mut fake);
    // As after a restart, which is how a mode changes.
    let after = desired(Mode::Dsr, None);
    reconcile(&after, &mut fake);
    assert_eq!(
        shares(&fake, &after.services[0]),
        [after.services[0].backends[0].address]
    );
}

#[test]
fn swapped_lists_never_refuse_a_source_that_both_allow() {
    let with = |guard| Desired {
        services: vec![DesiredService {
            guard,
            ..service(80, Scheduler::RoundRobin, vec![])
        }],
        ..Desired::default()
    };
    for (before, after) in [
        (
            guard(&["10.0.0.0/8"], &["10.1.0.0/16"]),
            guard(&["10.1.0.0/16"], &["10.0.0.0/8"]),
        ),
        (guard(&["10.0.0.0/8"], &[]), guard(&["192.168.0.0/16"], &[])),
        (guard(&[], &[]), guard(&["10.0.0.0/8"], &[])),
        (guard(&["10.0.0.0/8"], &[]), guard(&[], &[])),
        (guard(&["10.0.0.0/8"], &[]), guard(&[], &["10.0.0.0/8"])),
    ] {
        let mut fake = Fake::new(CAPACITY);
        reconcile(&with(before), &mut fake);
        // The fake checks after each step that no allow list in use is empty.
        step_by_step(&with(after.clone()), &mut fake, |_| {});
        assert_arrived(&with(after), &fake);
    }
}

#[test]
fn list_entries_of_a_crashed_process_do_not_apply_to_the_next_service() {
    let mut fake = Fake::new(CAPACITY);
    let guarded = crate::reconcile::Guarded {
        service: 0,
        sources: "10.0.0.0/8".parse().unwrap(),
    };
    fake.guards.insert(guarded, GuardVerdict::Deny);
    let desired = Desired {
        services: vec![DesiredService {
            guard: guard(&["10.0.0.0/9"], &[]),
            ..service(80, Scheduler::RoundRobin, vec![])
        }],
        ..Desired::default()
    };
    step_by_step(&desired, &mut fake, |fake| {
        assert!(fake.listed.is_empty() || !fake.guards.contains_key(&guarded));
    });
    assert_arrived(&desired, &fake);
}

#[test]
fn addresses_that_collide_keep_the_class_of_those_that_stay() {
    let mut fake = Fake::new(CAPACITY);
    let two = Desired {
        services: vec![
            service(80, Scheduler::RoundRobin, vec![]),
            service(81, Scheduler::RoundRobin, vec![]),
        ],
        ..Desired::default()
    };
    reconcile(&two, &mut fake);
    let one = Desired {
        services: two.services[..1].to_vec(),
        ..Desired::default()
    };
    reconcile(&one, &mut fake);
    assert_arrived(&one, &fake);
    reconcile(&Desired::default(), &mut fake);
    assert_eq!(fake.classes.len(), 0);
}

#[test]
fn a_maglev_ring_is_switched_in_one_write() {
    let mut fake = Fake::new(Capacity {
        ring_slots: 2 * lb_common::service::MAGLEV_SLOTS,
        ..CAPACITY
    });
    let with = |hosts: std::ops::Range<u8>| Desired {
        services: vec![service(
            80,
            Scheduler::Maglev,
            hosts.map(|host| backend(host, 1, Some(BackendState::Up))).collect(),
        )],
        ..Desired::default()
    };
    reconcile(&with(1..4), &mut fake);
    let plan = plan(&with(1..3), &observe(&fake).unwrap());
    assert_eq!(plan.problems, Vec::<String>::new());
    let switches = plan.steps.iter().filter(|step| matches!(step, Step::SetRing { .. }));
    assert_eq!(switches.count(), 1);
    assert!(
        plan.steps
            .iter()
            .any(|step| matches!(step, Step::FillRing { slots, .. } if slots.len() == 65537))
    );
}
