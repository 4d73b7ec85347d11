//! The relay: a new master sends packets of connections that it does not know on to the former
//! master, for a limited time and only while the packet path of the former master replies to
//! echoes. Pure, time is an argument.

use std::net::IpAddr;

use super::instance::{EchoReply, Micros};

/// Time from one echo to the next before the first reply, in microseconds. It is short so that
/// little is sent to a dead balancer.
const FIRST_INTERVAL: Micros = 50_000;
/// Time from one echo to the next after the first reply, in microseconds.
const LATER_INTERVAL: Micros = 1_000_000;
/// So many echoes in a row without a reply end the relay.
const MAX_UNANSWERED: u32 = 3;

/// A relay to one former master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    former: IpAddr,
    until: Micros,
    next_echo: Micros,
    /// Echoes since the last reply.
    unanswered: u32,
    has_replied: bool,
}

/// What a relay does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayStep {
    /// Nothing is due.
    Wait,
    /// Send an echo to this balancer.
    SendEcho(IpAddr),
    /// The relay ends.
    End,
}

impl Relay {
    /// A relay that begins now and takes at most `length` microseconds.
    pub fn new(former: IpAddr, now: Micros, length: Micros) -> Self {
        Self {
            former,
            until: now + length,
            next_echo: now,
            unanswered: 0,
            has_replied: false,
        }
    }

    /// When [`Relay::tick`] has something to do.
    pub fn deadline(&self) -> Micros {
        self.next_echo.min(self.until)
    }

    /// Decides what is due.
    pub fn tick(&mut self, now: Micros) -> RelayStep {
        let is_echo_due = now >= self.next_echo;
        if now >= self.until || (is_echo_due && self.unanswered >= MAX_UNANSWERED) {
            return RelayStep::End;
        }
        if !is_echo_due {
            return RelayStep::Wait;
        }
        self.unanswered += 1;
        self.next_echo = now
            + if self.has_replied {
                LATER_INTERVAL
            } else {
                FIRST_INTERVAL
            };
        RelayStep::SendEcho(self.former)
    }

    /// Handles the reply of a packet path. Only replies of the former master count.
    pub fn handle_echo_reply(&mut self, reply: EchoReply) {
        if reply.from == self.former {
            self.unanswered = 0;
            self.has_replied = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn former() -> IpAddr {
        [192, 0, 2, 9].into()
    }

    #[test]
    fn a_former_master_that_does_not_reply_ends_the_relay_soon() {
        let mut relay = Relay::new(former(), 0, 60_000_000);
        for turn in 0..3 {
            assert_eq!(relay.tick(turn * FIRST_INTERVAL), RelayStep::SendEcho(former()));
            assert_eq!(relay.tick(turn * FIRST_INTERVAL + 1), RelayStep::Wait);
        }
        assert_eq!(relay.tick(3 * FIRST_INTERVAL), RelayStep::End);
    }

    #[test]
    fn a_former_master_that_replies_keeps_the_relay_to_its_end() {
        let mut relay = Relay::new(former(), 0, 60_000_000);
        let mut echoes = 0;
        let mut now = 0;
        while let RelayStep::SendEcho(to) = relay.tick(now) {
            assert_eq!(to, former());
            echoes += 1;
            let reply = EchoReply {
                from: former(),
                holds_lease: false,
                lease_age: 0,
            };
            relay.handle_echo_reply(reply);
            now = relay.deadline();
        }
        assert_eq!((echoes, now), (61, 60_000_000));
    }

    #[test]
    fn replies_of_other_balancers_do_not_count() {
        let mut relay = Relay::new(former(), 0, 60_000_000);
        let reply = EchoReply {
            from: [192, 0, 2, 8].into(),
            holds_lease: true,
            lease_age: 0,
        };
        for turn in 0..3 {
            relay.tick(turn * FIRST_INTERVAL);
            relay.handle_echo_reply(reply);
        }
        assert_eq!(relay.tick(3 * FIRST_INTERVAL), RelayStep::End);
    }
}
