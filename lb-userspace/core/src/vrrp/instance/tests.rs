//! How an instance reacts to time, adverts, echo replies and operators.

use super::*;

const SECOND: Micros = 1_000_000;

fn parameters(priority: u8) -> Parameters {
    Parameters {
        version: 3,
        priority,
        interval: SECOND,
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
        interval: SECOND,
        addresses: Vec::new(),
        password: None,
    }
}

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

/// A backup that started at 0.
fn backup(parameters: Parameters) -> Instance {
    let mut instance = Instance::new(parameters);
    instance.start(0, false);
    assert_eq!(instance.role(), Role::Backup);
    instance
}

#[test]
fn a_backup_takes_over_when_no_master_is_heard() {
    let mut instance = backup(parameters(100));
    // 3 intervals and (256 - 100) / 256 of one.
    assert_eq!(instance.deadline(), Some(3_609_375));
    assert_eq!(instance.tick(3_609_374), []);
    let actions = instance.tick(3_609_375);
    assert_eq!(actions[0], Action::SendAdvert(100));
    assert!(matches!(&actions[1], Action::Become(Role::Master, _)));
    assert_eq!(actions[2], Action::Announce);
    assert_eq!(instance.deadline(), Some(4_609_375));
    assert_eq!(instance.tick(4_609_375), [Action::SendAdvert(100)]);
}

#[test]
fn adverts_set_the_timer_of_a_backup() {
    // Own priority, preempt, delay in seconds; priority heard at 1 s; then the deadline.
    for (priority, preempt, delay, heard, deadline) in [
        (100, true, 0, 100, SECOND + 3_609_375),
        (100, true, 0, 200, SECOND + 3_609_375),
        (100, true, 0, 99, 3_609_375),
        (100, false, 0, 99, SECOND + 3_609_375),
        (100, true, 5, 99, SECOND + 3_609_375),
        (100, true, 0, 0, SECOND + 609_375),
    ] {
        let given = Parameters {
            preempt,
            preempt_delay: delay * SECOND,
            ..parameters(priority)
        };
        let mut instance = backup(given);
        assert_eq!(
            instance.handle_advert(address(9), address(1), &advert(heard), SECOND),
            []
        );
        assert_eq!(
            instance.deadline(),
            Some(deadline),
            "{priority} {preempt} {delay} {heard}"
        );
    }
}

#[test]
fn a_backup_preempts_when_the_delay_is_over() {
    let given = Parameters {
        preempt_delay: 5 * SECOND,
        ..parameters(100)
    };
    let mut instance = backup(given);
    for second in 1..=5 {
        instance.handle_advert(address(9), address(1), &advert(50), second * SECOND);
    }
    let deadline = instance.deadline().unwrap();
    instance.handle_advert(address(9), address(1), &advert(50), 6 * SECOND);
    assert_eq!(instance.deadline(), Some(deadline), "the timer keeps running");
    assert!(!instance.tick(deadline).is_empty());
    assert_eq!(instance.role(), Role::Master);
}

