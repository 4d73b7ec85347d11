//! What the packet path makes of workers that refuse SYNs or do not answer them.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use harness::{
    fixture::{self, TCP, tcp},
    packet::{ACK, Packet, RST, SYN},
    program::Program,
};
use lb_common::{BackendSignals, BackendState, Event, Mode, Outcome, Phase, Scheduler};
use lb_core::reconcile::desired::DesiredService;

/// Longer than what passes for an answer's time.
const SILENCE: Duration = Duration::from_millis(600);

const MODES: [(Mode, bool); 4] = [
    (Mode::Nat, false),
    (Mode::Nat, true),
    (Mode::Dnat, false),
    (Mode::Dnat, true),
];

const SCHEDULERS: [Scheduler; 5] = [
    Scheduler::RoundRobin,
    Scheduler::LeastConnection,
    Scheduler::Random,
    Scheduler::Maglev,
    Scheduler::SourceHash,
];

fn service(mode: Mode, v6: bool, scheduler: Scheduler, hosts: &[u8]) -> Vec<DesiredService> {
    let mut service = fixture::service(mode, v6, TCP, hosts.iter().copied());
    service.scheduler = scheduler;
    vec![service]
}

/// Signals by worker.
fn signals(program: &Program, worker: SocketAddr) -> BackendSignals {
    let is_it = |index: &u32| {
        let backend = program.tables.backends.read(*index).unwrap();
        backend.status.state() != BackendState::Free && harness::program::address(&backend) == worker.ip()
    };
    let index = (0..16).find(is_it).expect("the worker's entry");
    program.tables.signals.read(index).unwrap()
}

fn in_a_row(program: &Program, worker: SocketAddr) -> (u32, u32) {
    let signals = signals(program, worker);
    (signals.refused, signals.unanswered)
}

fn rescheduled(program: &Program) -> u64 {
    let events = program.tables.events().unwrap();
    let found = events.iter().find(|(event, _)| *event == Event::Rescheduled);
    found.expect("it is counted").1
}

fn back(out: &Packet, flags: u8) -> Packet {
    Packet::tcp(out.destination, out.source, flags)
}

/// The counts are what the table says: embryonic, active, and the flows of the service.
fn assert_counted(program: &Program) {
    let flows = program.flows();
    let count = |is: fn(Phase) -> bool| flows.iter().filter(|flow| flow.to_worker && is(flow.phase)).count() as u32;
    let embryonic = count(|phase| matches!(phase, Phase::Opening | Phase::Answered));
    let active = count(|phase| matches!(phase, Phase::Established | Phase::ClientClosing | Phase::WorkerClosing));
    assert_eq!(program.load(), (embryonic, active));
    let state = program.tables.service_states.read(0).unwrap();
    assert_eq!(state.flows, embryonic + active);
    for flow in &flows {
        assert!(
            program.tables.other_direction(flow).is_some(),
            "both directions of {flow:?}"
        );
    }
}

#[test]
fn refused_syns_are_counted_in_a_row_and_an_answer_ends_the_row() {
    for (mode, v6) in MODES {
        let mut program = Program::with(service(mode, v6, Scheduler::RoundRobin, &[1]));
        let worker = fixture::worker(mode, v6, 1);
        for count in 1..=4 {
            let out = program.forward(&tcp(mode, v6, 30_000 + count, SYN));
            program.forward(&back(&out, RST | ACK));
            assert_eq!(in_a_row(&program, worker), (count.into(), 0), "{mode:?} {v6}");
        }
        let out = program.forward(&tcp(mode, v6, 31_000, SYN));
        program.forward(&back(&out, SYN | ACK));
        assert_eq!(in_a_row(&program, worker), (0, 0));
        assert_counted(&program);
    }
}

