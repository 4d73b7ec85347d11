//! Packet tables of special cases: every mode, ICMP errors, fragments, tags, extension
//! headers, guards, schedulers.

use std::net::{IpAddr, SocketAddr};

use harness::{
    fixture::{self, TCP, UDP, client, one, tcp},
    packet::{ACK, FIN, Packet, RST, SYN},
    program::Program,
    testrun::{DROP, PASS, TRANSMIT},
};
use lb_common::{Mode, NextHop, Outcome, Phase, Scheduler, Tags};

/// The frame inside a tunnel: what follows the outer headers, behind a frame's header of its own.
fn inner(frame: &[u8], outer_v6: bool, mode: Mode) -> Vec<u8> {
    let outer = if outer_v6 { 40 } else { 20 } + if mode == Mode::Gue { 8 } else { 0 };
    let kind: [u8; 2] = if frame[14 + outer] >> 4 == 6 {
        [0x86, 0xdd]
    } else {
        [8, 0]
    };
    [&frame[..12], &kind, &frame[14 + outer..]].concat()
}

#[test]
fn dnat_keeps_the_client_and_translates_both_directions() {
    for v6 in [false, true] {
        let mut program = Program::with(one(Mode::Dnat, v6, TCP));
        let first = tcp(Mode::Dnat, v6, 40_000, SYN);
        let out = program.forward(&first);
        assert_eq!(
            (out.source, out.destination),
            (first.source, fixture::worker(Mode::Dnat, v6, 1))
        );
        let back = program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
        assert_eq!((back.source, back.destination), (first.destination, first.source));
        assert_eq!(back.destination_mac, first.source_mac);
    }
}

#[test]
fn dsr_changes_nothing_but_the_frame() {
    for v6 in [false, true] {
        let mut program = Program::with(one(Mode::Dsr, v6, TCP));
        let first = tcp(Mode::Dsr, v6, 40_000, SYN);
        let out = program.send(&first, Outcome::Forwarded);
        let sent = first.bytes();
        assert_eq!(out[14..], sent[14..]);
        assert_eq!(out[..6], fixture::worker_mac(1));
    }
}

#[test]
fn tunnels_carry_the_packet_unchanged_but_for_one_hop() {
    let mut program = Program::with(Vec::new());
    for mode in [Mode::Ipip, Mode::Gue] {
        for (v6, outer_v6) in [(false, false), (true, true), (false, true), (true, false)] {
            let mut service = fixture::service(mode, v6, TCP, []);
            service.backends = vec![fixture::backend(mode, v6, 1, outer_v6)];
            program.serve(vec![service]);
            let first = tcp(mode, v6, 40_000, SYN);
            let out = program.send(&first, Outcome::Forwarded);
            let carried = Packet::parse(&inner(&out, outer_v6, mode)).unwrap();
            assert_eq!((carried.source, carried.destination), (first.source, first.destination));
            assert_eq!((carried.ttl, carried.transport), (first.ttl - 1, first.transport));
            let worker = fixture::worker(mode, outer_v6, 1).ip();
            let (source, destination, protocol) = if outer_v6 {
                let at = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&out[at..at + 16]).unwrap());
                (at(22), at(38), out[20])
            } else {
                let at = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&out[at..at + 4]).unwrap());
                (at(26), at(30), out[23])
            };
            assert_eq!(destination, worker);
            assert!(fixture::tunnel_source(outer_v6).contains(&source), "{source}");
            let expected = match (mode, v6) {
                (Mode::Gue, _) => UDP,
                (_, false) => 4,
                (_, true) => 41,
            };
            assert_eq!(protocol, expected);
        }
    }
}

#[test]
fn tunnel_sources_differ_from_flow_to_flow_and_stay_for_one() {
    let mut program = Program::with(one(Mode::Ipip, false, TCP));
    let mut sources = std::collections::BTreeSet::new();
    for port in 40_000..40_050 {
        let syn = program.send(&tcp(Mode::Ipip, false, port, SYN), Outcome::Forwarded);
        let ack = program.send(&tcp(Mode::Ipip, false, port, ACK), Outcome::Forwarded);
        assert_eq!(syn[26..30], ack[26..30]);
        sources.insert(syn[26..30].to_vec());
    }
    assert!(sources.len() > 40, "{}", sources.len());
}

