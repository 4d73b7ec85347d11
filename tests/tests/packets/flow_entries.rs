//! Packet tables of the flow table: which flows enter it, which path their packets take, and how
//! entries follow changes of the configuration.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::ControlFlow,
    thread,
    time::Instant,
};

use harness::{
    fixture::{self, TCP, one, tcp},
    packet::{ACK, Packet, SYN},
    program::Program,
};
use lb_common::{Event, Mode, Outcome, address_class, next_hop::ClientHop};
use lb_core::config::{Capacity, Timeouts};
use lb_userspace::daemon::flows::sweep::Sweeper;

/// A client's address that is in the same place among the classes of addresses as another
/// address.
fn in_the_place_of(address: IpAddr) -> IpAddr {
    let IpAddr::V4(address) = address else {
        unreachable!("IPv4")
    };
    let place = |bits: u32| address_class::place(&[bits.to_be()]);
    let sought = place(address.to_bits());
    let found = (0x0b00_0000..).find(|bits| place(*bits) == sought);
    Ipv4Addr::from_bits(found.expect("there are many")).into()
}

#[test]
fn a_client_whose_address_is_taken_for_ours_gets_answers_too() {
    for like in [
        fixture::virtual_address(Mode::Dnat, false),
        fixture::worker(Mode::Dnat, false, 1).ip(),
    ] {
        let mut program = Program::with(one(Mode::Dnat, false, TCP));
        let first = Packet::tcp(
            SocketAddr::new(in_the_place_of(like), 40_000),
            fixture::front(Mode::Dnat, false),
            SYN,
        );
        let out = program.forward(&first);
        let back = program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
        assert_eq!((back.source, back.destination), (first.destination, first.source));
    }
}

#[test]
fn packets_of_a_flow_that_a_full_table_refuses_take_the_same_path() {
    let service = fixture::service(Mode::Dsr, false, TCP, [1, 2, 3, 4]);
    let capacity = Capacity {
        flows_v4: 8,
        ..Capacity::default()
    };
    let mut program = Program::new(capacity, vec![service]);
    for port in 1..300 {
        program.send(&tcp(Mode::Dsr, false, 20_000 + port, ACK), Outcome::Forwarded);
    }
    let mut workers = HashSet::new();
    for port in 1..100 {
        let [syn, ack] = [SYN, ACK].map(|flags| {
            let out = program.send(&tcp(Mode::Dsr, false, 30_000 + port, flags), Outcome::Forwarded);
            out[..6].to_vec()
        });
        assert_eq!(syn, ack, "port {port}");
        workers.insert(syn);
    }
    assert_eq!(workers.len(), 4);
}

#[test]
fn flows_keep_their_source_address_when_another_one_goes() {
    let [one, other]: [IpAddr; 2] = [[10, 77, 9, 1].into(), [10, 77, 9, 2].into()];
    let mut service = fixture::service(Mode::Nat, false, TCP, [1]);
    service.sources = vec![one, other];
    let mut program = Program::with(vec![service.clone()]);
    let sent = |program: &mut Program, port, flags| program.forward(&tcp(Mode::Nat, false, port, flags)).source;
    let before: Vec<_> = (30_000..30_040).map(|port| sent(&mut program, port, SYN)).collect();
    assert!(before.iter().any(|source| source.ip() == one) && before.iter().any(|source| source.ip() == other));
    service.sources = vec![other];
    program.desire(vec![service]);
    for (port, before) in (30_000..).zip(before) {
        let now = sent(&mut program, port, ACK);
        assert_eq!(
            now.ip(),
            other,
            "nothing leaves from an address that is not the service's"
        );
        if before.ip() == other {
            assert_eq!(now, before);
        }
    }
}