#[test]
fn resets_that_do_not_answer_a_syn_are_not_held_against_a_worker() {
    for (mode, v6) in MODES {
        let mut program = Program::with(service(mode, v6, Scheduler::RoundRobin, &[1]));
        let worker = fixture::worker(mode, v6, 1);
        // Of an established connection.
        let out = program.forward(&tcp(mode, v6, 30_000, SYN));
        program.forward(&back(&out, SYN | ACK));
        program.forward(&tcp(mode, v6, 30_000, ACK));
        program.forward(&back(&out, RST | ACK));
        // The client's own.
        program.forward(&tcp(mode, v6, 30_001, SYN));
        program.forward(&tcp(mode, v6, 30_001, RST | ACK));
        // The answer to a segment without a connection acknowledges nothing.
        let out = program.forward(&tcp(mode, v6, 30_002, SYN));
        program.forward(&tcp(mode, v6, 30_002, ACK));
        program.forward(&back(&out, RST));
        assert_eq!(in_a_row(&program, worker), (0, 0), "{mode:?} {v6}");
        assert_counted(&program);
    }
}

#[test]
fn floods_of_syns_and_copies_of_them_say_nothing_about_a_worker() {
    let mut program = Program::with(service(Mode::Nat, false, Scheduler::RoundRobin, &[1, 2]));
    let mut late = 0;
    for port in 30_000..30_200 {
        for _ in 0..3 {
            let begin = Instant::now();
            program.forward(&tcp(Mode::Nat, false, port, SYN));
            // On a busy machine a copy may come as late as a sender's second try.
            late += u64::from(begin.elapsed() > SILENCE / 6);
        }
    }
    let unanswered = [1, 2].map(|host| in_a_row(&program, fixture::worker(Mode::Nat, false, host)).1);
    assert!(
        u64::from(unanswered[0] + unanswered[1]) <= late,
        "{unanswered:?}, {late}"
    );
    assert!(rescheduled(&program) <= late);
    assert_counted(&program);
}

#[test]
fn a_syn_that_comes_again_unanswered_goes_to_another_worker() {
    for (mode, v6) in MODES {
        let mut program = Program::with(service(mode, v6, Scheduler::RoundRobin, &[1, 2, 3]));
        for scheduler in SCHEDULERS {
            program.forget();
            program.desire(service(mode, v6, scheduler, &[1, 2, 3]));
            let before = rescheduled(&program);
            let syn = tcp(mode, v6, 30_000, SYN);
            let first = program.forward(&syn);
            thread::sleep(SILENCE);
            let second = program.forward(&syn);
            let case = format!("{mode:?} {v6} {scheduler:?}");
            assert_eq!(in_a_row(&program, first.destination), (0, 1), "{case}");
            assert_counted(&program);
            if scheduler == Scheduler::SourceHash {
                assert_eq!(second.destination, first.destination, "{case}: stays for one lost SYN");
                continue;
            }
            assert_ne!(second.destination, first.destination, "{case}");
            assert_eq!((rescheduled(&program) - before, program.load()), (1, (1, 0)), "{case}");
            // A late reply of the first one belongs to no flow.
            let late = program.run_bytes(&back(&first, SYN | ACK).bytes());
            assert_eq!(late.1, [Outcome::NotOurs.name()], "{case}");
            assert_eq!(program.load(), (1, 0), "{case}");
            let answer = program.forward(&back(&second, SYN | ACK));
            assert_eq!(
                (answer.source, answer.destination),
                (syn.destination, syn.source),
                "{case}"
            );
            let third = program.forward(&tcp(mode, v6, 30_000, ACK));
            assert_eq!(
                (third.source, third.destination),
                (second.source, second.destination),
                "{case}"
            );
            assert_eq!((program.load(), program.flows().len()), ((0, 1), 2), "{case}");
            assert_eq!(in_a_row(&program, second.destination), (0, 0), "{case}");
            assert_counted(&program);
        }
    }
}

