//! Receives the adverts and echo replies of other balancers.

use std::{io, net::IpAddr};

use super::{Micros, VirtualRouter, lease};
use crate::events::Kind;
use lb_core::vrrp::{
    advert::{Advert, Refused},
    instance::EchoReply,
    validation::validate,
};

/// A valid advert of another balancer.
pub(in super::super) struct HeardAdvert {
    /// Its source.
    pub(in super::super) from: IpAddr,
    /// The source of this balancer's adverts.
    pub(in super::super) own: IpAddr,
    pub(in super::super) advert: Advert,
    /// When it came.
    pub(in super::super) at: Micros,
}

impl VirtualRouter {
    /// Reads the next advert, or why it is refused. `None`: there is none.
    pub(in super::super) fn receive_advert(&mut self) -> Option<Result<HeardAdvert, Refused>> {
        let transport = self.transport.as_ref()?;
        let own = transport.source;
        let received = match transport.adverts.receive() {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Some(Err(self.refuse(Refused::Short)));
            }
            // Usually: there is none.
            Err(_) => {
                self.drained = lease::now();
                return None;
            }
        };
        let from = received.source;
        let (advert, coverage) = match validate(&received, own, &self.expected) {
            Ok(valid) => valid,
            Err(reason) => {
                let sentence = self.mismatches.refused(reason, from, &self.expected, lease::now());
                self.report_mismatches(sentence);
                return Some(Err(self.refuse(reason)));
            }
        };
        self.reporter.count(|status| status.received += 1);
        let sentences = self
            .mismatches
            .accepted((&advert, coverage), from, &self.expected, lease::now());
        self.report_mismatches(sentences);
        // The packet path notes adverts of masters, not resignations.
        let at = if advert.priority == 0 {
            lease::now()
        } else {
            // The next master has sent, so switches and clients find it.
            self.lingers_until = self.lingers_until.map(|_| lease::now());
            self.arrival(from)
        };
        Some(Ok(HeardAdvert { from, own, advert, at }))
    }

    fn refuse(&mut self, reason: Refused) -> Refused {
        self.reporter
            .count(|status| *status.refused.entry(reason).or_default() += 1);
        reason
    }

    fn report_mismatches(&mut self, sentences: impl IntoIterator<Item = String>) {
        for sentence in sentences {
            self.reporter.event(&self.config, Kind::VrrpAdvertMismatch, &sentence);
        }
    }

    /// When the last advert of that balancer came. The packet path saw it, even if this process
    /// slept.
    fn arrival(&self, from: IpAddr) -> Micros {
        let now = lease::now();
        let transport = self.transport.as_ref();
        let seen = transport.and_then(|transport| transport.lease.heard(from));
        // What is read now came after the socket was last empty.
        seen.map_or(now, |seen| seen.max(self.drained).min(now))
    }

    /// Reads the next echo reply.
    pub(in super::super) fn receive_echo_reply(&mut self) -> Option<EchoReply> {
        let reply = self.transport.as_ref()?.echo.as_ref()?.receive()?;
        self.reporter.count(|status| status.echo_replies += 1);
        if let Some(relay) = &mut self.relay {
            relay.handle_echo_reply(reply);
        }
        Some(reply)
    }

    /// Whether the packet path sees adverts on this interface, and saw none for that time.
    pub(in super::super) fn saw_silence(&self, time: Micros) -> bool {
        let transport = self.transport.as_ref();
        let silence = transport.and_then(|transport| transport.lease.silence());
        silence.is_some_and(|silence| silence >= time)
    }
}
