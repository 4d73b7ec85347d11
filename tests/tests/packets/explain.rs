//! What is explained of a packet, compared with what then becomes of it.

use std::net::{IpAddr, SocketAddr};

use harness::{
    fixture::{self, TCP, UDP},
    packet::{ACK, Packet, RST, SYN},
    program::Program,
};
use lb_common::{BackendState, Mode, OnBackendDown, Outcome, Scheduler};
use lb_core::{config::Protocol, reconcile::desired::DesiredService};
use lb_userspace::dataplane::explain::{Certainty, Found, Question, Verdict, explain};

const HOSTS: [u8; 4] = [1, 2, 3, 4];
/// Clients of each service: enough for the gate, and more at night.
fn clients() -> u16 {
    if harness::is_nightly() { 40 } else { 6 }
}

fn client(v6: bool, number: u16) -> SocketAddr {
    let [high, low] = number.wrapping_mul(40_503).to_be_bytes();
    let address = if v6 {
        IpAddr::from([0xfd78, 0, 0, 0, 0, 0, u16::from(high), u16::from(low)])
    } else {
        IpAddr::from([10, 78, high, low])
    };
    SocketAddr::new(address, 10_000 + number.wrapping_mul(7919) % 50_000)
}

fn question(service: &DesiredService, client: SocketAddr) -> Question {
    Question {
        protocol: if service.at.protocol == TCP {
            Protocol::Tcp
        } else {
            Protocol::Udp
        },
        client,
        virtual_address: SocketAddr::new(service.at.address, service.at.port),
    }
}

fn packet(question: &Question, flags: u8) -> Packet {
    match question.protocol {
        Protocol::Tcp => Packet::tcp(question.client, question.virtual_address, flags),
        Protocol::Udp => Packet::udp(question.client, question.virtual_address, b"question"),
    }
}

/// The number of the worker that a frame is addressed to.
fn host(frame: &[u8]) -> u8 {
    assert_eq!(frame[..5], fixture::worker_mac(0)[..5]);
    frame[5]
}