#[test]
fn the_only_worker_keeps_a_syn_that_comes_again() {
    let mut program = Program::with(service(Mode::Nat, false, Scheduler::RoundRobin, &[1]));
    for scheduler in SCHEDULERS {
        program.forget();
        program.desire(service(Mode::Nat, false, scheduler, &[1]));
        let syn = tcp(Mode::Nat, false, 30_000, SYN);
        let first = program.forward(&syn);
        for count in 1..=4 {
            thread::sleep(SILENCE);
            let again = program.forward(&syn);
            assert_eq!((again.source, again.destination), (first.source, first.destination));
            assert_eq!(in_a_row(&program, first.destination), (0, count), "{scheduler:?}");
        }
        program.forward(&back(&first, SYN | ACK));
        assert_eq!(in_a_row(&program, first.destination), (0, 0));
        assert_counted(&program);
    }
}

#[test]
fn a_lost_syn_stays_with_a_worker_that_has_answered_others_meanwhile() {
    for (mode, v6) in MODES {
        let mut program = Program::with(service(mode, v6, Scheduler::RoundRobin, &[1, 2]));
        let lost = tcp(mode, v6, 30_000, SYN);
        let first = program.forward(&lost);
        thread::sleep(SILENCE);
        let answers_others = |program: &mut Program, port| {
            for port in [port, port + 1] {
                let out = program.forward(&tcp(mode, v6, port, SYN));
                program.forward(&back(&out, SYN | ACK));
            }
        };
        answers_others(&mut program, 31_000);
        assert_eq!(program.forward(&lost).destination, first.destination, "{mode:?} {v6}");
        assert_eq!(
            (rescheduled(&program), in_a_row(&program, first.destination)),
            (0, (0, 1))
        );
        answers_others(&mut program, 32_000);
        assert_eq!(in_a_row(&program, first.destination), (0, 0));
        assert_counted(&program);
    }
}

#[test]
fn clients_of_source_hash_leave_a_worker_that_is_suspect() {
    let mut program = Program::with(service(Mode::Dnat, false, Scheduler::SourceHash, &[1, 2, 3]));
    let syns: Vec<_> = (30_000..30_004).map(|port| tcp(Mode::Dnat, false, port, SYN)).collect();
    let home = program.forward(&syns[0]).destination;
    for syn in &syns[1..] {
        assert_eq!(program.forward(syn).destination, home, "one client, one worker");
    }
    thread::sleep(SILENCE);
    let workers: Vec<_> = syns.iter().map(|syn| program.forward(syn).destination).collect();
    assert_eq!(workers[..2], [home, home]);
    assert!(
        workers[2..]
            .iter()
            .all(|worker| *worker != home && *worker == workers[2])
    );
    assert_eq!((rescheduled(&program), program.load()), (2, (4, 0)));
    assert_counted(&program);
}

#[test]
fn a_worker_that_answered_is_never_left_by_a_syn_that_comes_again() {
    for (mode, v6) in MODES {
        let mut program = Program::with(service(mode, v6, Scheduler::RoundRobin, &[1, 2]));
        let syn = tcp(mode, v6, 30_000, SYN);
        let first = program.forward(&syn);
        program.forward(&back(&first, SYN | ACK));
        thread::sleep(SILENCE);
        let again = program.forward(&syn);
        assert_eq!(
            (again.source, again.destination),
            (first.source, first.destination),
            "{mode:?} {v6}"
        );
        assert_eq!(
            (rescheduled(&program), in_a_row(&program, first.destination)),
            (0, (0, 0))
        );
        assert_counted(&program);
    }
}

#[test]
fn a_backend_that_comes_up_again_has_a_clean_record() {
    let mut program = Program::with(service(Mode::Nat, false, Scheduler::RoundRobin, &[1]));
    let worker = fixture::worker(Mode::Nat, false, 1);
    for port in 30_000..30_003 {
        let out = program.forward(&tcp(Mode::Nat, false, port, SYN));
        program.forward(&back(&out, RST | ACK));
    }
    assert!(signals(&program, worker).is_suspect());
    for state in [BackendState::Down, BackendState::Up] {
        let mut services = service(Mode::Nat, false, Scheduler::RoundRobin, &[1]);
        services[0].backends[0].state = Some(state);
        program.desire(services);
    }
    assert_eq!(signals(&program, worker), BackendSignals::ZERO);
}
