//! Packet tables: a packet into the program, and what comes out: action, counter, bytes.

use std::net::{IpAddr, SocketAddr};

use harness::{
    fixture::{self, TCP, UDP},
    packet::{ACK, FIN, Packet, RST, SYN, Transport},
    program::Program,
    testrun::{self, PASS, TRANSMIT},
};
use lb_common::{BackendState, Mode, NextHop, OnBackendDown, Outcome};
use lb_core::{
    config::{Capacity, PortRange},
    reconcile::desired::DesiredService,
};

fn vip(v6: bool) -> SocketAddr {
    fixture::front(Mode::Nat, v6)
}

fn worker(v6: bool, host: u8) -> SocketAddr {
    fixture::worker(Mode::Nat, v6, host)
}

fn client(v6: bool, host: u8, port: u16) -> SocketAddr {
    let address = if v6 {
        IpAddr::from([0xfd78, 0, 0, 0, 0, 0, 0, u16::from(host)])
    } else {
        IpAddr::from([10, 78, 0, host])
    };
    SocketAddr::new(address, port)
}

fn service(v6: bool, protocol: u8, hosts: &[u8]) -> DesiredService {
    fixture::service(Mode::Nat, v6, protocol, hosts.iter().copied())
}

fn in_state(mut service: DesiredService, state: BackendState) -> DesiredService {
    for backend in &mut service.backends {
        backend.state = Some(state);
    }
    service
}

fn packet(v6: bool, protocol: u8, port: u16, flags: u8) -> Packet {
    let from = client(v6, 9, port);
    if protocol == TCP {
        Packet::tcp(from, vip(v6), flags)
    } else {
        Packet::udp(from, vip(v6), b"question")
    }
}

#[test]
fn packets_are_translated_in_both_directions() {
    let mut program = Program::with(Vec::new());
    for v6 in [false, true] {
        for protocol in [TCP, UDP] {
            program.serve(vec![service(v6, protocol, &[1])]);
            let first = packet(v6, protocol, 30_000, SYN);
            let out = program.forward(&first);
            assert_eq!(
                (out.source, out.destination),
                (SocketAddr::new(vip(v6).ip(), 30_000), worker(v6, 1))
            );
            assert_eq!(out.destination_mac, [2, 0, 0, 0, 1, 1]);
            assert_eq!(program.forward(&first), out, "a second packet takes the same path");

            let answer = if protocol == TCP {
                Packet::tcp(out.destination, out.source, SYN | ACK)
            } else {
                Packet::udp(out.destination, out.source, b"an answer of odd length")
            };
            let back = program.forward(&answer);
            assert_eq!((back.source, back.destination), (vip(v6), client(v6, 9, 30_000)));
            assert_eq!(
                back.destination_mac, first.source_mac,
                "back where the client's packet came from"
            );
            assert_eq!(program.flows().len(), 2);
        }
    }
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let mut program = Program::with(vec![service(false, UDP, &[1])]);
    let first = Packet {
        transport: Transport::Udp { checksum: false },
        ..packet(false, UDP, 30_000, 0)
    };
    assert_eq!(program.forward(&first).transport, Transport::Udp { checksum: false });
}

#[test]
fn ipv4_options_are_walked_over() {
    let mut program = Program::with(vec![service(false, TCP, &[1])]);
    let plain = packet(false, TCP, 30_000, SYN).bytes();
    let mut frame = [&plain[..34], &[1, 1, 1, 1], &plain[34..]].concat();
    frame[14] = 0x46;
    frame[17] += 4;
    // The header's checksum: version and length changed by 0x0100 + 4, four options of 0x0101
    // twice.
    let sum = u16::from_be_bytes([frame[24], frame[25]]);
    let change = [0x0100_u32, 4, 0x0101, 0x0101].iter().sum::<u32>();
    let total = u32::from(!sum) + change;
    frame[24..26].copy_from_slice(&(!((total & 0xffff) as u16 + (total >> 16) as u16)).to_be_bytes());
    let (run, outcomes) = program.run_bytes(&frame);
    assert_eq!((run.action, outcomes), (TRANSMIT, vec!["forwarded"]));
    assert_eq!(run.bytes[30..34], [10, 77, 1, 1]);
    assert_eq!(run.bytes[34..38], [1, 1, 1, 1]);
}

