//! Virtual routers of a sync group have one role.

use super::*;

const INTERVAL: Micros = 100_000;

fn parameters(priority: u8) -> Parameters {
    Parameters {
        version: 3,
        priority,
        interval: INTERVAL,
        preempt: true,
        preempt_delay: 0,
        grace: 0,
    }
}

fn advert(priority: u8) -> Advert {
    Advert {
        version: 3,
        router: 1,
        priority,
        interval: INTERVAL,
        addresses: Vec::new(),
        password: None,
    }
}

fn pair() -> SyncGroup {
    pair_of(parameters(100))
}

fn pair_of(parameters: Parameters) -> SyncGroup {
    let mut group = SyncGroup::new(["a", "b"].map(|name| (name.to_owned(), parameters.clone())));
    assert_eq!(group.ready(0, 0, false), []);
    assert_eq!(
        (group.waits_for(), group.instance(0).role()),
        (Some("b"), Role::Initialize)
    );
    group.ready(1, 0, false);
    assert_eq!(roles(&group), [Role::Backup; 2]);
    group
}

fn roles(group: &SyncGroup) -> Vec<Role> {
    (0..group.len()).map(|index| group.instance(index).role()).collect()
}

fn hear(group: &mut SyncGroup, index: usize, priority: u8, now: Micros) -> Vec<RouterAction> {
    group.handle_advert(
        index,
        [192, 0, 2, 9].into(),
        [192, 0, 2, 1].into(),
        &advert(priority),
        now,
    )
}

#[test]
fn all_virtual_routers_become_master_with_the_first_one() {
    let mut group = pair();
    let deadline = group.deadline().unwrap();
    let actions = group.tick(deadline);
    assert_eq!(roles(&group), [Role::Master; 2]);
    assert_eq!(
        actions.iter().filter(|(_, action)| *action == Action::Announce).count(),
        2
    );
}

#[test]
fn none_becomes_master_while_another_one_hears_a_master() {
    let mut group = pair();
    for tenth in 1..100 {
        let now = tenth * INTERVAL;
        hear(&mut group, 0, 200, now);
        group.tick(now);
        assert_eq!(roles(&group), [Role::Backup; 2], "after {tenth} intervals");
    }
    let deadline = group.deadline().unwrap();
    group.tick(deadline);
    assert_eq!(roles(&group), [Role::Master; 2]);
}

#[test]
fn none_becomes_master_while_the_packet_path_of_another_master_replies() {
    let mut group = pair_of(Parameters {
        grace: 100 * INTERVAL,
        ..parameters(100)
    });
    for index in [0, 1] {
        hear(&mut group, index, 200, INTERVAL);
    }
    let reply = |now| EchoReply {
        from: [192, 0, 2, 9].into(),
        holds_lease: true,
        lease_age: now,
    };
    let mut masters_at = None;
    while masters_at.is_none() {
        let now = group.deadline().unwrap();
        group.tick(now);
        // It replies in one of the networks only.
        if now < 50 * INTERVAL {
            group.handle_echo_reply(1, reply(now), now);
        }
        masters_at = roles(&group).contains(&Role::Master).then_some(now);
    }
    assert_eq!(roles(&group), [Role::Master; 2]);
    let until = 50 * INTERVAL..54 * INTERVAL;
    assert!(masters_at.is_some_and(|at| until.contains(&at)), "{masters_at:?}");
}

#[test]
fn one_that_yields_makes_the_others_resign() {
    let mut group = pair();
    group.tick(4 * INTERVAL);
    let actions = hear(&mut group, 0, 200, 5 * INTERVAL);
    assert_eq!(roles(&group), [Role::Backup; 2]);
    assert!(actions.contains(&(1, Action::SendAdvert(0))), "{actions:?}");
    assert!(
        !actions.contains(&(0, Action::SendAdvert(0))),
        "the better master is known: {actions:?}"
    );
}

#[test]
fn a_group_that_owns_its_addresses_yields_to_nobody() {
    let mut group = SyncGroup::new(["a", "b"].map(|name| (name.to_owned(), parameters(255))));
    group.ready(0, 0, false);
    group.ready(1, 0, false);
    assert_eq!(roles(&group), [Role::Master; 2]);
    let actions = hear(&mut group, 0, 255, INTERVAL);
    assert_eq!(roles(&group), [Role::Master; 2]);
    assert_eq!(actions[0], (0, Action::SendAdvert(255)), "{actions:?}");
}

#[test]
fn a_preempting_group_enters_all_roles_before_its_first_advert() {
    let mut group = pair();
    let mut actions = Vec::new();
    for tenth in 1..=5 {
        for index in [0, 1] {
            actions.extend(hear(&mut group, index, 50, tenth * INTERVAL));
        }
        actions.extend(group.tick(tenth * INTERVAL));
    }
    let is_place = |(_, action): &RouterAction| matches!(action, Action::Become(Role::Master, _));
    let [places, sends] = [is_place, |(_, action): &RouterAction| {
        matches!(action, Action::SendAdvert(_))
    }]
    .map(|is: fn(&RouterAction) -> bool| {
        actions
            .iter()
            .enumerate()
            .filter(|(_, act)| is(act))
            .map(|(at, _)| at)
            .collect::<Vec<_>>()
    });
    assert_eq!(roles(&group), [Role::Master; 2]);
    assert!(places.len() == 2 && places[1] < sends[0], "{actions:?}");
}

#[test]
fn one_inactive_virtual_router_keeps_all_inactive() {
    let mut group = pair();
    group.tick(4 * INTERVAL);
    let actions = group.deactivate(1, Inactive::Fault, "the interface is down");
    assert_eq!(roles(&group), [Role::Initialize; 2]);
    assert!(actions.contains(&(0, Action::SendAdvert(0))), "{actions:?}");
    let cause = "b of the sync group: the interface is down".to_owned();
    assert!(
        actions.contains(&(0, Action::Become(Role::Fault, cause))),
        "{actions:?}"
    );
    group.ready(1, 9 * INTERVAL, false);
    assert_eq!(roles(&group), [Role::Backup; 2]);
}

#[test]
fn a_master_that_resigns_in_one_resigns_in_all() {
    let mut group = pair();
    hear(&mut group, 0, 200, INTERVAL);
    hear(&mut group, 1, 200, INTERVAL);
    hear(&mut group, 1, 0, 2 * INTERVAL);
    let deadline = group.deadline().unwrap();
    assert!(deadline < 3 * INTERVAL, "the skew time is enough");
    group.tick(deadline);
    assert_eq!(roles(&group), [Role::Master; 2]);
}

#[test]
fn a_maintained_group_stays_backup() {
    let mut group = pair();
    group.tick(4 * INTERVAL);
    let actions = group.maintain(true, 5 * INTERVAL);
    assert_eq!(
        actions
            .iter()
            .filter(|(_, action)| *action == Action::SendAdvert(0))
            .count(),
        2
    );
    assert_eq!((roles(&group), group.deadline()), (vec![Role::Backup; 2], None));
    assert_eq!(group.take(6 * INTERVAL), []);
    group.maintain(false, 7 * INTERVAL);
    let deadline = group.deadline().unwrap();
    group.tick(deadline);
    assert_eq!(roles(&group), [Role::Master; 2]);
}
