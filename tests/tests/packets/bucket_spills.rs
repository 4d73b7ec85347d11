//! Marks of buckets that spilled: set where an entry goes to its second bucket, taken back by the
//! controller.

use std::net::SocketAddr;

use harness::{
    fixture::{self, TCP},
    packet::{ACK, Packet, SYN},
    program::Program,
};
use lb_common::{Mode, Outcome};
use lb_core::config::Capacity;

/// Flows, of two entries each, that fill their table so far that many find their first bucket
/// crowded.
const FLOWS: u16 = 36;
const CAPACITY: u32 = 64;

fn segment(v6: bool, flow: u16, flags: u8) -> Packet {
    let front = fixture::front(Mode::Nat, v6);
    let client = SocketAddr::new(fixture::worker(Mode::Dsr, v6, 9).ip(), 30_000 + flow);
    Packet::tcp(client, front, flags)
}

/// Segments without SYN are forwarded only where their flow is found.
fn assert_all_found(program: &mut Program, v6: bool, flows: impl Iterator<Item = u16>) {
    for flow in flows {
        program.send(&segment(v6, flow, ACK), Outcome::Forwarded);
    }
}

#[test]
fn marks_of_spilled_buckets_are_renewed_and_no_flow_is_lost() {
    for v6 in [false, true] {
        let capacity = Capacity {
            flows_v4: CAPACITY,
            flows_v6: CAPACITY,
            ..Capacity::default()
        };
        let mut program = Program::new(capacity, vec![fixture::service(Mode::Nat, v6, TCP, [1])]);
        assert_eq!(program.tables.spilled_buckets().0, 0);
        for flow in 0..FLOWS {
            program.send(&segment(v6, flow, SYN), Outcome::Forwarded);
        }
        let (full, _) = program.tables.spilled_buckets();
        assert!(full > 0, "no bucket spilled");
        assert_all_found(&mut program, v6, 0..FLOWS);

        // An entry in a second bucket keeps the mark of its first one, in either mark.
        for _ in 0..2 {
            program.tables.renew_spills();
            assert_eq!(program.tables.spilled_buckets().0, full);
            assert_all_found(&mut program, v6, 0..FLOWS);
        }

        // With the flows, the marks go.
        for entry in program.flows() {
            let client = if entry.to_worker {
                entry.key.source
            } else {
                entry.rewrite.destination
            };
            if client.port() % 2 == 0 {
                assert!(program.tables.end_flow(&entry));
            }
        }
        program.tables.renew_spills();
        let (half, _) = program.tables.spilled_buckets();
        assert!(half <= full, "{half} of {full} are marked");
        assert_all_found(&mut program, v6, (0..FLOWS).filter(|flow| flow % 2 == 1));
        for entry in program.flows() {
            assert!(program.tables.end_flow(&entry));
        }
        program.tables.renew_spills();
        assert_eq!(program.tables.spilled_buckets().0, 0);
        for flow in 0..FLOWS {
            program.send(&segment(v6, flow, SYN), Outcome::Forwarded);
        }
        assert_all_found(&mut program, v6, 0..FLOWS);
    }
}
