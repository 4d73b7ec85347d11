//! What a backup asks the master's packet path while its adverts are missing, and what it makes of the answers.

use super::{Action, EchoReply, Instance, Micros, Role};

/// How often the master is asked, while its adverts come, whether its packet path answers: what is learnt then, such as its
/// link-layer address, is there when it matters.
const ASK_AT_EASE: Micros = 1_000_000;
/// So many questions are asked at least before a master whose adverts are missing counts as gone.
const LEAST_ASKED: u32 = 3;
/// So many questions without an answer mean that a packet path that had answered is gone, too: two intervals and 40 milliseconds
/// at least, since it may be a busy machine that is late.
const UNANSWERED: u32 = 8;
/// The least time between two questions.
const ASK_AT_MOST: Micros = 5_000;

impl Instance {
    /// An advert has come: asks now and then, and again when the next one is missing.
    pub fn ask_at_ease(&mut self, now: Micros) -> Vec<Action> {
        let is_due = self.asked.is_none_or(|asked| now >= asked + ASK_AT_EASE);
        let actions = if is_due { self.ask_now(now) } else { Vec::new() };
        // An answer to this says nothing about missing adverts.
        self.questions = 0;
        self.ask = Some(now + self.master_interval * 3 / 2);
        actions
    }

    /// From one question to the next while adverts are missing.
    pub fn pause(&self) -> Micros {
        (self.master_interval / 4).max(ASK_AT_MOST)
    }

    /// Asks the packet path of the master now.
    pub fn ask_now(&mut self, now: Micros) -> Vec<Action> {
        let Some((master, _)) = self.master.filter(|_| self.role == Role::Backup) else {
            self.ask = None;
            return Vec::new();
        };
        self.questions += 1;
        let unanswered = self.path.map(|unanswered| unanswered + 1);
        self.path = unanswered.filter(|unanswered| *unanswered <= UNANSWERED);
        if unanswered > self.path {
            // Whoever leaves so many questions unanswered is gone.
            self.give_way(now);
        }
        let next = now + self.pause();
        (self.asked, self.ask) = (Some(now), Some(next));
        if self.questions <= LEAST_ASKED {
            // Whoever slept asks before it takes over.
            self.deadline = self.deadline.max(Some(next));
        }
        vec![Action::SendEcho(master)]
    }

    /// Whether the master may not have had the time to answer.
    pub fn has_yet_to_ask(&self) -> bool {
        self.parameters.grace != 0 && self.master.is_some() && self.ask.is_some() && self.questions < LEAST_ASKED
    }

    /// The packet path of a balancer has answered.
    pub fn answered(&mut self, answer: EchoReply, now: Micros) {
        let is_master = self.master.is_some_and(|(master, _)| master == answer.from);
        // One that nothing follows any more, such as one to another question, would keep it waiting for ever.
        let is_asked = self.ask.is_some() && self.questions > 0;
        if self.role != Role::Backup || !is_master || !is_asked {
            return;
        }
        let goes_on = answer.holds && answer.age <= self.parameters.grace;
        self.is_spent = answer.holds && !goes_on;
        let went_on = std::mem::replace(&mut self.path, goes_on.then_some(0)).is_some();
        if went_on && self.is_spent {
            // It ended for all at once, and each sees it by its next question.
            let ago = answer.age - self.parameters.grace;
            self.give_way((now + self.pause()).saturating_sub(ago).max(now));
        } else if went_on && !goes_on {
            self.give_way(now);
        }
    }

    /// Lets better ones be first: several may have held since the protocol's own times were over.
    fn give_way(&mut self, now: Micros) {
        self.deadline = self.deadline.max(Some(now + self.skew()));
    }

    /// Forgets what the packet path of the master answered.
    pub fn forget_path(&mut self) {
        (self.path, self.is_spent, self.questions) = (None, false, 0);
        (self.ask, self.asked) = (None, None);
    }
}
