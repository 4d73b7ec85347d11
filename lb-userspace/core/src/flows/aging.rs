//! What should become of a flow: a pure decision.

use std::time::Duration;

use lb_common::{BackendState, OnBackendDown, Phase, wire::udp};

use crate::config::Timeouts;

/// What should become of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Keep,
    /// It was silent for too long: forget it.
    End,
    /// Its backend is no more: forget it, and let a client that waits learn of it.
    EndAndChallenge,
    /// Its backend is down, and a client that waits should learn of it.
    Challenge,
}

/// What is known of a flow and of what it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// How far the connection has come.
    pub phase: Phase,
    /// IP protocol number.
    pub protocol: u8,
    /// For how long no packet came.
    pub idle: Duration,
    /// Whether the backend's entry still holds the backend that the flow began with.
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
        // The next datagram goes to another backend.
        return Fate::End;
    }
    // A client that is gone answers no nudge.
    if idle >= flow.timeouts.closed.saturating_add(flow.timeouts.opening) {
        Fate::End
    } else {
        Fate::Challenge
    }
}

/// How much silence the flow may have.
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

    fn status(state: BackendState, generation: u32) -> (BackendState, bool) {
        (state, generation == 1)
    }

    #[test]
    fn fates_follow_phase_silence_and_backend() {
        use BackendState::{Down, Draining, Free, Up};
        use OnBackendDown::{Hold, Reschedule, Reset};
        use Phase::*;
        let (tcp, udp) = (tcp::PROTOCOL, udp::PROTOCOL);
        let timeouts = Timeouts::default();
        let given_then = [
            (
                "an established flow lives",
                Established,
                tcp,
                3599,
                status(Up, 1),
                Reset,
                Fate::Keep,
            ),
            (
                "until its hour is over",
                Established,
                tcp,
                3600,
                status(Up, 1),
                Reset,
                Fate::End,
            ),
            (
                "a handshake has ten seconds",
                Opening,
                tcp,
                10,
                status(Up, 1),
                Reset,
                Fate::End,
            ),
            (
                "so has its second half",
                Answered,
                tcp,
                9,
                status(Up, 1),
                Reset,
                Fate::Keep,
            ),
            (
                "a half-closed flow has two minutes",
                ClientClosing,
                tcp,
                119,
                status(Up, 1),
                Reset,
                Fate::Keep,
            ),
            ("and no more", WorkerClosing, tcp, 120, status(Up, 1), Reset, Fate::End),
            (
                "the worker's TIME-WAIT is respected",
                ClosedByWorker,
                tcp,
                59,
                status(Up, 1),
                Reset,
                Fate::Keep,
            ),
            (
                "the client's is its own affair",
                ClosedByClient,
                tcp,
                10,
                status(Up, 1),
                Reset,
                Fate::End,
            ),
            (
                "an answered UDP flow has two minutes",
                Established,
                udp,
                120,
                status(Up, 1),
                Reset,
                Fate::End,
            ),
            (
                "draining keeps flows",
                Established,
                tcp,
                5,
                status(Draining, 1),
                Reset,
                Fate::Keep,
            ),
            (
                "a client of a dead backend is told",
                Established,
                tcp,
                5,
                status(Down, 1),
                Reset,
                Fate::Challenge,
            ),
            (
                "but not for ever",
                Established,
                tcp,
                20,
                status(Down, 1),
                Reset,
                Fate::End,
            ),
            (
                "unless flows are held",
                Established,
                tcp,
                5,
                status(Down, 1),
                Hold,
                Fate::Keep,
            ),
            (
                "a client whose flow is to move is made to speak",
                Established,
                tcp,
                5,
                status(Down, 1),
                Reschedule,
                Fate::Challenge,
            ),
            (
                "UDP moves on at once",
                Established,
                udp,
                5,
                status(Down, 1),
                Reschedule,
                Fate::End,
            ),
            ("UDP moves on", Established, udp, 5, status(Down, 1), Reset, Fate::End),
            (
                "a closed flow needs no telling",
                ClosedByWorker,
                tcp,
                5,
                status(Down, 1),
                Reset,
                Fate::Keep,
            ),
            (
                "a removed backend is never followed",
                Established,
                tcp,
                0,
                status(Free, 1),
                Hold,
                Fate::EndAndChallenge,
            ),
            (
                "a connection that is over needs no telling of that",
                ClosedByWorker,
                tcp,
                0,
                status(Free, 1),
                Reset,
                Fate::End,
            ),
            (
                "nor the next one in its place",
                Established,
                tcp,
                0,
                status(Up, 2),
                Hold,
                Fate::EndAndChallenge,
            ),
        ];
        for (name, phase, protocol, idle, backend, on_backend_down, then) in given_then {
            let flow = Situation {
                phase,
                protocol,
                idle: Duration::from_secs(idle),
                is_current: backend.1,
                backend: backend.0,
                on_backend_down,
                timeouts: &timeouts,
            };
            assert_eq!(fate(&flow), then, "{name}");
        }
    }
}