#[test]
fn what_does_not_fit_is_answered_with_the_size_that_does() {
    for (v6, overhead) in [(false, 20), (true, 40)] {
        let mut program = Program::with(one(Mode::Ipip, v6, TCP));
        let mut big = tcp(Mode::Ipip, v6, 40_000, ACK);
        big.payload = vec![7; 1500 - if v6 { 60 } else { 40 }];
        let (run, outcomes) = program.run_bytes(&big.bytes());
        assert_eq!((run.action, outcomes), (TRANSMIT, vec!["too_big"]));
        let icmp = if v6 { 14 + 40 } else { 14 + 20 };
        let message = &run.bytes[icmp..];
        let kind = if v6 { [2, 0] } else { [3, 4] };
        assert_eq!(message[..2], kind);
        assert_eq!(message[4..8], (1500_u32 - overhead).to_be_bytes());
        assert_eq!(message[8..40], big.bytes()[14..46], "the packet is quoted");
        assert_eq!(run.bytes[..6], big.source_mac);
        // What fits goes.
        big.payload.truncate(big.payload.len() - overhead as usize);
        program.send(&big, Outcome::Forwarded);
    }
}

#[test]
fn icmp_errors_about_answers_reach_the_worker_translated() {
    let mut program = Program::with(Vec::new());
    for mode in Mode::ALL {
        for v6 in [false, true] {
            for quoted in [8, 20] {
                program.serve(one(mode, v6, TCP));
                let first = tcp(mode, v6, 40_000, SYN);
                let out = program.send(&first, Outcome::Forwarded);
                if !mode.translates() {
                    program.send(&tcp(mode, v6, 40_000, ACK), Outcome::Forwarded);
                }
                let router = if v6 {
                    "[fd79::1]:0".parse().unwrap()
                } else {
                    "10.79.0.1:0".parse().unwrap()
                };
                let answer = Packet::tcp(first.destination, first.source, ACK);
                let (kind, code) = if v6 { (2, 0) } else { (3, 4) };
                let error = answer.quoted_by(router, kind, code, 1400, quoted);
                let (run, outcomes) = program.run_bytes(&error);
                assert_eq!((run.action, outcomes), (TRANSMIT, vec!["forwarded"]), "{mode:?} {v6}");
                if !mode.translates() {
                    continue;
                }
                let sent = Packet::parse(&out).unwrap();
                let expected = Packet::tcp(sent.destination, sent.source, ACK);
                let from = if mode == Mode::Nat {
                    SocketAddr::new(sent.source.ip(), 0)
                } else {
                    router
                };
                let mut wanted = expected.quoted_by(from, kind, code, 1400, quoted);
                // The error itself takes one hop, with the frame of the worker; the rest must be
                // the same to the byte.
                let ttl = if v6 { 14 + 7 } else { 14 + 8 };
                wanted[..12].copy_from_slice(&run.bytes[..12]);
                wanted[ttl] -= 1;
                if !v6 {
                    wanted[24..26].copy_from_slice(&run.bytes[24..26]);
                }
                assert_eq!(run.bytes, wanted, "{mode:?} v6 {v6} quoted {quoted}");
            }
        }
    }
}

#[test]
fn icmp_errors_about_packets_to_workers_reach_the_client() {
    let mut program = Program::with(Vec::new());
    for mode in [Mode::Nat, Mode::Dnat] {
        for v6 in [false, true] {
            program.serve(one(mode, v6, UDP));
            let first = Packet::udp(client(v6, 40_000), fixture::front(mode, v6), b"question");
            let sent = program.forward(&first);
            let (kind, code) = if v6 { (1, 4) } else { (3, 3) };
            let router = SocketAddr::new(client(v6, 0).ip(), 0);
            let [from_worker, from_router] =
                [sent.destination, router].map(|from| program.run_bytes(&sent.quoted_by(from, kind, code, 0, 8)));
            assert_eq!(from_router.1, ["forwarded"], "{mode:?} {v6}");
            let (run, outcomes) = from_worker;
            assert_eq!((run.action, outcomes), (TRANSMIT, vec!["forwarded"]), "{mode:?} {v6}");
            let offset = if v6 { 14 + 40 + 8 } else { 14 + 20 + 8 };
            let ports = offset + if v6 { 40 } else { 20 };
            assert_eq!(run.bytes[ports..ports + 2], 40_000_u16.to_be_bytes());
            assert_eq!(run.bytes[ports + 2..ports + 4], fixture::PORT.to_be_bytes());
        }
    }
}

