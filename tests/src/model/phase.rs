//! The state of a connection, as its two ends see it.

use lb_common::Phase::{self, *};

use crate::packet::{FIN, RST, SYN};

/// Whether the connection is over: a new SYN begins another one.
pub fn is_over(phase: Phase) -> bool {
    matches!(phase, ClosedByClient | ClosedByWorker | Reset | LeftByClient)
}

/// The phase after a client's packet, where the worker's packets pass here too.
pub fn client(phase: Phase, flags: u8) -> Phase {
    if flags & RST != 0 {
        return match phase {
            ClosedByClient | ClosedByWorker => phase,
            _ => Reset,
        };
    }
    match (phase, flags & FIN != 0) {
        (Answered | Established, true) => ClientClosing,
        (WorkerClosing, true) => ClosedByWorker,
        (Answered, false) if flags & SYN == 0 => Established,
        _ => phase,
    }
}

/// The phase after a worker's segment.
pub fn worker(phase: Phase, flags: u8) -> Phase {
    if flags & RST != 0 {
        return client(phase, RST);
    }
    match (phase, flags & FIN != 0) {
        (Answered | Established, true) => WorkerClosing,
        (ClientClosing, true) => ClosedByClient,
        (Opening, _) if flags & SYN != 0 => Answered,
        _ => phase,
    }
}

/// The phase after a worker's datagram.
pub fn worker_datagram(phase: Phase) -> Phase {
    if phase == Opening { Established } else { phase }
}

/// The phase after a client's packet, where the worker's packets do not pass here.
pub fn client_alone(phase: Phase, flags: u8, udp: bool) -> Phase {
    if udp {
        Established
    } else if flags & RST != 0 {
        Reset
    } else if is_over(phase) {
        phase
    } else if flags & FIN != 0 {
        LeftByClient
    } else if flags & SYN == 0 {
        Established
    } else {
        phase
    }
}

/// The phase that a flow begins with.
pub fn first(translates: bool, flags: u8, udp: bool) -> Phase {
    if translates || udp || flags & SYN != 0 {
        Opening
    } else if flags & FIN != 0 {
        LeftByClient
    } else {
        Established
    }
}