#[test]
fn a_takeover_has_a_cause_and_a_preempting_backup_is_ready_before_its_advert() {
    let given = |grace| Parameters {
        grace,
        ..parameters(100)
    };
    let master = address(9);
    let hear = |instance: &mut Instance, priority, at| {
        instance.handle_advert(master, address(1), &advert(priority), at);
    };
    let reply = |instance: &mut Instance, lease_age| {
        // When an echo is due because adverts are missing.
        let probed = instance.deadline().unwrap();
        instance.tick(probed);
        let reply = EchoReply {
            from: master,
            holds_lease: true,
            lease_age,
        };
        instance.handle_echo_reply(reply, probed);
    };
    // What happens to a backup that starts at 0, the cause, and whether it is ready before its
    // advert.
    type Story<'a> = &'a dyn Fn(&mut Instance);
    let stories: [(Micros, Story<'_>, &str, bool); 5] = [
        (0, &|_| {}, "became master: no adverts for 3.6 s", false),
        (
            0,
            &|instance| hear(instance, 200, SECOND),
            "became master: no adverts from 192.0.2.9 for 3.6 s",
            false,
        ),
        (
            0,
            &|instance| {
                hear(instance, 200, SECOND);
                hear(instance, 0, 2 * SECOND);
            },
            "became master: 192.0.2.9 resigned",
            false,
        ),
        (
            0,
            &|instance| (1..=3).for_each(|second| hear(instance, 50, second * SECOND)),
            "became master: preempted 192.0.2.9 (priority 50)",
            true,
        ),
        (
            SECOND,
            &|instance| {
                hear(instance, 200, SECOND);
                reply(instance, 2 * SECOND);
            },
            "became master: the controller of 192.0.2.9 did not return",
            false,
        ),
    ];
    for (grace, story, cause, is_first) in stories {
        let mut instance = backup(given(grace));
        story(&mut instance);
        let actions = loop {
            let actions = instance.tick(instance.deadline().unwrap());
            if instance.role() == Role::Master {
                break actions;
            }
        };
        let became = actions
            .iter()
            .position(|action| matches!(action, Action::Become(..)))
            .unwrap();
        assert_eq!(actions[became], Action::Become(Role::Master, cause.to_owned()));
        let sent = actions
            .iter()
            .position(|action| *action == Action::SendAdvert(100))
            .unwrap();
        assert_eq!(became < sent, is_first, "{cause}");
    }
}

#[test]
fn a_master_yields_to_better_masters_and_replies_to_others() {
    for (heard, from, yields) in [(101, 9, true), (100, 9, true), (100, 0, false), (99, 9, false)] {
        let mut instance = backup(parameters(100));
        instance.tick(4 * SECOND);
        let actions = instance.handle_advert(address(from), address(1), &advert(heard), 5 * SECOND);
        if yields {
            assert!(
                matches!(&actions[..], [Action::SendAdvert(100), Action::Become(Role::Backup, _)]),
                "{heard} {from}"
            );
            assert_eq!(instance.deadline(), Some(5 * SECOND + 3_609_375));
        } else {
            assert_eq!(actions, [Action::SendAdvert(100), Action::Announce], "{heard} {from}");
        }
    }
    let mut instance = backup(parameters(100));
    instance.tick(4 * SECOND);
    let actions = instance.handle_advert(address(9), address(1), &advert(0), 5 * SECOND);
    assert_eq!(
        actions,
        [Action::SendAdvert(100)],
        "a resigning master learns of this one"
    );
}

#[test]
fn replies_to_a_storm_of_adverts_are_limited() {
    // Priority of the adverts. Adverts and announcements sent while they come for five seconds, and
    // shortly after.
    for (heard, adverts, announcements) in [(99, 10, 51), (0, 10, 0)] {
        let mut master = backup(parameters(100));
        master.tick(4 * SECOND);
        let (begin, end) = (4_300_000, 9_300_000);
        let mut sent = Vec::new();
        let mut announced = Vec::new();
        let mut note = |now, actions: Vec<Action>| {
            for action in actions {
                match action {
                    Action::SendAdvert(_) => sent.push(now),
                    Action::Announce => announced.push(now),
                    other => panic!("{other:?}"),
                }
            }
        };
        for now in (begin..end).step_by(500) {
            while let Some(deadline) = master.deadline().filter(|deadline| *deadline <= now) {
                note(deadline, master.tick(deadline));
            }
            note(now, master.handle_advert(address(9), address(1), &advert(heard), now));
        }
        while let Some(deadline) = master.deadline().filter(|deadline| *deadline < end + SECOND / 4) {
            note(deadline, master.tick(deadline));
        }
        assert_eq!((sent.len(), announced.len()), (adverts, announcements), "{heard}");
        assert_eq!(sent[0], begin, "the first reply is immediate");
        let gaps = sent.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| gap <= SECOND), "{sent:?}");
        if heard != 0 {
            assert_eq!(announced[0], begin);
            let last = announced.last().copied().unwrap();
            assert!(last >= end - 500, "clients may follow the last advert: {last}");
            assert!(announced.windows(2).all(|pair| pair[1] - pair[0] >= 100_000));
        }
    }
}

