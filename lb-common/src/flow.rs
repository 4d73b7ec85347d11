//! Flows: 5-tuples, the phases of a connection, and the clock of the flow table.

use crate::{abi_struct, endian::Be16, wire::tcp};

/// Both ports of a packet in one word, as in its transport header: bits 0–15 the source, bits 16–31
/// the destination, each in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Ports(pub u32);

impl Ports {
    /// From the two ports.
    #[inline(always)]
    pub const fn new(source: Be16, destination: Be16) -> Self {
        Self(source.memory() as u32 | (destination.memory() as u32) << 16)
    }

    /// Source port.
    #[inline(always)]
    pub const fn source(self) -> Be16 {
        Be16::from_memory(self.0 as u16)
    }

    /// Destination port.
    #[inline(always)]
    pub const fn destination(self) -> Be16 {
        Be16::from_memory((self.0 >> 16) as u16)
    }

    /// The ports of the opposite direction.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self(self.0.rotate_left(16))
    }
}

abi_struct! {
    /// The 5-tuple of a packet. Its hash finds the entry in the [flow table](crate::flow_table).
    pub struct FlowKey<F: Family> {
        /// Source address.
        pub source: F::Address,
        /// Destination address.
        pub destination: F::Address,
        /// Both ports.
        pub ports: Ports,
        /// IP protocol.
        pub protocol: u8,
        /// Always zero.
        pub reserved: [u8; 3],
    }
}

impl<F: crate::Family> FlowKey<F> {
    /// The 5-tuple of the opposite direction.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self) -> Self {
        let mut reversed = Self::ZERO;
        self.reverse_into(&mut reversed);
        reversed
    }

    /// Writes the 5-tuple of the opposite direction to `target`.
    #[inline(always)]
    pub fn reverse_into(&self, target: &mut Self) {
        target.source = self.destination;
        target.destination = self.source;
        target.ports = self.ports.reversed();
        target.protocol = self.protocol;
        target.reserved = [0; 3];
    }
}

/// Direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From the client to the worker.
    ToWorker = 0,
    /// From the worker to the client.
    ToClient = 1,
}

/// The largest time in ticks, before it wraps: 26 bits, all ones.
pub const TICKS: u32 = (1 << 26) - 1;

/// Converts the kernel's jiffies to ticks, the unit of the flow table's times. `shift` is
/// [`Settings::tick_shift`](crate::Settings::tick_shift): a tick is about 64 ms for every rate of
/// jiffies.
#[inline(always)]
pub const fn tick(jiffies: u64, shift: u32) -> u32 {
    (jiffies >> (shift & 31)) as u32 & TICKS
}

/// The shift for a kernel with this many jiffies a second.
pub const fn tick_shift(jiffies_per_second: u32) -> u32 {
    let mut shift = 0;
    while jiffies_per_second >> (shift + 1) >= 12 {
        shift += 1;
    }
    shift
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Phase {
    /// The client has sent; the worker has not replied.
    Opening = 1,
    /// TCP: the worker has sent SYN-ACK; the client has not acknowledged it.
    Answered = 2,
    /// TCP: the handshake is complete. UDP: the worker has replied.
    Established = 3,
    /// The client has sent FIN.
    ClientClosing = 4,
    /// The worker has sent FIN.
    WorkerClosing = 5,
    /// Both have sent FIN, the client first: the client is in TIME-WAIT.
    ClosedByClient = 6,
    /// Both have sent FIN, the worker first: the worker is in TIME-WAIT.
    ClosedByWorker = 7,
    /// One side has sent RST.
    Reset = 8,
    /// The client has sent FIN, in a mode without replies through the balancer.
    LeftByClient = 9,
}

/// Which count of a backend includes a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// Half-open flows.
    Embryonic,
    /// Established flows.
    Active,
    /// None: the flow has closed.
    None,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 9] = [
        Self::Opening,
        Self::Answered,
        Self::Established,
        Self::ClientClosing,
        Self::WorkerClosing,
        Self::ClosedByClient,
        Self::ClosedByWorker,
        Self::Reset,
        Self::LeftByClient,
    ];

    /// From the number in a map; anything unknown is [`Phase::Reset`].
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Opening,
            2 => Self::Answered,
            3 => Self::Established,
            4 => Self::ClientClosing,
            5 => Self::WorkerClosing,
            6 => Self::ClosedByClient,
            7 => Self::ClosedByWorker,
            9 => Self::LeftByClient,
            _ => Self::Reset,
        }
    }

    /// The word that CLI and API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Answered => "answered",
            Self::Established => "established",
            Self::ClientClosing => "client-closing",
            Self::WorkerClosing => "worker-closing",
            Self::ClosedByClient => "closed-by-client",
            Self::ClosedByWorker => "closed-by-worker",
            Self::Reset => "reset",
            Self::LeftByClient => "left-by-client",
        }
    }

    /// Which count of its backend includes a flow in this phase.
    #[inline(always)]
    pub const fn tally(self) -> Tally {
        match self {
            Self::Opening | Self::Answered => Tally::Embryonic,
            Self::Established | Self::ClientClosing | Self::WorkerClosing => Tally::Active,
            Self::ClosedByClient | Self::ClosedByWorker | Self::Reset | Self::LeftByClient => Tally::None,
        }
    }

    /// The phase after a packet. `flags` are the TCP control bits; give [`UDP`] for a UDP datagram.
    #[inline(always)]
    #[must_use]
    pub const fn after(self, direction: Direction, flags: u8) -> Self {
        use Direction::{ToClient, ToWorker};
        if flags & tcp::RST != 0 {
            return match self {
                Self::ClosedByClient | Self::ClosedByWorker => self,
                _ => Self::Reset,
            };
        }
        let fin = flags & tcp::FIN != 0;
        match (self, direction) {
            (Self::Opening, ToClient) if flags == UDP => Self::Established,
            (Self::Opening, ToClient) if flags & tcp::SYN != 0 => Self::Answered,
            (Self::Answered, ToWorker) if fin => Self::ClientClosing,
            (Self::Answered, ToWorker) if flags & tcp::SYN == 0 => Self::Established,
            (Self::Established, ToWorker) if fin => Self::ClientClosing,
            (Self::Established | Self::Answered, ToClient) if fin => Self::WorkerClosing,
            (Self::ClientClosing, ToClient) if fin => Self::ClosedByClient,
            (Self::WorkerClosing, ToWorker) if fin => Self::ClosedByWorker,
            _ => self,
        }
    }

    /// The phase after a client's packet, in a mode without replies through the balancer. The
    /// worker's packets are inferred from the client's.
    #[inline(always)]
    #[must_use]
    pub const fn after_one_sided(self, flags: u8, udp: bool) -> Self {
        if udp {
            // A second datagram means that the worker replied, or will.
            return Self::Established;
        }
        if flags & tcp::RST != 0 {
            return Self::Reset;
        }
        if self.is_over() {
            return self;
        }
        if flags & tcp::FIN != 0 {
            Self::LeftByClient
        } else if flags & tcp::SYN == 0 {
            Self::Established
        } else {
            self
        }
    }

    /// The first phase of a flow whose first packet has these flags, in a mode where any packet can
    /// open a flow.
    #[inline(always)]
    pub const fn first(flags: u8, udp: bool) -> Self {
        if udp || flags & tcp::SYN != 0 {
            Self::Opening
        } else if flags & tcp::FIN != 0 {
            Self::LeftByClient
        } else {
            Self::Established
        }
    }

    /// Whether the connection is not established yet.
    #[inline(always)]
    pub const fn is_embryonic(self) -> bool {
        matches!(self.tally(), Tally::Embryonic)
    }

    /// Whether the connection has closed: a new SYN opens a new one.
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        matches!(self.tally(), Tally::None)
    }
}

