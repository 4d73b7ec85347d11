//! The state Master: sends adverts and defends the addresses (RFC 9568, section 6.4.3: Active).

use super::{Action, Micros, Parameters};

/// The least time between two announcements that other masters' adverts cause, in microseconds.
/// Such adverts may come without end, and may be forged.
const ANNOUNCE_INTERVAL: Micros = 100_000;

/// What a master knows.
#[derive(Clone, Debug)]
pub(super) struct Master {
    /// When the next advert is due: the Adver_Timer of RFC 9568.
    pub(super) next_advert: Micros,
    /// When another master's advert was last replied to by an advert.
    asserted: Option<Micros>,
    /// When the addresses were last announced because of another master.
    announced: Option<Micros>,
    /// When they are announced again, because more adverts came since.
    announce_at: Option<Micros>,
}

impl Master {
    /// A master whose first advert is sent now.
    pub(super) fn new(parameters: &Parameters, now: Micros) -> Self {
        Self {
            next_advert: now + parameters.interval,
            asserted: None,
            announced: None,
            announce_at: None,
        }
    }

    /// When [`Master::tick`] has something to do.
    pub(super) fn deadline(&self) -> Micros {
        self.announce_at
            .map_or(self.next_advert, |announce| announce.min(self.next_advert))
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, parameters: &Parameters, now: Micros) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.announce_at.is_some_and(|at| at <= now) {
            actions.push(self.announce_now(now));
        }
        if self.next_advert <= now {
            let on_time = self.next_advert + parameters.interval;
            actions.push(self.advertise(parameters, now));
            // A late advert does not delay those after it.
            if on_time > now {
                self.next_advert = on_time;
            }
        }
        actions
    }

    /// Sends an advert now, and the next one an interval later.
    pub(super) fn advertise(&mut self, parameters: &Parameters, now: Micros) -> Action {
        self.next_advert = now + parameters.interval;
        Action::SendAdvert(parameters.priority)
    }

    /// Replies to another master's advert: to the first one at once, then twice per interval.
    pub(super) fn assert_role(&mut self, parameters: &Parameters, now: Micros) -> Option<Action> {
        let is_recent = |last| now < last + parameters.interval / 2;
        if self.asserted.is_some_and(is_recent) {
            return None;
        }
        self.asserted = Some(now);
        Some(self.advertise(parameters, now))
    }

    /// Announces the addresses to clients that may follow another master: at its first advert at
    /// once, and once more after its last one.
    pub(super) fn announce(&mut self, now: Micros) -> Option<Action> {
        let next = self.announced.map(|last| last + ANNOUNCE_INTERVAL);
        if let Some(next) = next.filter(|next| now < *next) {
            self.announce_at = Some(next);
            return None;
        }
        Some(self.announce_now(now))
    }

    fn announce_now(&mut self, now: Micros) -> Action {
        (self.announced, self.announce_at) = (Some(now), None);
        Action::Announce
    }
}