#[test]
fn a_backend_that_leaves_takes_its_flows_out_of_the_numbers() {
    let service = |hosts: &[u8]| vec![fixture::service(Mode::Nat, false, TCP, hosts.iter().copied())];
    let mut program = Program::with(service(&[1, 2]));
    for port in 30_000..30_010 {
        program.forward(&tcp(Mode::Nat, false, port, SYN));
    }
    let flows = |program: &Program| program.tables.service_states.read(0).unwrap().flows;
    assert_eq!((flows(&program), program.load()), (10, (10, 0)));
    program.desire(service(&[2]));
    assert_eq!((flows(&program), program.load()), (5, (5, 0)));
}

#[test]
fn who_is_refused_enters_no_flow_by_packets_in_the_middle_of_a_connection() {
    let mut service = fixture::service(Mode::Dsr, false, TCP, [1]);
    service.guard.connection_limit = 3;
    service.guard.deny = vec!["10.78.0.0/24".parse().unwrap()];
    let mut program = Program::with(vec![service]);
    program.send(&tcp(Mode::Dsr, false, 30_000, ACK), Outcome::GuardDenied);
    for host in 1..=10 {
        let client = SocketAddr::from(([10, 79, 0, host], 30_000));
        let packet = Packet::tcp(client, fixture::front(Mode::Dsr, false), ACK);
        program.send(&packet, Outcome::Forwarded);
    }
    assert_eq!(program.flows().len(), 3);
}

#[test]
fn every_packet_of_a_flow_keeps_it_young() {
    let mut program = Program::with(one(Mode::Dnat, false, TCP));
    let out = program.forward(&tcp(Mode::Dnat, false, 30_000, SYN));
    let answer = Packet::tcp(out.destination, out.source, SYN | ACK);
    let back = |flags| Packet::tcp(answer.source, answer.destination, flags);
    program.forward(&answer);
    program.forward(&tcp(Mode::Dnat, false, 30_000, ACK));
    let seen = |program: &Program, to_worker| {
        let flows = program.flows();
        let entry = flows.iter().find(|entry| entry.to_worker == to_worker);
        entry.expect("both directions").meta.last_seen()
    };
    for to_worker in [true, false] {
        let before = seen(&program, to_worker);
        thread::sleep(3 * program.tables.clock.tick());
        // Nothing else changes.
        program.forward(&if to_worker {
            tcp(Mode::Dnat, false, 30_000, ACK)
        } else {
            back(ACK)
        });
        assert!(seen(&program, to_worker) > before, "to worker: {to_worker}");
    }
}

#[test]
fn an_established_flow_does_not_outlive_its_backend() {
    for v6 in [false, true] {
        let service = |host| vec![fixture::service(Mode::Nat, v6, TCP, [host])];
        let mut program = Program::with(service(1));
        let out = program.forward(&tcp(Mode::Nat, v6, 30_000, SYN));
        program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
        program.forward(&tcp(Mode::Nat, v6, 30_000, ACK));
        let answer = Packet::tcp(out.destination, out.source, ACK);
        program.forward(&answer);
        program.desire(service(2));
        program.send(&answer, Outcome::NotOurs);
        program.send(&tcp(Mode::Nat, v6, 30_000, ACK), Outcome::ResetBackendDown);
    }
}

#[test]
fn new_flows_above_the_flood_rate_are_spread_without_entries() {
    const RATE: usize = 10;
    const SYNS: usize = 60;
    let mut service = fixture::service(Mode::Dsr, false, TCP, [1, 2]);
    service.guard.flood_rate = RATE as u32;
    let mut program = Program::with(vec![service]);
    let begin = Instant::now();
    for port in 0..SYNS as u16 {
        program.send(&tcp(Mode::Dsr, false, 30_000 + port, SYN), Outcome::Forwarded);
    }
    // The rate counts anew in each second that begins meanwhile.
    let most = RATE * (begin.elapsed().as_secs() as usize + 2);
    let flows = program.flows().len();
    assert!((RATE..=most).contains(&flows), "{flows} flows");
    let events = program.tables.events().unwrap();
    let flooded = events.iter().find(|(event, _)| *event == Event::Flooded);
    assert_eq!(flooded.map(|(_, count)| *count), Some((SYNS - flows) as u64));
}