#[test]
fn segments_without_a_flow_are_answered_with_an_exact_reset() {
    for v6 in [false, true] {
        let mut program = Program::with(vec![service(v6, TCP, &[1])]);
        let mut with_ack = packet(v6, TCP, 30_000, ACK);
        with_ack.transport = Transport::Tcp {
            sequence: 77,
            acknowledgement: 4711,
            flags: ACK,
        };
        with_ack.payload = b"hello".to_vec();
        let mut without = packet(v6, TCP, 30_000, FIN);
        without.transport = Transport::Tcp {
            sequence: 77,
            acknowledgement: 0,
            flags: FIN,
        };
        without.payload = b"hello".to_vec();
        // RFC 9293, section 3.10.7.1; the length of the second counts its FIN.
        let given_then = [
            (
                with_ack,
                Transport::Tcp {
                    sequence: 4711,
                    acknowledgement: 0,
                    flags: RST,
                },
            ),
            (
                without,
                Transport::Tcp {
                    sequence: 0,
                    acknowledgement: 77 + 5 + 1,
                    flags: RST | ACK,
                },
            ),
        ];
        for (given, then) in given_then {
            let out = Packet::parse(&program.send(&given, Outcome::ResetNoFlow)).unwrap();
            assert_eq!((out.transport, out.payload.len()), (then, 0));
            assert_eq!((out.source, out.destination), (given.destination, given.source));
            assert_eq!(
                (out.source_mac, out.destination_mac),
                (given.destination_mac, given.source_mac)
            );
        }
        program.send(&packet(v6, TCP, 30_000, RST), Outcome::StrayReset);
        assert_eq!(program.flows(), []);
    }
}

#[test]
fn a_service_without_backends_refuses() {
    for v6 in [false, true] {
        let mut program = Program::with(vec![service(v6, TCP, &[]), service(v6, UDP, &[])]);
        program.send(&packet(v6, TCP, 30_000, SYN), Outcome::ResetNoBackend);
        program.send(&packet(v6, UDP, 30_000, 0), Outcome::NoBackend);
    }
}

#[test]
fn flows_of_a_backend_that_goes_down_follow_the_policy() {
    let both = |state, policy| {
        let mut service = in_state(service(false, TCP, &[1]), state);
        service.on_backend_down = policy;
        vec![service]
    };
    for policy in [OnBackendDown::Reset, OnBackendDown::Hold] {
        let mut program = Program::with(both(BackendState::Up, policy));
        program.forward(&packet(false, TCP, 30_000, SYN));
        program.desire(both(BackendState::Draining, policy));
        program.forward(&packet(false, TCP, 30_000, ACK));
        program.send(&packet(false, TCP, 30_001, SYN), Outcome::ResetNoBackend);
        program.desire(both(BackendState::Down, policy));
        if policy == OnBackendDown::Hold {
            program.forward(&packet(false, TCP, 30_000, ACK));
        } else {
            program.send(&packet(false, TCP, 30_000, ACK), Outcome::ResetBackendDown);
            assert_eq!((program.flows(), program.load()), (vec![], (0, 0)));
        }
    }
}

#[test]
fn flows_of_a_backend_that_goes_down_go_to_another_where_the_policy_says_so() {
    let both = |state| {
        let mut service = service(false, TCP, &[1, 2]);
        service.on_backend_down = OnBackendDown::Reschedule;
        service.backends[0].state = Some(state);
        vec![service]
    };
    let mut program = Program::with(both(BackendState::Up));
    let begun = program.forward(&packet(false, TCP, 30_000, SYN));
    assert_eq!(begun.destination, worker(false, 1));
    program.forward(&Packet::tcp(worker(false, 1), begun.source, SYN | ACK));
    program.forward(&packet(false, TCP, 30_000, ACK));
    program.desire(both(BackendState::Down));
    program.send(&packet(false, TCP, 30_000, RST), Outcome::StrayReset);

    program.desire(both(BackendState::Up));
    let begun = [30_001, 30_002].map(|port| program.forward(&packet(false, TCP, port, SYN)));
    let port = if begun[0].destination == worker(false, 1) {
        30_001
    } else {
        30_002
    };
    program.desire(both(BackendState::Down));
    let moved = program.forward(&packet(false, TCP, port, ACK));
    assert_eq!(moved.destination, worker(false, 2));
    let refusal = Packet::tcp(worker(false, 2), moved.source, RST);
    assert_eq!(
        program.forward(&refusal).destination.port(),
        port,
        "the worker's answer reaches the client"
    );
}