#[test]
fn a_master_that_yields_announces_nothing_later() {
    let mut master = backup(parameters(100));
    master.tick(4 * SECOND);
    for moment in [1, 2] {
        master.handle_advert(address(9), address(1), &advert(99), 4 * SECOND + moment);
    }
    assert_eq!(master.deadline(), Some(4 * SECOND + 1 + 100_000));
    master.handle_advert(address(8), address(1), &advert(200), 4 * SECOND + 3);
    assert_eq!(master.deadline(), Some(4 * SECOND + 3 + 3_609_375));
}

#[test]
fn an_owner_starts_as_master_and_a_stopping_master_resigns() {
    let mut instance = Instance::new(parameters(255));
    let actions = instance.start(0, false);
    assert_eq!(actions[0], Action::SendAdvert(255));
    assert_eq!(instance.role(), Role::Master);
    let actions = instance.stop(Inactive::Waiting, "the daemon stops");
    assert_eq!(actions[0], Action::SendAdvert(0));
    assert!(matches!(&actions[1], Action::Become(Role::Initialize, _)));
    assert_eq!((instance.role(), instance.deadline()), (Role::Initialize, None));
    assert_eq!(instance.tick(9 * SECOND), []);
    assert_eq!(
        backup(parameters(1)).stop(Inactive::Fault, "x").len(),
        1,
        "a backup does not resign"
    );
}

#[test]
fn an_owner_yields_to_nobody() {
    let given = Parameters {
        preempt: false,
        ..parameters(255)
    };
    let mut owner = Instance::new(given);
    owner.start(0, false);
    let actions = owner.handle_advert(address(9), address(1), &advert(255), SECOND);
    assert_eq!(
        actions,
        [Action::SendAdvert(255), Action::Announce],
        "it asserts its role"
    );
    assert_eq!(owner.role(), Role::Master);
    // After maintenance it takes its addresses back from any master.
    owner.maintain(true, 2 * SECOND);
    owner.maintain(false, 3 * SECOND);
    let deadline = owner.deadline();
    for heard in [100, 255] {
        owner.handle_advert(address(9), address(1), &advert(heard), 4 * SECOND);
        assert_eq!(owner.defers_until(4 * SECOND), None);
    }
    assert_eq!(owner.deadline(), deadline, "the timer keeps running");
    owner.tick(deadline.unwrap());
    assert_eq!(owner.role(), Role::Master);
}

#[test]
fn an_instance_that_holds_the_lease_stays_master() {
    let mut instance = Instance::new(parameters(100));
    let actions = instance.start(0, true);
    assert_eq!(actions[0], Action::SendAdvert(100));
    assert_eq!(instance.role(), Role::Master);
}

/// A backup that has just heard a master of priority 200 at second 1, with a grace of 10 seconds.
fn graced() -> Instance {
    let mut instance = backup(Parameters {
        grace: 10 * SECOND,
        ..parameters(100)
    });
    let actions = instance.handle_advert(address(9), address(1), &advert(200), SECOND);
    assert_eq!(
        actions,
        [Action::SendEcho(address(9))],
        "the first echo resolves its link-layer address"
    );
    instance.handle_advert(address(9), address(1), &advert(200), SECOND + 10);
    instance
}