/// The control bits of a UDP datagram: none.
pub const UDP: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ToClient, ToWorker};
    use proptest::prelude::*;
    use tcp::{ACK, FIN, RST, SYN};

    fn walk(steps: &[(Direction, u8)]) -> Phase {
        steps.iter().fold(Phase::Opening, |phase, (direction, flags)| {
            phase.after(*direction, *flags)
        })
    }

    const HANDSHAKE: [(Direction, u8); 3] = [(ToWorker, SYN), (ToClient, SYN | ACK), (ToWorker, ACK)];

    #[test]
    fn connections_pass_through_their_phases() {
        let given_when_then: &[(&[(Direction, u8)], Phase)] = &[
            (&[], Phase::Opening),
            (&[(ToWorker, SYN)], Phase::Opening),
            (&[(ToClient, SYN | ACK)], Phase::Answered),
            (&[(ToClient, SYN | ACK), (ToClient, SYN | ACK)], Phase::Answered),
            (&[(ToClient, SYN | ACK), (ToWorker, SYN)], Phase::Answered),
            (&[(ToClient, SYN | ACK), (ToWorker, ACK)], Phase::Established),
            (&[(ToClient, SYN | ACK), (ToWorker, ACK | FIN)], Phase::ClientClosing),
            (&[(ToClient, RST | ACK)], Phase::Reset),
            (&[(ToClient, UDP)], Phase::Established),
            (&[(ToWorker, UDP), (ToWorker, UDP)], Phase::Opening),
        ];
        for (steps, phase) in given_when_then {
            assert_eq!(walk(steps), *phase, "{steps:?}");
        }
    }

    #[test]
    fn who_closes_first_decides_who_keeps_the_time_wait() {
        let close = |ends: [Direction; 2]| {
            let mut steps = HANDSHAKE.to_vec();
            steps.extend(ends.map(|direction| (direction, FIN | ACK)));
            walk(&steps)
        };
        assert_eq!(close([ToWorker, ToClient]), Phase::ClosedByClient);
        assert_eq!(close([ToClient, ToWorker]), Phase::ClosedByWorker);
    }

    #[test]
    fn a_reset_ends_a_connection_but_not_a_time_wait() {
        let mut steps = HANDSHAKE.to_vec();
        steps.push((ToClient, RST));
        assert_eq!(walk(&steps), Phase::Reset);
        assert_eq!(Phase::ClosedByWorker.after(ToClient, RST), Phase::ClosedByWorker);
    }

    #[test]
    fn numbers_and_phases_convert_in_both_directions() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_number(phase as u32), phase);
        }
    }

    proptest! {
        /// A flow is counted as embryonic, then as active, then not at all: it never goes back.
        #[test]
        fn the_tally_only_moves_forward(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 0..40)) {
            let rank = |phase: Phase| match phase.tally() {
                Tally::Embryonic => 0,
                Tally::Active => 1,
                Tally::None => 2,
            };
            let mut phase = Phase::Opening;
            for (to_worker, flags) in steps {
                let next = phase.after(if to_worker { ToWorker } else { ToClient }, flags);
                prop_assert!(rank(next) >= rank(phase), "{phase:?} -> {next:?}");
                phase = next;
            }
        }
    }
}
