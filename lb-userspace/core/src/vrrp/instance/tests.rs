//! What an instance makes of time, adverts, answers and operators.

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

/// A backup of that priority that has just begun, at 0.
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
fn what_a_backup_makes_of_adverts() {
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
fn a_delayed_preemption_comes_when_the_delay_is_over() {
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
    assert_eq!(instance.deadline(), Some(deadline), "the timer goes on");
    assert!(!instance.tick(deadline).is_empty());
    assert_eq!(instance.role(), Role::Master);
}

#[test]
fn whoever_takes_over_says_why_and_is_in_place_first_where_a_master_serves() {
    let given = |grace| Parameters {
        grace,
        ..parameters(100)
    };
    let master = address(9);
    let hear = |instance: &mut Instance, priority, at| {
        instance.handle_advert(master, address(1), &advert(priority), at);
    };
    let answer = |instance: &mut Instance, lease_age| {
        // When it is asked because adverts are missing.
        let asked = instance.deadline().unwrap();
        instance.tick(asked);
        let answer = EchoReply {
            from: master,
            holds_lease: true,
            lease_age,
        };
        instance.handle_echo_reply(answer, asked);
    };
    // What happens to a backup that begins at 0; the reason, and whether the addresses are there before the advert.
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
                answer(instance, 2 * SECOND);
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
fn a_master_yields_to_who_is_better_and_tells_who_is_not() {
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
        "who gives up hears that somebody is there"
    );
}

#[test]
fn a_storm_of_adverts_is_answered_at_a_pace() {
    // The priority of the adverts; adverts and announcements in the five seconds that they go on, and shortly after.
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
        assert_eq!(sent[0], begin, "the other one hears of it at once");
        let gaps = sent.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| gap <= SECOND), "{sent:?}");
        if heard != 0 {
            assert_eq!(announced[0], begin);
            let last = announced.last().copied().unwrap();
            assert!(last >= end - 500, "clients may have believed the last one: {last}");
            assert!(announced.windows(2).all(|pair| pair[1] - pair[0] >= 100_000));
        }
    }
}

#[test]
fn whoever_yields_announces_nothing_any_more() {
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
fn a_master_that_stops_says_so_and_an_owner_begins_as_master() {
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
        "a backup has nothing to give up"
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
        "it asserts itself"
    );
    assert_eq!(owner.role(), Role::Master);
    // After maintenance it takes back what is its own, from whomever.
    owner.maintain(true, 2 * SECOND);
    owner.maintain(false, 3 * SECOND);
    let deadline = owner.deadline();
    for heard in [100, 255] {
        owner.handle_advert(address(9), address(1), &advert(heard), 4 * SECOND);
        assert_eq!(owner.defers_until(4 * SECOND), None);
    }
    assert_eq!(owner.deadline(), deadline, "the timer goes on");
    owner.tick(deadline.unwrap());
    assert_eq!(owner.role(), Role::Master);
}

#[test]
fn who_still_holds_the_lease_goes_on_as_master() {
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
        "it is asked at once, to know how to reach it"
    );
    instance.handle_advert(address(9), address(1), &advert(200), SECOND + 10);
    instance
}

#[test]
fn a_master_whose_adverts_are_missing_is_asked() {
    let mut instance = graced();
    let mut asked = Vec::new();
    while let Some(deadline) = instance.deadline() {
        let actions = instance.tick(deadline);
        if instance.role() == Role::Master {
            assert_eq!(
                deadline,
                SECOND + 10 + 3_609_375,
                "who does not answer is gone at the time of the protocol"
            );
            break;
        }
        assert_eq!(actions, [Action::SendEcho(address(9))]);
        asked.push(deadline);
    }
    assert_eq!(asked[0], SECOND + 10 + 1_500_000);
    assert_eq!(asked[1], asked[0] + 250_000);
}

#[test]
fn a_master_whose_packet_path_answers_stays_for_the_grace() {
    let said = |holds_lease, lease_age| EchoReply {
        from: address(9),
        holds_lease,
        lease_age,
    };
    // The answer; whether the master stays beyond the time of the protocol.
    for (answer, stays) in [
        (said(true, SECOND), true),
        (said(false, SECOND), false),
        (said(true, 11 * SECOND), false),
        (
            EchoReply {
                from: address(8),
                ..said(true, SECOND)
            },
            false,
        ),
    ] {
        let mut instance = graced();
        while instance.deadline().is_some_and(|deadline| deadline < 4 * SECOND) {
            instance.tick(instance.deadline().unwrap());
        }
        instance.handle_echo_reply(answer, 4 * SECOND);
        instance.tick(4_700_000);
        assert_eq!(instance.role() == Role::Backup, stays, "{answer:?}");
        assert_eq!(instance.is_in_grace(4_700_000), stays);
        // However late this balancer is itself.
        let mut questions = 0;
        for second in 60.. {
            if instance.role() == Role::Master {
                break;
            }
            instance.tick(second * SECOND);
            questions += 1;
        }
        // Eight questions without an answer; then better ones may be first.
        assert_eq!(
            questions,
            if stays { 9 } else { 0 },
            "an answer does not last: {answer:?}"
        );
    }
}