/// The number of the worker that was found.
fn found_host(found: &Found) -> u8 {
    match found.worker.expect("a worker").ip() {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

fn service(mode: Mode, v6: bool, protocol: u8, scheduler: Scheduler) -> DesiredService {
    let mut service = fixture::service(mode, v6, protocol, HOSTS);
    service.scheduler = scheduler;
    for (backend, weight) in service.backends.iter_mut().zip([3, 1, 2, 1]) {
        backend.weight = weight;
    }
    service
}

#[test]
fn every_mode_scheduler_and_family_does_what_is_explained() {
    let schedulers = [
        Scheduler::RoundRobin,
        Scheduler::LeastConnection,
        Scheduler::Random,
        Scheduler::SourceHash,
        Scheduler::Maglev,
    ];
    let (mut compared, mut exact) = (0, 0);
    let mut program = Program::with(Vec::new());
    for (scheduler, protocol) in schedulers
        .into_iter()
        .flat_map(|scheduler| [(scheduler, TCP), (scheduler, UDP)])
    {
        let services: Vec<_> = Mode::ALL
            .iter()
            .flat_map(|mode| [false, true].map(|v6| service(*mode, v6, protocol, scheduler)))
            .collect();
        program.desire(Vec::new());
        program.desire(services.clone());
        for service in &services {
            // The table is small; what a full table does is in another test.
            program.forget();
            for number in 0..clients() {
                let question = question(service, client(service.at.address.is_ipv6(), number));
                let name = format!("{scheduler:?} {:?} {question:?}", service.mode);
                let before = explain(&program.tables, &question).unwrap();
                assert!(
                    matches!(before.verdict, Verdict::WouldBegin | Verdict::Untracked),
                    "{name}: {before:?}"
                );
                assert_eq!(before.candidates.len(), HOSTS.len(), "{name}");
                let sent = host(&program.send(&packet(&question, SYN), Outcome::Forwarded));
                match before.certainty.unwrap() {
                    Certainty::Always | Certainty::IfNext => {
                        exact += 1;
                        assert_eq!(found_host(&before), sent, "{name}: {before:?}");
                    }
                    Certainty::Drawn => assert_eq!(scheduler, Scheduler::Random, "{name}"),
                }
                compared += 1;
                let after = explain(&program.tables, &question).unwrap();
                let tracked = program.tables.find_flow(lb_userspace::dataplane::flows::Tuple {
                    source: question.client,
                    destination: question.virtual_address,
                    protocol: service.at.protocol,
                });
                let expected = if tracked.is_some() {
                    Verdict::HasFlow
                } else {
                    Verdict::Untracked
                };
                assert_eq!(after.verdict, expected, "{name}");
                assert_eq!(found_host(&after), sent, "{name}");
                let next = host(&program.send(&packet(&question, ACK), Outcome::Forwarded));
                assert_eq!(next, sent, "{name}");
            }
        }
    }
    println!("{compared} packets compared with what was explained, {exact} of them to the very backend");
    assert_eq!(compared, 5 * 20 * u32::from(clients()));
    assert_eq!(exact, 4 * 20 * u32::from(clients()));
}

#[test]
fn refusals_have_the_outcome_that_is_explained() {
    let mut program = Program::with(Vec::new());
    for v6 in [false, true] {
        let net = |text: &str| text.parse().unwrap();
        let base = |mode| service(mode, v6, TCP, Scheduler::RoundRobin);
        let mut denying = base(Mode::Nat);
        denying.guard.deny = vec![net(if v6 { "fd78::/16" } else { "10.78.0.0/16" })];
        let mut allowing = base(Mode::Nat);
        allowing.guard.allow = vec![net(if v6 { "fd99::/16" } else { "10.99.0.0/16" })];
        let mut full = base(Mode::Dsr);
        full.guard.connection_limit = 1;
        let mut slow = base(Mode::Nat);
        (slow.guard.source_rate, slow.guard.source_burst) = (1, 1);
        let mut empty = base(Mode::Gue);
        empty.backends.clear();
        let mut unresolved = base(Mode::Dsr);
        for backend in &mut unresolved.backends {
            backend.next_hop = None;
        }
        for (service, first, then) in [
            (denying, Outcome::GuardDenied, Outcome::GuardDenied),
            (allowing, Outcome::GuardDenied, Outcome::GuardDenied),
            (full, Outcome::Forwarded, Outcome::ConnectionLimit),
            (slow, Outcome::Forwarded, Outcome::RateLimited),
            (empty, Outcome::ResetNoBackend, Outcome::ResetNoBackend),
            (unresolved, Outcome::NoNextHop, Outcome::NoNextHop),
        ] {
            program.desire(Vec::new());
            program.desire(vec![service.clone()]);
            program.forget();
            for (port, outcome) in [(30_000, first), (30_001, then)] {
                let question = question(&service, SocketAddr::new(client(v6, 5).ip(), port));
                let found = explain(&program.tables, &question).unwrap();
                assert_eq!(found.outcome.unwrap_or(Outcome::Forwarded), outcome, "{found:?}");
                let (_, counted) = program.run_bytes(&packet(&question, SYN).bytes());
                assert_eq!(counted, [outcome.name()], "{found:?}");
            }
        }
        program.desire(vec![base(Mode::Nat)]);
        let mut elsewhere = question(&base(Mode::Nat), client(v6, 1));
        elsewhere.virtual_address.set_port(81);
        assert_eq!(
            explain(&program.tables, &elsewhere).unwrap().outcome,
            Some(Outcome::NotOurs)
        );
        elsewhere.virtual_address = client(v6, 2);
        assert_eq!(
            explain(&program.tables, &elsewhere).unwrap().outcome,
            Some(Outcome::NotOurs)
        );
    }
}

#[test]
fn flows_of_backends_that_are_down_go_where_the_policy_says() {
    let mut program = Program::with(Vec::new());
    for v6 in [false, true] {
        for (mode, protocol) in [(Mode::Nat, TCP), (Mode::Nat, UDP), (Mode::Dsr, TCP), (Mode::Ipip, UDP)] {
            for policy in [OnBackendDown::Reset, OnBackendDown::Reschedule, OnBackendDown::Hold] {
                let mut service = service(mode, v6, protocol, Scheduler::RoundRobin);
                service.on_backend_down = policy;
                program.desire(Vec::new());
                program.desire(vec![service.clone()]);
                program.forget();
                let question = question(&service, client(v6, 7));
                let before = host(&program.send(&packet(&question, SYN), Outcome::Forwarded));
                let place = HOSTS.iter().position(|host| *host == before).unwrap();
                service.backends[place].state = Some(BackendState::Down);
                program.desire(vec![service]);
                let name = format!("{mode:?} {protocol} {policy:?} {v6}");
                let found = explain(&program.tables, &question).unwrap();
                let (run, counted) = program.run_bytes(&packet(&question, ACK).bytes());
                match (policy, protocol) {
                    (OnBackendDown::Hold, _) => {
                        assert_eq!((found.verdict, host(&run.bytes)), (Verdict::HasFlow, before), "{name}");
                    }
                    (OnBackendDown::Reset, TCP) => {
                        assert_eq!(found.outcome, Some(Outcome::ResetBackendDown), "{name}");
                        assert_eq!(counted, [Outcome::ResetBackendDown.name()], "{name}");
                    }
                    _ => {
                        assert_eq!(found.verdict, Verdict::WouldBegin, "{name}: {found:?}");
                        assert_eq!(found_host(&found), host(&run.bytes), "{name}: {found:?}");
                        assert_ne!(host(&run.bytes), before, "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_reply_is_distinguished_from_a_request() {
    let service = service(Mode::Nat, false, TCP, Scheduler::RoundRobin);
    let mut program = Program::with(vec![service.clone()]);
    let asked = question(&service, client(false, 3));
    let sent = program.forward(&packet(&asked, SYN));
    let answer = Question {
        client: sent.destination,
        virtual_address: sent.source,
        ..asked
    };
    let found = explain(&program.tables, &answer).unwrap();
    assert_eq!((found.verdict, found.outcome), (Verdict::IsReply, None), "{found:?}");
    let mut stray = Packet::tcp(client(false, 4), asked.virtual_address, RST);
    stray.ttl = 9;
    let (_, counted) = program.run_bytes(&stray.bytes());
    assert_eq!(
        counted,
        [Outcome::StrayReset.name()],
        "nothing was entered by explaining"
    );
}
