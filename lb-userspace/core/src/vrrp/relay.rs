//! For how long connections of the balancer that was master before go on by way of it. Pure, time is an argument.
//!
//! A new master does not know the connections of the one before. While that one's packet path is there, which is asked,
//! segments of connections that nobody knows here are sent on to it.

use std::net::IpAddr;

use super::instance::{EchoReply, Micros};

/// From one question to the next, at first: whoever died is not sent anything for long.
const AT_FIRST: Micros = 50_000;
/// From one question to the next, later.
const LATER: Micros = 1_000_000;
/// So many questions in a row without an answer end it.
const UNANSWERED: u32 = 3;

/// The balancer that was master before, while connections go on by way of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    former: IpAddr,
    until: Micros,
    ask: Micros,
    unanswered: u32,
    has_answered: bool,
}

impl Relay {
    /// It begins.
    pub fn new(former: IpAddr, now: Micros, length: Micros) -> Self {
        Self {
            former,
            until: now + length,
            ask: now,
            unanswered: 0,
            has_answered: false,
        }
    }

    /// When [`Relay::tick`] is to be called.
    pub fn deadline(&self) -> Micros {
        self.ask.min(self.until)
    }

    /// Whom to ask now, or nobody yet; `None`: it is over.
    pub fn tick(&mut self, now: Micros) -> Option<Option<IpAddr>> {
        if now >= self.until || (now >= self.ask && self.unanswered >= UNANSWERED) {
            return None;
        }
        if now < self.ask {
            return Some(None);
        }
        self.unanswered += 1;
        self.ask = now + if self.has_answered { LATER } else { AT_FIRST };
        Some(Some(self.former))
    }

    /// A packet path has answered.
    pub fn answered(&mut self, answer: EchoReply) {
        if answer.from == self.former {
            self.unanswered = 0;
            self.has_answered = true;
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
    fn whoever_does_not_answer_is_sent_nothing_for_long() {
        let mut relay = Relay::new(former(), 0, 60_000_000);
        for turn in 0..3 {
            assert_eq!(relay.tick(turn * AT_FIRST), Some(Some(former())));
            assert_eq!(relay.tick(turn * AT_FIRST + 1), Some(None));
        }
        assert_eq!(relay.tick(3 * AT_FIRST), None);
    }

    #[test]
    fn whoever_answers_stays_until_the_time_is_over() {
        let mut relay = Relay::new(former(), 0, 60_000_000);
        let mut asked = 0;
        let mut now = 0;
        while let Some(ask) = relay.tick(now) {
            assert_eq!(ask, Some(former()));
            asked += 1;
            let answer = EchoReply {
                from: former(),
                holds: false,
                age: 0,
            };
            relay.answered(answer);
            now = relay.deadline();
        }
        assert_eq!((asked, now), (61, 60_000_000));
    }

    #[test]
    fn answers_of_others_do_not_count() {
        let mut relay = Relay::new(former(), 0, 60_000_000);
        let answer = EchoReply {
            from: [192, 0, 2, 8].into(),
            holds: true,
            age: 0,
        };
        for turn in 0..3 {
            relay.tick(turn * AT_FIRST);
            relay.answered(answer);
        }
        assert_eq!(relay.tick(3 * AT_FIRST), None);
    }
}