/// Cuts a UDP frame of IPv4 into two fragments.
fn fragments(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    let mut first = frame[..34 + at].to_vec();
    let mut second = [&frame[..34], &frame[34 + at..]].concat();
    for (fragment, word) in [(&mut first, 0x2000_u16), (&mut second, (at / 8) as u16)] {
        let length = (fragment.len() - 14) as u16;
        fragment[16..18].copy_from_slice(&length.to_be_bytes());
        fragment[18..20].copy_from_slice(&77_u16.to_be_bytes());
        fragment[20..22].copy_from_slice(&word.to_be_bytes());
        fragment[24..26].fill(0);
        let sum: u32 = fragment[14..34]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = !((sum & 0xffff) as u16 + (sum >> 16) as u16);
        fragment[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    [first, second]
}

#[test]
fn fragments_follow_their_first() {
    let mut program = Program::with(Vec::new());
    for mode in Mode::ALL {
        program.serve(one(mode, false, UDP));
        let datagram = Packet::udp(client(false, 40_000), fixture::front(mode, false), &[5; 64]);
        let [first, second] = fragments(&datagram.bytes(), 32);
        let (_, outcomes) = program.run_bytes(&second);
        assert_eq!(outcomes, ["fragment_unknown"]);
        let (one, outcomes) = program.run_bytes(&first);
        assert_eq!(outcomes, ["forwarded"], "{mode:?}");
        let (other, outcomes) = program.run_bytes(&second);
        assert_eq!(outcomes, ["forwarded"], "{mode:?}");
        assert_eq!(one.bytes[..6], other.bytes[..6], "both to the same worker");
        assert_eq!(one.bytes[30..34], other.bytes[30..34]);
        assert_eq!(other.bytes[other.bytes.len() - 40..], second[second.len() - 40..]);
    }
}

#[test]
fn extension_headers_are_walked_over() {
    let mut program = Program::with(one(Mode::Nat, true, TCP));
    let plain = tcp(Mode::Nat, true, 40_000, SYN).bytes();
    let options = [TCP, 0, 1, 4, 0, 0, 0, 0];
    let mut frame = [&plain[..54], &[60, 0, 1, 4, 0, 0, 0, 0], &options, &plain[54..]].concat();
    frame[20] = 0;
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    let (run, outcomes) = program.run_bytes(&frame);
    assert_eq!((run.action, outcomes), (TRANSMIT, vec!["forwarded"]));
    let worker = fixture::worker(Mode::Nat, true, 1);
    let IpAddr::V6(address) = worker.ip() else {
        unreachable!()
    };
    assert_eq!(run.bytes[38..54], address.octets());
    assert_eq!(run.bytes[72..74], worker.port().to_be_bytes());
}

/// The frame with VLAN tags before its type.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> = tags
        .iter()
        .flat_map(|(kind, tag)| [kind.to_be_bytes(), tag.to_be_bytes()].concat())
        .collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

#[test]
fn a_frame_leaves_with_the_tags_of_its_next_hop() {
    let mut program = Program::with(Vec::new());
    let cases: [(&[(u16, u16)], Tags); 5] = [
        (&[(0x8100, 0x2007)], Tags::vlan(7)),
        (&[(0x8100, 7)], Tags::NONE),
        (&[], Tags::vlan(7)),
        (
            &[(0x88a8, 5), (0x8100, 7)],
            Tags(Tags::vlan(5).0 | Tags::vlan(7).0 << 16),
        ),
        (&[(0x88a8, 5), (0x8100, 7)], Tags::vlan(9)),
    ];
    for mode in Mode::ALL {
        for (tags, leaves_with) in cases {
            let mut service = fixture::service(mode, false, TCP, [1]);
            service.backends[0].next_hop = Some(NextHop {
                tags: leaves_with,
                ..service.backends[0].next_hop.unwrap()
            });
            program.serve(vec![service]);
            for flags in [SYN, ACK] {
                let frame = tagged(&tcp(mode, false, 40_000, flags).bytes(), tags);
                let (run, outcomes) = program.run_bytes(&frame);
                assert_eq!(outcomes, ["forwarded"], "{mode:?} {tags:?}");
                let found: Vec<u16> = run.bytes[12..]
                    .chunks(4)
                    .take_while(|tag| matches!(tag[..2], [0x81, 0] | [0x88, 0xa8]))
                    .map(|tag| u16::from_be_bytes([tag[2], tag[3]]) & 0xfff)
                    .collect();
                let wanted = match leaves_with.count() {
                    0 => vec![],
                    1 => vec![u16::from_be(leaves_with.0 as u16)],
                    _ => vec![5, 7],
                };
                assert_eq!(found, wanted, "{mode:?} {tags:?}");
                assert_eq!(run.bytes[12 + 4 * found.len()..][..3], [8, 0, 0x45]);
            }
        }
    }
}

#[test]
fn answers_go_back_with_the_tags_of_the_client() {
    let mut program = Program::with(one(Mode::Nat, false, TCP));
    let frame = tagged(&tcp(Mode::Nat, false, 40_000, SYN).bytes(), &[(0x8100, 7)]);
    let (run, _) = program.run_bytes(&frame);
    let out = Packet::parse(&run.bytes).unwrap();
    let (run, outcomes) = program.run_bytes(&Packet::tcp(out.destination, out.source, SYN | ACK).bytes());
    assert_eq!(outcomes, ["forwarded"]);
    assert_eq!(run.bytes[12..18], [0x81, 0, 0, 7, 8, 0]);
}

#[test]
fn hash_schedulers_need_no_entry_for_a_syn_and_find_the_worker_again() {
    for scheduler in [Scheduler::Maglev, Scheduler::SourceHash] {
        let mut service = fixture::service(Mode::Dsr, false, TCP, 1..=8);
        service.scheduler = scheduler;
        let mut program = Program::with(vec![service]);
        let mut workers = std::collections::BTreeSet::new();
        for port in 40_000..40_040 {
            let syn = program.send(&tcp(Mode::Dsr, false, port, SYN), Outcome::Forwarded);
            let before = program.flows().len();
            let ack = program.send(&tcp(Mode::Dsr, false, port, ACK), Outcome::Forwarded);
            assert_eq!(
                (before + 1, syn[..6].to_vec()),
                (program.flows().len(), ack[..6].to_vec())
            );
            workers.insert(syn[5]);
        }
        assert_eq!(
            workers.len() > 4,
            scheduler == Scheduler::Maglev,
            "{scheduler:?}: {workers:?}"
        );
        assert_eq!(program.load(), (0, 40));
    }
}

#[test]
fn a_segment_that_no_flow_knows_goes_by_hash_where_the_worker_answers_itself() {
    let mut program = Program::with(vec![fixture::service(Mode::Ipip, false, TCP, 1..=8)]);
    let one = program.send(&tcp(Mode::Ipip, false, 40_000, ACK), Outcome::Forwarded);
    let other = program.send(&tcp(Mode::Ipip, false, 40_000, ACK), Outcome::Forwarded);
    assert_eq!(one[..34], other[..34]);
    assert_eq!(program.flows()[0].phase, Phase::Established);
    program.send(&tcp(Mode::Ipip, false, 40_000, FIN | ACK), Outcome::Forwarded);
    assert_eq!(
        (program.flows()[0].phase, program.load()),
        (Phase::LeftByClient, (0, 0))
    );
    program.send(&tcp(Mode::Ipip, false, 41_000, RST), Outcome::Forwarded);
    assert_eq!(program.flows().len(), 1, "a reset begins nothing");
}

#[test]
fn guards_refuse_new_flows_and_leave_old_ones() {
    let mut service = fixture::service(Mode::Nat, false, TCP, [1]);
    let mut program = Program::with(vec![service.clone()]);
    program.forward(&tcp(Mode::Nat, false, 40_000, SYN));
    service.guard.deny = vec!["10.78.0.0/16".parse().unwrap()];
    program.desire(vec![service.clone()]);
    program.send(&tcp(Mode::Nat, false, 40_001, SYN), Outcome::GuardDenied);
    program.forward(&tcp(Mode::Nat, false, 40_000, ACK));
    service.guard.allow = vec!["10.78.0.9/32".parse().unwrap()];
    program.desire(vec![service.clone()]);
    program.forward(&tcp(Mode::Nat, false, 40_002, SYN));
    service.guard.deny.clear();
    service.guard.allow = vec!["10.99.0.0/16".parse().unwrap()];
    program.desire(vec![service]);
    program.send(&tcp(Mode::Nat, false, 40_003, SYN), Outcome::GuardDenied);
}

#[test]
fn a_connection_limit_and_a_source_rate_hold() {
    let mut limited = fixture::service(Mode::Nat, false, TCP, [1]);
    limited.guard.connection_limit = 3;
    let mut program = Program::with(vec![limited]);
    for port in 40_000..40_003 {
        program.forward(&tcp(Mode::Nat, false, port, SYN));
    }
    program.send(&tcp(Mode::Nat, false, 40_003, SYN), Outcome::ConnectionLimit);

    let mut rated = fixture::service(Mode::Nat, false, TCP, [1]);
    rated.guard.source_rate = 1;
    rated.guard.source_burst = 5;
    let mut program = Program::with(vec![rated]);
    let mut taken = 0;
    for port in 41_000..41_100 {
        let (run, outcomes) = program.run_bytes(&tcp(Mode::Nat, false, port, SYN).bytes());
        match outcomes.as_slice() {
            ["forwarded"] => taken += 1,
            ["rate_limited"] => assert_eq!(run.action, DROP),
            other => panic!("{other:?}"),
        }
    }
    assert!((5..50).contains(&taken), "{taken}");
}

#[test]
fn a_range_of_ports_keeps_the_packets_port_and_a_single_port_in_it_wins() {
    let mut range = fixture::service(Mode::Nat, false, TCP, [1]);
    range.at.port = 8000;
    range.last_port = 8099;
    range.backends[0].address.set_port(0);
    let mut single = fixture::service(Mode::Nat, false, TCP, [2]);
    single.at.port = 8050;
    let mut program = Program::with(vec![range, single]);
    let to = |port| SocketAddr::new(fixture::virtual_address(Mode::Nat, false), port);
    for (port, worker) in [(8000, 1), (8051, 1), (8099, 1), (8050, 2)] {
        let first = Packet::tcp(client(false, 40_000 + port), to(port), SYN);
        let out = program.forward(&first);
        let expected = fixture::worker(Mode::Nat, false, worker);
        assert_eq!(out.destination.ip(), expected.ip(), "{port}");
        let answer = program.forward(&Packet::tcp(out.destination, out.source, SYN | ACK));
        assert_eq!((answer.source, answer.destination), (first.destination, first.source));
        if worker == 1 {
            assert_eq!(out.destination.port(), port);
        }
    }
    for port in [7999, 8100] {
        let (run, outcomes) = program.run_bytes(&Packet::tcp(client(false, 1), to(port), SYN).bytes());
        assert_eq!((run.action, outcomes), (PASS, vec!["not_ours"]));
    }
}

#[test]
fn workers_get_the_address_of_the_client_during_the_handshake() {
    for v6 in [false, true] {
        let mut service = fixture::service(Mode::Nat, v6, TCP, [1]);
        service.toa = true;
        let mut program = Program::with(vec![service]);
        let (l4, size) = if v6 { (54, 20) } else { (34, 8) };
        let first = tcp(Mode::Nat, v6, 40_000, SYN);
        let syn = program.send(&first, Outcome::Forwarded);
        let sent = Packet::parse(&syn).expect("lengths and checksums are right");
        let option = &syn[l4 + 20..l4 + 20 + size];
        assert_eq!(option[..4], [if v6 { 253 } else { 254 }, size as u8, 0x9c, 0x40]);
        match first.source.ip() {
            IpAddr::V4(address) => assert_eq!(option[4..], address.octets()),
            IpAddr::V6(address) => assert_eq!(option[4..], address.octets()),
        }
        program.forward(&Packet::tcp(sent.destination, sent.source, SYN | ACK));
        let ack = program.send(&tcp(Mode::Nat, v6, 40_000, ACK), Outcome::Forwarded);
        assert_eq!(
            ack[l4 + 20..l4 + 20 + size],
            *option,
            "the end of the handshake has it, too"
        );
        Packet::parse(&ack).expect("lengths and checksums are right");
        let data = program.send(&tcp(Mode::Nat, v6, 40_000, ACK), Outcome::Forwarded);
        assert_eq!(data.len(), ack.len() - size, "no segment after it");
    }
}

#[test]
fn a_client_cannot_forge_its_address_with_an_option_of_its_own() {
    let mut service = fixture::service(Mode::Nat, false, TCP, [1]);
    service.toa = true;
    let mut program = Program::with(vec![service]);
    let with_options = |options: &[u8]| {
        let mut frame = tcp(Mode::Nat, false, 30_000, SYN).bytes();
        frame.extend(options);
        let length = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[46] = ((20 + options.len()) as u8 / 4) << 4;
        frame
    };
    let claim = [254, 8, 0, 80, 1, 1, 1, 1];
    let full = [&claim[..], &[1; 32]].concat();
    assert_eq!(program.run_bytes(&with_options(&full)).1, ["toa_forged"]);
    assert_eq!(
        program.run_bytes(&with_options(&[1; 40])).1,
        ["forwarded"],
        "no space, and nothing claimed"
    );
    // With space, the real one comes first.
    let (out, outcomes) = program.run_bytes(&with_options(&claim));
    assert_eq!(outcomes, ["forwarded"]);
    assert_eq!(out.bytes[54..58], [254, 8, 117, 48]);
}

#[test]
fn icmp_errors_about_handshakes_without_an_entry_follow_them_by_hash() {
    let mut program = Program::with(Vec::new());
    for scheduler in [Scheduler::Maglev, Scheduler::SourceHash] {
        for v6 in [false, true] {
            let mut service = fixture::service(Mode::Dsr, v6, TCP, [1, 2, 3]);
            service.scheduler = scheduler;
            program.serve(vec![service]);
            for host in 1..30 {
                let mut syn = tcp(Mode::Dsr, v6, 40_000, SYN);
                syn.source.set_ip(fixture::worker(Mode::Gue, v6, host).ip());
                let sent = program.send(&syn, Outcome::Forwarded);
                assert_eq!(program.flows().len(), 0);
                let answer = Packet::tcp(syn.destination, syn.source, SYN | ACK);
                let (kind, code) = if v6 { (2, 0) } else { (3, 4) };
                let router = SocketAddr::new(client(v6, 0).ip(), 0);
                let (run, outcomes) = program.run_bytes(&answer.quoted_by(router, kind, code, 1400, 8));
                assert_eq!(outcomes, ["forwarded"], "{scheduler:?} {v6}");
                assert_eq!(run.bytes[..6], sent[..6], "{scheduler:?} {v6} client {host}");
            }
        }
    }
}

#[test]
fn errors_of_others_pass_as_they_are() {
    for v6 in [false, true] {
        let mut program = Program::with(one(Mode::Dnat, v6, TCP));
        let sent = program.forward(&tcp(Mode::Dnat, v6, 40_000, SYN));
        let kind = if v6 { 1 } else { 3 };
        // About a packet of another client, and one about the flow's that goes to somebody else.
        let mut other = sent.clone();
        other.source.set_port(40_001);
        let foreign = other.quoted_by(sent.destination, kind, 0, 0, 8);
        let mut astray = sent.quoted_by(client(v6, 0), kind, 0, 0, 8);
        let last = if v6 { 14 + 39 } else { 14 + 19 };
        astray[last] ^= 1;
        for frame in [&astray, &foreign] {
            let (run, outcomes) = program.run_bytes(frame);
            assert_eq!((run.action, outcomes, &run.bytes), (PASS, vec!["not_ours"], frame));
        }
    }
}