#[test]
fn a_walk_goes_on_where_it_was_left() {
    let both = [false, true].map(|v6| fixture::service(Mode::Nat, v6, TCP, [1]));
    let mut program = Program::with(both.to_vec());
    for port in 30_000..30_020 {
        for v6 in [false, true] {
            program.forward(&tcp(Mode::Nat, v6, port, SYN));
        }
    }
    let all: Vec<_> = program.flows().iter().map(|entry| entry.key).collect();
    let (mut seen, mut from) = (Vec::new(), 0);
    loop {
        let mut met = 0;
        // Three at a time; the fourth is where the next walk begins.
        let ended = program.tables.walk_flows(from, |place, entry| {
            if met == 3 {
                from = place;
                return ControlFlow::Break(());
            }
            met += 1;
            seen.push(entry.key);
            ControlFlow::Continue(())
        });
        if ended.is_continue() {
            break;
        }
    }
    assert_eq!((seen.len(), &seen), (80, &all));
}

#[test]
fn where_a_client_came_from_is_kept_for_the_next_flow_and_forgotten_in_the_end() {
    let mut program = Program::with(one(Mode::Nat, false, TCP));
    let mut sweeper = Sweeper::default();
    let mut walk = |program: &Program| {
        sweeper
            .sweep(&program.tables, |_| Timeouts::default(), |_, _| {})
            .unwrap();
    };
    let states = |program: &Program| {
        let all = (1..program.tables.client_hops.len()).filter_map(|index| program.tables.client_hops.read(index));
        all.map(|hop| hop.state)
            .filter(|state| *state != ClientHop::FREE)
            .collect::<Vec<_>>()
    };
    let end = |program: &Program| {
        for entry in program.flows() {
            assert!(program.tables.end_flow(&entry));
        }
    };
    let answered = |program: &mut Program, port| {
        let out = program.forward(&tcp(Mode::Nat, false, port, SYN));
        program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
    };
    answered(&mut program, 30_000);
    (0..20).for_each(|_| walk(&program));
    assert_eq!(states(&program), [ClientHop::VALID], "a flow refers to it");
    end(&program);
    while states(&program) == [ClientHop::VALID] {
        walk(&program);
    }
    assert_eq!(states(&program), [ClientHop::LEAVING]);
    // A new flow makes it valid, at the last moment.
    answered(&mut program, 30_001);
    assert_eq!(states(&program), [ClientHop::VALID]);
    (0..20).for_each(|_| walk(&program));
    program.forward(&tcp(Mode::Nat, false, 30_001, ACK));
    assert_eq!(states(&program), [ClientHop::VALID]);
    end(&program);
    (0..20).for_each(|_| walk(&program));
    assert_eq!(states(&program), [0; 0]);
}

#[test]
fn counts_that_stay_off_are_corrected_and_those_that_waver_are_not() {
    let program = Program::with(one(Mode::Nat, false, TCP));
    let mut sweeper = Sweeper::default();
    let mut corrected = || {
        let swept = sweeper.sweep(&program.tables, |_| Timeouts::default(), |_, _| {});
        swept.unwrap().corrected
    };
    let loads = &program.tables.loads;
    let backend = 0;
    for walk in 0..30 {
        // As traffic makes it seem: off by something else from one walk to the next.
        loads.adjust(backend, 0, if walk % 3 == 0 { 1 } else { 0 });
        assert_eq!(corrected(), 0, "walk {walk}");
    }
    let off = loads.read(backend).unwrap().active;
    assert_ne!(off, 0);
    let sum: u64 = (0..10).map(|_| corrected()).sum();
    assert_eq!(
        (sum, loads.read(backend).unwrap().active),
        (1, 0),
        "it was off by {off}"
    );
}