#[test]
fn a_retransmitted_syn_leaves_a_backend_that_went_down() {
    let mut program = Program::with(vec![service(false, TCP, &[1, 2])]);
    assert_eq!(
        program.forward(&packet(false, TCP, 30_000, SYN)).destination,
        worker(false, 1)
    );
    let mut changed = service(false, TCP, &[1, 2]);
    changed.backends[0].state = Some(BackendState::Down);
    program.desire(vec![changed]);
    assert_eq!(
        program.forward(&packet(false, TCP, 30_000, SYN)).destination,
        worker(false, 2)
    );
    assert_eq!((program.flows().len(), program.load()), (2, (1, 0)));
}

#[test]
fn a_backend_that_left_is_never_followed_nor_the_next_in_its_place() {
    let mut program = Program::with(vec![service(false, TCP, &[1])]);
    program.forward(&packet(false, TCP, 30_000, SYN));
    let answer = Packet::tcp(worker(false, 1), SocketAddr::new(vip(false).ip(), 30_000), SYN | ACK);
    program.desire(vec![service(false, TCP, &[2])]);
    program.send(&answer, Outcome::NotOurs);
    program.send(&packet(false, TCP, 30_000, ACK), Outcome::ResetBackendDown);
    assert_eq!((program.flows(), program.load()), (vec![], (0, 0)));
}

#[test]
fn clients_with_the_same_port_get_different_ports_to_the_same_backend() {
    let mut program = Program::with(vec![service(false, TCP, &[1])]);
    let mut ports = Vec::new();
    for host in 1..=20 {
        ports.push(
            program
                .forward(&Packet::tcp(client(false, host, 30_000), vip(false), SYN))
                .source
                .port(),
        );
    }
    assert_eq!(ports[0], 30_000, "the first keeps its own");
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 20);
    let outside = program
        .forward(&Packet::tcp(client(false, 1, 1024), vip(false), SYN))
        .source
        .port();
    assert!((20_000..=56_999).contains(&outside));
}