#[test]
fn an_answer_that_nobody_waits_for_keeps_nobody_waiting() {
    let mut instance = backup(Parameters {
        grace: 60 * SECOND,
        ..parameters(100)
    });
    // One that is worse is preempted, and asked nothing.
    instance.handle_advert(address(9), address(1), &advert(50), SECOND);
    let answer = EchoReply {
        from: address(9),
        holds_lease: true,
        lease_age: 0,
    };
    instance.handle_echo_reply(answer, SECOND);
    let deadline = instance.deadline().expect("it takes over some time");
    instance.tick(deadline);
    assert_eq!(instance.role(), Role::Master);
    // Nor does one to a question that was asked while its adverts came.
    let mut instance = graced();
    instance.handle_echo_reply(answer, SECOND + 20);
    while instance.role() == Role::Backup {
        instance.tick(instance.deadline().unwrap());
    }
    assert_eq!(instance.deadline(), Some(SECOND + 10 + 3_609_375 + SECOND));
}

#[test]
fn of_several_that_held_the_better_one_is_first() {
    // Whether the controller does not return, or nothing answers any more.
    for is_silent in [false, true] {
        // The worse one asks a little earlier each time.
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
                let answer = EchoReply {
                    from: address(9),
                    holds_lease: true,
                    lease_age: now - SECOND,
                };
                next.handle_echo_reply(answer, now);
            }
            if next.role() == Role::Master {
                break next.priority();
            }
        };
        assert_eq!(first, 150, "{is_silent}");
    }
}

#[test]
fn whoever_slept_asks_before_it_takes_over() {
    let mut instance = graced();
    for second in [20, 40, 60] {
        assert_eq!(instance.tick(second * SECOND), [Action::SendEcho(address(9))]);
    }
    instance.tick(80 * SECOND);
    assert_eq!(instance.role(), Role::Master);
}

#[test]
fn of_two_masters_the_one_that_yields_says_nothing_about_the_other() {
    let mut instance = backup(parameters(100));
    instance.handle_advert(address(8), address(1), &advert(200), SECOND);
    instance.handle_advert(address(9), address(1), &advert(150), SECOND + 100);
    assert_eq!(instance.master(), Some((address(8), 200)));
    let deadline = instance.deadline();
    instance.handle_advert(address(9), address(1), &advert(0), SECOND + 200);
    assert_eq!(instance.deadline(), deadline);
    // The better one is gone, and the other one has taken over.
    instance.handle_advert(address(9), address(1), &advert(150), 4 * SECOND);
    assert_eq!(instance.master(), Some((address(9), 150)));
    instance.handle_advert(address(9), address(1), &advert(0), 5 * SECOND);
    assert_eq!(instance.deadline(), Some(5 * SECOND + 609_375));
}

#[test]
fn an_advert_that_is_late_makes_those_after_it_no_later() {
    let mut instance = backup(parameters(200));
    instance.tick(4 * SECOND);
    // When it is told the time; when the next advert is due. Whoever missed one makes none up for it.
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
fn a_change_of_rules_is_heard_at_once() {
    let mut instance = backup(parameters(200));
    instance.tick(4 * SECOND);
    assert_eq!(instance.change(parameters(200), 4_100_000), []);
    assert_eq!(instance.deadline(), Some(5 * SECOND));
    assert_eq!(instance.change(parameters(50), 4_200_000), [Action::SendAdvert(50)]);
    // Peers count by the new interval as soon as they have heard of it.
    let shorter = Parameters {
        interval: 10_000,
        ..parameters(50)
    };
    assert_eq!(instance.change(shorter, 4_300_000), [Action::SendAdvert(50)]);
    assert_eq!(instance.deadline(), Some(4_310_000));
}

#[test]
fn an_operator_hands_over_and_takes() {
    let mut instance = backup(parameters(200));
    instance.tick(4 * SECOND);
    let actions = instance.release(5 * SECOND);
    assert_eq!(actions[0], Action::SendAdvert(0));
    assert_eq!(instance.role(), Role::Backup);
    // The other one is of lower priority, and is let be for a while.
    for second in 6..12 {
        instance.handle_advert(address(9), address(1), &advert(100), second * SECOND);
        assert_eq!(instance.tick(second * SECOND), []);
    }
    let until = (12..30).find(|second| {
        instance.handle_advert(address(9), address(1), &advert(100), second * SECOND);
        !instance.tick(second * SECOND).is_empty()
    });
    assert!(until.is_some(), "it takes over again");
    // It does so earlier when the one that it left all to gives up, but later than all others that heard it.
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
