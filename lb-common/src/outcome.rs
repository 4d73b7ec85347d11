//! What can become of a packet: one closed list, from which counters, metrics, CLI and documents derive.

/// What the XDP program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Hand it to the kernel, untouched.
    Pass,
    /// Drop it.
    Drop,
    /// Send it out of the interface it came in on.
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
        /// What became of a packet. Each has a counter in the map `OUTCOMES`, at the index that is its number.
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

            /// One sentence for whoever sees the counter rise.
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
        "rewritten and handed to the controller to send, because the next hop is not resolved yet";
    PuntFull, "punt_full", Drop,
        "dropped: the next hop is not resolved and the queue to the controller is full";
    ResetNoFlow, "reset_no_flow", Transmit,
        "answered with TCP RST: a segment to a service that belongs to no flow";
    ResetBackendDown, "reset_backend_down", Transmit,
        "answered with TCP RST: the backend of the flow is down or gone";
    ResetNoBackend, "reset_no_backend", Transmit,
        "answered with TCP RST: no backend of the service is up";
    NoBackend, "no_backend", Drop,
        "dropped: a UDP datagram to a service of which no backend is up";
    StrayReset, "stray_reset", Drop,
        "dropped: a TCP RST to a service that belongs to no flow";
    NatPortsExhausted, "nat_ports_exhausted", Drop,
        "dropped: no free source port towards the backend was found";
    FlowTableFull, "flow_table_full", Drop,
        "dropped: the flow table has no room for a new flow";
    ClaimRaced, "claim_raced", Drop,
        "dropped: the flow was being created on another CPU and could not be followed; the sender repeats";
    NoNextHop, "no_next_hop", Drop,
        "dropped: the next hop is not resolved, and in mode dsr the kernel cannot send in its place";
    TooBig, "too_big", Transmit,
        "answered with ICMP: the packet does not fit the way to its worker or client";
    GuardDenied, "guard_denied", Drop,
        "dropped: the service does not take flows from this source";
    RateLimited, "rate_limited", Drop,
        "dropped: the source begins flows faster than the service allows";
    ConnectionLimit, "connection_limit", Drop,
        "dropped: the service has as many flows as it allows";
    ToaForged, "toa_forged", Drop,
        "dropped: a handshake segment may tell the worker a client of its own making, and has no room for the real one";
    TtlExceeded, "ttl_exceeded", Drop,
        "dropped: the time to live or hop limit would reach zero here";
    NoRoom, "no_room", Drop,
        "dropped: the packet could not be resized for an answer";
    Inconsistent, "inconsistent", Drop,
        "dropped: a map entry referred to one that does not exist";
    NotIp, "not_ip", Pass,
        "passed: neither IPv4 nor IPv6, or behind more than two VLAN tags";
    FragmentUnknown, "fragment_unknown", Pass,
        "passed: a fragment to an address of ours of which the first one has not come";
    NotTcpUdp, "not_tcp_udp", Pass,
        "passed: IP to an address of ours, but neither TCP nor UDP nor an ICMP error about them";
    Malformed, "malformed", Pass,
        "passed: a header is cut short or contradicts itself";
    Relayed, "relayed", Transmit,
        "sent on to the balancer that was master before, or is now: a segment of a connection that is not known here";
    RelayedUnknown, "relayed_unknown", Drop,
        "dropped: another balancer sent it on, and it belongs to no flow here either";
    OrphanSilenced, "orphan_silenced", Drop,
        "dropped: asks for an address that another balancer may have by now, because the controller does not hold its lease";
    NotMaster, "not_master", Drop,
        "dropped: to the link-layer address of a virtual router that this balancer is not master of";
    NotAccepted, "not_accepted", Drop,
        "dropped: to an address of a virtual router with `accept` = false, and to no service";
    EchoAnswered, "echo_answered", Transmit,
        "answered: another balancer asked whether this one still forwards";
    NotOurs, "not_ours", Pass,
        "passed: belongs to no flow and to no service";
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