#[test]
fn when_no_port_is_free_the_packet_is_dropped_and_nothing_is_left_behind() {
    let mut narrow = service(false, TCP, &[1]);
    narrow.nat_ports = PortRange {
        low: 20_000,
        high: 20_001,
    };
    let mut program = Program::with(vec![narrow]);
    let mut forwarded = 0;
    for host in 1..=20 {
        let (_, outcomes) = program.run_bytes(&Packet::tcp(client(false, host, 30_000), vip(false), SYN).bytes());
        match outcomes.as_slice() {
            ["forwarded"] => forwarded += 1,
            ["nat_ports_exhausted"] => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((forwarded, program.flows().len(), program.load()), (2, 4, (2, 0)));
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_no_half_of_one() {
    let capacity = Capacity {
        flows_v4: 64,
        flows_v6: 64,
        ..Capacity::default()
    };
    let mut program = Program::new(capacity, vec![service(false, TCP, &[1])]);
    let mut refused = 0;
    for port in 20_000..20_200 {
        let (run, outcomes) = program.run_bytes(&packet(false, TCP, port, SYN).bytes());
        if outcomes == ["flow_table_full"] {
            refused += 1;
            continue;
        }
        // Only established flows are not evicted.
        let out = Packet::parse(&run.bytes).unwrap();
        program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
        program.forward(&packet(false, TCP, port, ACK));
    }
    assert!(refused > 100, "{refused}");
    let flows = program.flows();
    let forward = flows.iter().filter(|flow| flow.to_worker).count();
    assert!(forward >= 32, "half of the capacity: {forward}");
    assert_eq!(flows.len(), 2 * forward, "every port belongs to a flow");
    assert_eq!(program.load(), (0, u32::try_from(forward).unwrap()));
}

#[test]
fn a_flood_of_handshakes_evicts_handshakes_and_no_established_flow() {
    let capacity = Capacity {
        flows_v4: 256,
        flows_v6: 256,
        ..Capacity::default()
    };
    let mut program = Program::new(capacity, vec![service(false, TCP, &[1])]);
    let mut established = Vec::new();
    for port in 20_000..20_040 {
        let out = program.forward(&packet(false, TCP, port, SYN));
        program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
        program.forward(&packet(false, TCP, port, ACK));
        established.push((port, out.source));
    }
    for turn in 0..5_000_u16 {
        let from = client(false, 10 + (turn / 1000) as u8, 30_000 + turn % 1000);
        let (_, outcomes) = program.run_bytes(&Packet::tcp(from, vip(false), SYN).bytes());
        assert!(
            matches!(outcomes.as_slice(), ["forwarded" | "flow_table_full" | "claim_raced"]),
            "{outcomes:?}"
        );
    }
    for (port, source) in established {
        assert_eq!(program.forward(&packet(false, TCP, port, ACK)).source, source);
    }
    let flows = program.flows();
    let forward = flows.iter().filter(|flow| flow.to_worker);
    let active = forward
        .clone()
        .filter(|flow| flow.phase == lb_common::Phase::Established)
        .count();
    let embryonic = forward.count() - active;
    assert_eq!(
        program.load(),
        (embryonic as u32, active as u32),
        "the numbers equal a recount"
    );
}

#[test]
fn connections_are_counted_once_and_uncounted_once() {
    let endings: [&[(bool, u8)]; 3] = [
        &[(true, FIN | ACK), (false, FIN | ACK)],
        &[(false, FIN | ACK), (true, FIN | ACK)],
        &[(false, RST)],
    ];
    for ending in endings {
        let mut program = Program::with(vec![service(false, TCP, &[1])]);
        let out = program.forward(&packet(false, TCP, 30_000, SYN));
        assert_eq!(program.load(), (1, 0));
        program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
        program.forward(&packet(false, TCP, 30_000, ACK));
        assert_eq!(program.load(), (0, 1));
        for (from_client, flags) in ending {
            let segment = if *from_client {
                packet(false, TCP, 30_000, *flags)
            } else {
                Packet::tcp(out.destination, out.source, *flags)
            };
            program.forward(&segment);
            program.forward(&segment);
        }
        assert_eq!(program.load(), (0, 0));
        program.forward(&packet(false, TCP, 30_000, SYN));
        assert_eq!(program.load(), (1, 0), "a SYN after the end begins anew");
    }
}

#[test]
fn round_robin_keeps_weights_exactly() {
    let mut weighted = service(false, TCP, &[1, 2]);
    weighted.backends[0].weight = 2;
    let mut program = Program::with(vec![weighted]);
    let mut counts = [0; 3];
    for port in 20_000..20_300 {
        let to = program.forward(&packet(false, TCP, port, SYN)).destination;
        counts[if to == worker(false, 1) { 1 } else { 2 }] += 1;
    }
    assert_eq!(counts, [0, 200, 100]);
}

#[test]
fn an_unresolved_next_hop_hands_the_packet_to_the_controller() {
    for v6 in [false, true] {
        let mut unresolved = service(v6, TCP, &[1]);
        unresolved.backends[0].next_hop = None;
        let mut program = Program::with(vec![unresolved]);
        program.send(&packet(v6, TCP, 30_000, SYN), Outcome::Punted);
    }
}

#[test]
fn a_next_hop_behind_another_interface_is_reached_by_redirect() {
    for v6 in [false, true] {
        let mut elsewhere = service(v6, TCP, &[1]);
        elsewhere.backends[0].next_hop = Some(NextHop::new(2, [2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 1, 1]));
        let mut program = Program::with(vec![elsewhere]);
        let (run, outcomes) = program.run_bytes(&packet(v6, TCP, 30_000, SYN).bytes());
        assert_eq!((run.action, outcomes), (testrun::REDIRECT, vec!["redirected"]));
        let out = Packet::parse(&run.bytes).unwrap();
        assert_eq!((out.source_mac, out.destination), ([2, 0, 0, 0, 0, 7], worker(v6, 1)));
    }
}

#[test]
fn a_packet_that_may_go_no_further_is_dropped() {
    for v6 in [false, true] {
        let mut program = Program::with(vec![service(v6, UDP, &[1])]);
        program.send(
            &Packet {
                ttl: 1,
                ..packet(v6, UDP, 30_000, 0)
            },
            Outcome::TtlExceeded,
        );
    }
}

#[test]
fn what_is_not_ours_passes_untouched() {
    let v4 = packet(false, TCP, 30_000, SYN).bytes();
    let v6 = packet(true, TCP, 30_000, SYN).bytes();
    let change = |frame: &[u8], at: usize, to: &[u8]| {
        let mut changed = frame.to_vec();
        changed[at..at + to.len()].copy_from_slice(to);
        changed
    };
    let given_then = [
        ("another port", change(&v4, 36, &[0, 81]), "not_ours"),
        ("another address", change(&v4, 33, &[101]), "not_ours"),
        ("another address", change(&v6, 53, &[1]), "not_ours"),
        ("ARP", change(&v4, 12, &[0x08, 0x06]), "not_ip"),
        ("a VLAN tag", change(&v4, 12, &[0x81, 0x00]), "not_ip"),
        ("ICMP", change(&v4, 23, &[1]), "not_tcp_udp"),
        (
            "a later fragment without its first",
            change(&v4, 20, &[0, 10]),
            "fragment_unknown",
        ),
        ("another version", change(&v4, 14, &[0x65]), "malformed"),
        ("a header that is too short", change(&v4, 14, &[0x44]), "malformed"),
        ("a length beyond the frame", change(&v4, 16, &[0x10, 0]), "malformed"),
        ("a length below the header", change(&v4, 16, &[0, 19]), "malformed"),
        ("no space for the TCP header", change(&v4, 16, &[0, 39]), "malformed"),
        ("a TCP header that is too short", change(&v4, 46, &[0x40]), "malformed"),
        ("a TCP header beyond the packet", change(&v4, 46, &[0xf0]), "malformed"),
        (
            "an IPv6 length beyond the frame",
            change(&v6, 18, &[0x10, 0]),
            "malformed",
        ),
        ("a frame that ends in the IP header", v4[..30].to_vec(), "malformed"),
        ("a frame that ends in the TCP header", v6[..60].to_vec(), "malformed"),
    ];
    let mut program = Program::with(vec![service(false, TCP, &[1]), service(true, TCP, &[1])]);
    for (name, frame, then) in given_then {
        let (run, outcomes) = program.run_bytes(&frame);
        assert_eq!((run.action, outcomes), (PASS, vec![then]), "{name}");
        assert_eq!(run.bytes, frame, "{name}");
    }
    assert_eq!(program.flows(), []);
}

/// xorshift64*: the same packets on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}

#[test]
fn whatever_the_bytes_each_packet_has_one_outcome_and_passes_whole() {
    let services = [(false, TCP), (false, UDP), (true, TCP), (true, UDP)];
    let mut program = Program::with(services.map(|(v6, protocol)| service(v6, protocol, &[1, 2])).to_vec());
    let seed = 0x1234_5678_9abc_def1;
    let mut random = Random(seed);
    for turn in 0..5_000 {
        let (v6, protocol) = services[random.below(4)];
        let port = 20_000 + random.below(50) as u16;
        let mut frame = packet(v6, protocol, port, random.next() as u8).bytes();
        for _ in 0..random.below(4) {
            let at = random.below(frame.len());
            frame[at] = random.next() as u8;
        }
        if random.below(8) == 0 {
            frame.truncate(14 + random.below(frame.len() - 14));
        }
        let (run, outcomes) = program.run_bytes(&frame);
        assert_eq!(
            outcomes.len(),
            1,
            "seed {seed:#x}, turn {turn}: {outcomes:?} for {frame:02x?}"
        );
        let passed = Outcome::ALL
            .iter()
            .any(|outcome| outcome.name() == outcomes[0] && outcome.action() == lb_common::Action::Pass);
        assert_eq!(run.action == PASS, passed, "seed {seed:#x}, turn {turn}: {frame:02x?}");
        assert!(
            !passed || run.bytes == frame,
            "seed {seed:#x}, turn {turn}: {frame:02x?}"
        );
    }
}
