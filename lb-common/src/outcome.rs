//! Outcomes: what became of a packet. Counters, metrics, CLI and documents derive from this one
//! list.

/// What the XDP program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Pass it to the kernel, unchanged.
    Pass,
    /// Drop it.
    Drop,
    /// Send it out of the interface that received it.
    Transmit,
    /// Send it out of another interface.
    Redirect,
}

impl Action {
    /// The word that CLI and documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Transmit => "transmit",
            Self::Redirect => "redirect",
        }
    }
}

macro_rules! outcomes {
    ($( $variant:ident, $name:literal, $action:ident, $help:literal; )+) => {
        /// What became of a packet. Each has a counter in the map `OUTCOMES`, at the index that is
        /// its number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Outcome {
            $( #[doc = $help] $variant, )+
        }

        impl Outcome {
            /// Every outcome, in the order of their numbers.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The name that counters, metrics and CLI use.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )+ }
            }

            /// What the counter means, in one sentence.
            pub const fn help(self) -> &'static str {
                match self { $( Self::$variant => $help, )+ }
            }

            /// The outcome with this number, if there is one.
            #[inline(always)]
            pub const fn from_number(number: u32) -> Option<Self> {
                if number as usize >= Self::ALL.len() {
                    return None;
                }
                // SAFETY: the numbers of the outcomes are those from 0 to below their count.
                Some(unsafe { core::mem::transmute::<u32, Self>(number) })
            }

            /// The actions of all outcomes, two bits each.
            const ACTIONS: u64 = {
                let mut actions = 0;
                let mut index = 0;
                while index < Self::ALL.len() {
                    actions |= (Self::ALL[index].action() as u64) << (2 * index);
                    index += 1;
                }
                assert!(Self::ALL.len() <= 32, "two bits each in one word");
                actions
            };

            /// What the XDP program does with a packet whose outcome has this number.
            #[inline(always)]
            pub const fn action_of(number: u32) -> Action {
                match (Self::ACTIONS >> (2 * (number & 31))) & 3 {
                    0 => Action::Pass,
                    1 => Action::Drop,
                    2 => Action::Transmit,
                    _ => Action::Redirect,
                }
            }

            /// What the XDP program does with such a packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $( Self::$variant => Action::$action, )+ }
            }
        }
    };
}

outcomes! {
    Forwarded, "forwarded", Transmit,
        "rewritten and sent out of the interface it came in on";
    Redirected, "redirected", Redirect,
        "rewritten and sent out of another interface";
    Punted, "punted", Drop,
        "rewritten and handed to the controller, which sends it: the next hop is not resolved yet";
    PuntFull, "punt_full", Drop,
        "dropped: the next hop is not resolved and the queue to the controller is full";
    ResetNoFlow, "reset_no_flow", Transmit,
        "answered with TCP RST: a segment to a service, of no known flow";
    ResetBackendDown, "reset_backend_down", Transmit,
        "answered with TCP RST: the backend of the flow is down or removed";
    ResetNoBackend, "reset_no_backend", Transmit,
        "answered with TCP RST: the service has no usable backend";
    NoBackend, "no_backend", Drop,
        "dropped: a UDP datagram to a service without a usable backend";
    StrayReset, "stray_reset", Drop,
        "dropped: a TCP RST to a service, of no known flow";
    NatPortsExhausted, "nat_ports_exhausted", Drop,
        "dropped: no free NAT binding (source address and port) to the backend was found";
    FlowTableFull, "flow_table_full", Drop,
        "dropped: the flow table has no space for a new flow";
    ClaimRaced, "claim_raced", Drop,
        "dropped: another CPU was creating the same flow; the sender repeats the packet";
    NoNextHop, "no_next_hop", Drop,
        "dropped: the next hop is not resolved, and in mode dsr the kernel cannot send the packet";
    TooBig, "too_big", Transmit,
        "answered with ICMP: the packet is larger than the MTU towards its worker";
    GuardDenied, "guard_denied", Drop,
        "dropped: the service does not allow this source";
    RateLimited, "rate_limited", Drop,
        "dropped: the source opens flows faster than `source_rate` allows";
    ConnectionLimit, "connection_limit", Drop,
        "dropped: the service has reached its connection limit";
    ToaForged, "toa_forged", Drop,
        "dropped: a handshake segment can contain a forged client address, and has no space for the real one";
    TtlExceeded, "ttl_exceeded", Drop,
        "dropped: the time to live or hop limit would become zero";
    NoSpace, "no_space", Drop,
        "dropped: the kernel could not resize the packet";
    Inconsistent, "inconsistent", Drop,
        "dropped: a map entry referred to one that does not exist";
    NotIp, "not_ip", Pass,
        "passed: neither IPv4 nor IPv6, or more than two VLAN tags";
    FragmentUnknown, "fragment_unknown", Pass,
        "passed: a fragment to a local address whose first fragment has not arrived";
    NotTcpUdp, "not_tcp_udp", Pass,
        "passed: IP to a local address, but neither TCP nor UDP nor an ICMP error about a flow";
    Malformed, "malformed", Pass,
        "passed: a header is too short or contradicts itself";
    Relayed, "relayed", Transmit,
        "forwarded to the other balancer of the virtual router: a segment of an unknown connection";
    RelayedUnknown, "relayed_unknown", Drop,
        "dropped: another balancer relayed it, and its connection is unknown here too";
    OrphanSilenced, "orphan_silenced", Drop,
        "dropped: ARP request or neighbour solicitation for an address that this balancer does not hold";
    NotMaster, "not_master", Drop,
        "dropped: to the MAC address of a virtual router of which this balancer is not master";
    NotAccepted, "not_accepted", Drop,
        "dropped: to no service, but to an address of a virtual router with `accept = false`";
    EchoAnswered, "echo_answered", Transmit,
        "answered: a liveness echo of another balancer";
    NotOurs, "not_ours", Pass,
        "passed: no flow and no service matches";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list_and_names_are_unique() {
        for (number, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
            assert_eq!(Outcome::from_number(number as u32), Some(*outcome));
            assert_eq!(Outcome::action_of(number as u32), outcome.action());
            assert!(Outcome::ALL.iter().filter(|o| o.name() == outcome.name()).count() == 1);
            assert!(outcome.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }

    #[test]
    fn a_number_behind_the_last_is_no_outcome() {
        assert_eq!(Outcome::from_number(Outcome::ALL.len() as u32), None);
        assert_eq!(Outcome::from_number(u32::MAX), None);
    }

    #[test]
    fn the_help_of_a_drop_says_that_it_drops() {
        for outcome in Outcome::ALL
            .iter()
            .filter(|o| o.action() == Action::Drop && **o != Outcome::Punted)
        {
            assert!(outcome.help().starts_with("dropped:"), "{}", outcome.name());
        }
    }
}
