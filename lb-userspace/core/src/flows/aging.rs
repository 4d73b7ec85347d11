//! Fate of a flow: what the sweep does with it. A pure decision.

use std::time::Duration;

use lb_common::{BackendState, OnBackendDown, Phase, wire::udp};

use crate::config::Timeouts;

/// What the sweep does with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Keep,
    /// It was silent for too long: end it.
    End,
    /// Its backend was removed: end it, and challenge its client.
    EndAndChallenge,
    /// Its backend is down: challenge its client.
    Challenge,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// State of the connection.
    pub phase: Phase,
    /// IP protocol number.
    pub protocol: u8,
    /// Time since the last packet.
    pub idle: Duration,
    /// Whether the backend entry still belongs to the backend with which the flow began.
    pub is_current: bool,
    /// The state of the backend now.
    pub backend: BackendState,
    /// What the service does with flows of a backend that is down.
    pub on_backend_down: OnBackendDown,
    /// The timeouts of the service.
    pub timeouts: &'a Timeouts,
}

/// Decides the fate of a flow.
pub fn fate(flow: &Situation<'_>) -> Fate {
    if !flow.is_current || flow.backend == BackendState::Free {
        return if flow.phase.is_over() {
            Fate::End
        } else {
            Fate::EndAndChallenge
        };
    }
    let idle = flow.idle;
    if idle >= timeout(flow) {
        return Fate::End;
    }
    let left_behind = flow.backend == BackendState::Down && flow.on_backend_down != OnBackendDown::Hold;
    if !left_behind || flow.phase.is_over() {
        return Fate::Keep;
    }
    if flow.protocol == udp::PROTOCOL {
        // The next datagram selects another backend.
        return Fate::End;
    }
    // A client that is gone does not reply to a challenge.
    if idle >= flow.timeouts.closed.saturating_add(flow.timeouts.opening) {
        Fate::End
    } else {
        Fate::Challenge
    }
}

/// Longest allowed silence of a flow.
fn timeout(flow: &Situation<'_>) -> Duration {
    let timeouts = flow.timeouts;
    match flow.phase {
        Phase::Opening | Phase::Answered => timeouts.opening,
        Phase::Established if flow.protocol == udp::PROTOCOL => timeouts.udp,
        Phase::Established => timeouts.established,
        Phase::ClientClosing | Phase::WorkerClosing | Phase::LeftByClient => timeouts.closing,
        Phase::ClosedByWorker => timeouts.time_wait,
        Phase::ClosedByClient | Phase::Reset => timeouts.closed,
    }
}

#[cfg(test)]
mod tests {
    use lb_common::wire::tcp;

    use super::*;

    use BackendState::{Down, Draining, Free, Up};
    use OnBackendDown::{Hold, Reschedule, Reset};
    use Phase::*;

    const TCP: u8 = tcp::PROTOCOL;
    const UDP: u8 = udp::PROTOCOL;

    /// The fate of a flow of the present backend. `idle` is in seconds.
    fn fate_of(phase: Phase, protocol: u8, idle: u64, backend: BackendState, on_backend_down: OnBackendDown) -> Fate {
        fate(&Situation {
            phase,
            protocol,
            idle: Duration::from_secs(idle),
            is_current: true,
            backend,
            on_backend_down,
            timeouts: &Timeouts::default(),
        })
    }

    #[test]
    fn a_flow_ends_after_the_timeout_of_its_phase() {
        // Phase, protocol, seconds of silence.
        let given_then = [
            ("established: an hour", Established, TCP, 3599, Fate::Keep),
            ("established: an hour", Established, TCP, 3600, Fate::End),
            ("handshake: ten seconds", Opening, TCP, 10, Fate::End),
            ("second half of the handshake: the same", Answered, TCP, 9, Fate::Keep),
            ("half-closed: two minutes", ClientClosing, TCP, 119, Fate::Keep),
            ("half-closed: two minutes", WorkerClosing, TCP, 120, Fate::End),
            ("TIME-WAIT of the worker", ClosedByWorker, TCP, 59, Fate::Keep),
            (
                "TIME-WAIT of the client does not count",
                ClosedByClient,
                TCP,
                10,
                Fate::End,
            ),
            ("UDP with replies: two minutes", Established, UDP, 120, Fate::End),
        ];
        for (name, phase, protocol, idle, then) in given_then {
            assert_eq!(fate_of(phase, protocol, idle, Up, Reset), then, "{name}: {idle} s");
        }
        assert_eq!(fate_of(Established, TCP, 5, Draining, Reset), Fate::Keep, "draining");
    }

    #[test]
    fn a_flow_of_a_dead_backend_follows_the_policy() {
        // Phase, protocol, seconds of silence, policy.
        let given_then = [
            ("its client is challenged", Established, TCP, 5, Reset, Fate::Challenge),
            ("but not without end", Established, TCP, 20, Reset, Fate::End),
            ("flows are held", Established, TCP, 5, Hold, Fate::Keep),
            (
                "it moves with the client's reply",
                Established,
                TCP,
                5,
                Reschedule,
                Fate::Challenge,
            ),
            ("UDP moves at once", Established, UDP, 5, Reschedule, Fate::End),
            ("UDP moves at once", Established, UDP, 5, Reset, Fate::End),
            (
                "a closed flow needs no reset",
                ClosedByWorker,
                TCP,
                5,
                Reset,
                Fate::Keep,
            ),
        ];
        for (name, phase, protocol, idle, policy, then) in given_then {
            assert_eq!(fate_of(phase, protocol, idle, Down, policy), then, "{name}");
        }
    }

    #[test]
    fn a_flow_of_a_removed_backend_ends_whatever_the_policy() {
        assert_eq!(fate_of(Established, TCP, 0, Free, Hold), Fate::EndAndChallenge);
        assert_eq!(fate_of(ClosedByWorker, TCP, 0, Free, Reset), Fate::End);
        let successor = Situation {
            phase: Established,
            protocol: TCP,
            idle: Duration::ZERO,
            is_current: false,
            backend: Up,
            on_backend_down: Hold,
            timeouts: &Timeouts::default(),
        };
        assert_eq!(fate(&successor), Fate::EndAndChallenge, "another backend has its entry");
    }
}
