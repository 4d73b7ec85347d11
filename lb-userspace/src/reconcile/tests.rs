//! Reconciliation against maps in memory: it arrives, from anywhere, also when it dies on the way.

use std::net::{IpAddr, SocketAddr};

use lb_common::{BackendState, Mode, NextHop, OnBackendDown, Scheduler};
use proptest::prelude::*;

use super::{
    Desired, Step, apply,
    desired::{DesiredBackend, DesiredService},
    fake::Fake,
    observe, plan,
    store::Room,
};
use crate::{config::PortRange, dataplane::VirtualAddress};

const ROOM: Room = Room {
    services: 8,
    backends: 24,
    ring_slots: 400,
};

fn reconcile(desired: &Desired, fake: &mut Fake) -> Vec<String> {
    let plan = plan(desired, &observe(fake).unwrap());
    // A process that dies loses the rest of the plan; the error is what that looks like here.
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
        mode: Mode::Nat,
        scheduler,
        on_backend_down: OnBackendDown::Reset,
        sources: vec![address],
        nat_ports: PortRange {
            low: 20000,
            high: 29999,
        },
        backends,
    }
}

fn backend(host: u8, weight: u32, state: Option<BackendState>) -> DesiredBackend {
    let address = SocketAddr::new(IpAddr::from([10, 0, 0, host]), 80);
    let next_hop = (!host.is_multiple_of(3)).then(|| NextHop::new(2, [2; 6], [host; 6]));
    DesiredBackend {
        address,
        weight,
        state,
        next_hop,
    }
}

fn any_backend() -> impl Strategy<Value = DesiredBackend> {
    let state = prop_oneof![
        4 => Just(Some(BackendState::Up)),
        1 => Just(Some(BackendState::Down)),
        1 => Just(Some(BackendState::Draining)),
        1 => Just(None),
    ];
    (1_u8..6, 0_u32..5, state).prop_map(|(host, weight, state)| backend(host, weight, state))
}

fn any_service() -> impl Strategy<Value = DesiredService> {
    let scheduler = prop_oneof![Just(Scheduler::RoundRobin), Just(Scheduler::LeastConnection)];
    (
        1_u16..6,
        scheduler,
        prop::collection::vec(any_backend(), 0..5),
        any::<bool>(),
    )
        .prop_map(|(port, scheduler, mut backends, hold)| {
            backends.sort_by_key(|backend| backend.address);
            backends.dedup_by_key(|backend| backend.address);
            let mut service = service(port, scheduler, backends);
            service.on_backend_down = if hold {
                OnBackendDown::Hold
            } else {
                OnBackendDown::Reset
            };
            service
        })
}

fn any_desired() -> impl Strategy<Value = Desired> {
    prop::collection::vec(any_service(), 0..5).prop_map(|mut services| {
        services.sort_by_key(|service| service.at);
        services.dedup_by_key(|service| service.at);
        Desired { services }
    })
}

/// What a client of the service would be given, by address.
fn shares(fake: &Fake, service: &DesiredService) -> Vec<SocketAddr> {
    let entry = fake.services[&fake.listed[&service.at]];
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
    assert_eq!(fake.listed.len(), desired.services.len());
    for service in &desired.services {
        let up = service
            .backends
            .iter()
            .filter(|b| b.state == Some(BackendState::Up) && b.weight > 0);
        let mut expected: Vec<_> = up.map(|backend| backend.address).collect();
        expected.sort_unstable();
        let unknown: Vec<_> = service
            .backends
            .iter()
            .filter(|b| b.state.is_none())
            .map(|backend| backend.address)
            .collect();
        let mut found = shares(fake, service);
        // A backend whose state is not known keeps the one it had.
        found.retain(|address| !unknown.contains(address));
        assert_eq!(found, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_sequence_of_desired_states_is_reached_and_then_nothing_is_left_to_do(
        sequence in prop::collection::vec(any_desired(), 1..6),
    ) {
        let mut fake = Fake::new(ROOM);
        for desired in &sequence {
            prop_assert_eq!(reconcile(desired, &mut fake), Vec::<String>::new());
            assert_arrived(desired, &fake);
            let again = plan(desired, &observe(&fake).unwrap());
            prop_assert_eq!(again.steps, Vec::<Step>::new());
        }
    }

    #[test]
    fn a_death_after_any_write_heals_with_the_next_start(
        first in any_desired(),
        second in any_desired(),
        third in any_desired(),
        deaths in prop::collection::vec(0_usize..20, 2),
    ) {
        let mut fake = Fake::new(ROOM);
        for (desired, death) in [&first, &second].into_iter().zip(deaths) {
            fake.budget = death;
            reconcile(desired, &mut fake);
            fake.budget = usize::MAX;
            // A start takes longer than any packet.
            super::Store::settle(&mut fake).unwrap();
        }
        prop_assert_eq!(reconcile(&third, &mut fake), Vec::<String>::new());
        assert_arrived(&third, &fake);
    }
}

#[test]
fn a_backend_that_goes_down_leaves_the_ring_before_its_flows_are_refused() {
    let mut fake = Fake::new(ROOM);
    let up = |state| Desired {
        services: vec![service(
            80,
            Scheduler::RoundRobin,
            vec![backend(1, 1, Some(BackendState::Up)), backend(2, 1, state)],
        )],
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
fn a_backend_of_unknown_health_stays_as_it_is_and_a_new_one_waits() {
    let mut fake = Fake::new(ROOM);
    let with = |state| Desired {
        services: vec![service(80, Scheduler::RoundRobin, vec![backend(1, 1, state)])],
    };
    reconcile(&with(None), &mut fake);
    assert_eq!(shares(&fake, &with(None).services[0]), []);
    reconcile(&with(Some(BackendState::Up)), &mut fake);
    reconcile(&with(None), &mut fake);
    assert_eq!(shares(&fake, &with(None).services[0]).len(), 1);
}

#[test]
fn an_unchanged_service_is_not_touched_when_another_changes() {
    let mut fake = Fake::new(ROOM);
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
    };
    reconcile(&desired(1), &mut fake);
    let untouched = fake.services[&fake.listed[&desired(1).services[0].at]];
    let plan = plan(&desired(3), &observe(&fake).unwrap());
    assert_eq!(plan.steps.len(), 3, "a new ring, its switch, and a wait: {plan:?}");
    apply(&plan, &mut fake).unwrap();
    assert_eq!(fake.services[&fake.listed[&desired(1).services[0].at]], untouched);
}

#[test]
fn what_does_not_fit_is_named_and_the_rest_is_done() {
    let mut fake = Fake::new(Room {
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
    };
    let problems = reconcile(&desired, &mut fake);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(
        shares(&fake, &desired.services[0]),
        [desired.services[0].backends[0].address]
    );
}