#[test]
fn missing_adverts_cause_echoes() {
    let mut instance = graced();
    let mut echoes = Vec::new();
    while let Some(deadline) = instance.deadline() {
        let actions = instance.tick(deadline);
        if instance.role() == Role::Master {
            assert_eq!(
                deadline,
                SECOND + 10 + 3_609_375,
                "without replies, the down interval applies"
            );
            break;
        }
        assert_eq!(actions, [Action::SendEcho(address(9))]);
        echoes.push(deadline);
    }
    assert_eq!(echoes[0], SECOND + 10 + 1_500_000);
    assert_eq!(echoes[1], echoes[0] + 250_000);
}

#[test]
fn a_master_whose_packet_path_replies_stays_for_the_grace() {
    let reply_with = |holds_lease, lease_age| EchoReply {
        from: address(9),
        holds_lease,
        lease_age,
    };
    // The reply, and whether the master stays beyond the down interval.
    for (reply, stays) in [
        (reply_with(true, SECOND), true),
        (reply_with(false, SECOND), false),
        (reply_with(true, 11 * SECOND), false),
        (
            EchoReply {
                from: address(8),
                ..reply_with(true, SECOND)
            },
            false,
        ),
    ] {
        let mut instance = graced();
        while instance.deadline().is_some_and(|deadline| deadline < 4 * SECOND) {
            instance.tick(instance.deadline().unwrap());
        }
        instance.handle_echo_reply(reply, 4 * SECOND);
        instance.tick(4_700_000);
        assert_eq!(instance.role() == Role::Backup, stays, "{reply:?}");
        assert_eq!(instance.is_in_grace(4_700_000), stays);
        // However late this balancer is.
        let mut echoes = 0;
        for second in 60.. {
            if instance.role() == Role::Master {
                break;
            }
            instance.tick(second * SECOND);
            echoes += 1;
        }
        // Eight echoes without a reply. Then better backups go first.
        assert_eq!(echoes, if stays { 9 } else { 0 }, "a reply does not last: {reply:?}");
    }
}

#[test]
fn an_unexpected_reply_does_not_postpone_the_takeover() {
    let mut instance = backup(Parameters {
        grace: 60 * SECOND,
        ..parameters(100)
    });
    // A worse master is preempted without echoes.
    instance.handle_advert(address(9), address(1), &advert(50), SECOND);
    let reply = EchoReply {
        from: address(9),
        holds_lease: true,
        lease_age: 0,
    };
    instance.handle_echo_reply(reply, SECOND);
    let deadline = instance.deadline().expect("it takes over");
    instance.tick(deadline);
    assert_eq!(instance.role(), Role::Master);
    // A reply to an echo that was sent while adverts came does not count either.
    let mut instance = graced();
    instance.handle_echo_reply(reply, SECOND + 20);
    while instance.role() == Role::Backup {
        instance.tick(instance.deadline().unwrap());
    }
    assert_eq!(instance.deadline(), Some(SECOND + 10 + 3_609_375 + SECOND));
}

#[test]
fn of_several_waiting_backups_the_better_one_is_first() {
    // Either the controller does not return, or the packet path stops replying.
    for is_silent in [false, true] {
        // The worse backup sends its echoes a little earlier.
        let mut others = [(150, 20), (50, 0)].map(|(priority, later)| {
            let mut instance = backup(Parameters {
                grace: 10 * SECOND,
                ..parameters(priority)
            });
            for moment in [0, 10] {
                instance.handle_advert(address(9), address(1), &advert(200), SECOND + moment + later);
            }
            instance
        });
        let first = loop {
            let next = others.iter_mut().min_by_key(|instance| instance.deadline()).unwrap();
            let now = next.deadline().unwrap();
            if next.tick(now) == [Action::SendEcho(address(9))] && !(is_silent && now > 8 * SECOND) {
                let reply = EchoReply {
                    from: address(9),
                    holds_lease: true,
                    lease_age: now - SECOND,
                };
                next.handle_echo_reply(reply, now);
            }
            if next.role() == Role::Master {
                break next.priority();
            }
        };
        assert_eq!(first, 150, "{is_silent}");
    }
}

#[test]
fn a_backup_that_slept_sends_echoes_before_it_takes_over() {
    let mut instance = graced();
    for second in [20, 40, 60] {
        assert_eq!(instance.tick(second * SECOND), [Action::SendEcho(address(9))]);
    }
    instance.tick(80 * SECOND);
    assert_eq!(instance.role(), Role::Master);
}

#[test]
fn of_two_masters_the_resignation_of_one_does_not_concern_the_other() {
    let mut instance = backup(parameters(100));
    instance.handle_advert(address(8), address(1), &advert(200), SECOND);
    instance.handle_advert(address(9), address(1), &advert(150), SECOND + 100);
    assert_eq!(instance.master(), Some((address(8), 200)));
    let deadline = instance.deadline();
    instance.handle_advert(address(9), address(1), &advert(0), SECOND + 200);
    assert_eq!(instance.deadline(), deadline);
    // The better master is gone, and the other one has taken over.
    instance.handle_advert(address(9), address(1), &advert(150), 4 * SECOND);
    assert_eq!(instance.master(), Some((address(9), 150)));
    instance.handle_advert(address(9), address(1), &advert(0), 5 * SECOND);
    assert_eq!(instance.deadline(), Some(5 * SECOND + 609_375));
}

#[test]
fn a_late_advert_does_not_delay_those_after_it() {
    let mut instance = backup(parameters(200));
    instance.tick(4 * SECOND);
    // When it ticks, and when the next advert is due. A missed advert is not sent later.
    for (at, next) in [
        (5 * SECOND + 1, 6 * SECOND),
        (6 * SECOND + 900_000, 7 * SECOND),
        (8 * SECOND + 1, 9 * SECOND + 1),
    ] {
        assert_eq!(instance.tick(at), [Action::SendAdvert(200)]);
        assert_eq!(instance.deadline(), Some(next));
    }
}

#[test]
fn a_change_of_rules_is_advertised_at_once() {
    let mut instance = backup(parameters(200));
    instance.tick(4 * SECOND);
    assert_eq!(instance.change(parameters(200), 4_100_000), []);
    assert_eq!(instance.deadline(), Some(5 * SECOND));
    assert_eq!(instance.change(parameters(50), 4_200_000), [Action::SendAdvert(50)]);
    // Backups use the new interval as soon as they know it.
    let shorter = Parameters {
        interval: 10_000,
        ..parameters(50)
    };
    assert_eq!(instance.change(shorter, 4_300_000), [Action::SendAdvert(50)]);
    assert_eq!(instance.deadline(), Some(4_310_000));
}

#[test]
fn operators_release_and_take() {
    let mut instance = backup(parameters(200));
    instance.tick(4 * SECOND);
    let actions = instance.release(5 * SECOND);
    assert_eq!(actions[0], Action::SendAdvert(0));
    assert_eq!(instance.role(), Role::Backup);
    // The other balancer has a lower priority, and is not preempted for a while.
    for second in 6..12 {
        instance.handle_advert(address(9), address(1), &advert(100), second * SECOND);
        assert_eq!(instance.tick(second * SECOND), []);
    }
    let until = (12..30).find(|second| {
        instance.handle_advert(address(9), address(1), &advert(100), second * SECOND);
        !instance.tick(second * SECOND).is_empty()
    });
    assert!(until.is_some(), "it preempts again");
    // It takes over earlier if the new master resigns, but after all other backups.
    let mut instance = backup(parameters(200));
    instance.tick(4 * SECOND);
    instance.release(5 * SECOND);
    instance.handle_advert(address(9), address(1), &advert(100), 6 * SECOND);
    instance.handle_advert(address(9), address(1), &advert(0), 7 * SECOND);
    assert_eq!(instance.deadline(), Some(8 * SECOND + 218_750));
    let mut instance = backup(parameters(50));
    assert_eq!(instance.take(SECOND, "taken")[0], Action::SendAdvert(50));
    assert_eq!(instance.role(), Role::Master);
}
