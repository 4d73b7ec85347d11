//! Whether this balancer can serve the addresses that it would take. Virtual routers ask, with numbers from one up, whenever
//! they return from something that may have kept workers out of sight; the controller answers when checks have told.

use tokio::sync::watch;

use super::track::Services;

/// The question that all virtual routers begin with.
const FIRST: u64 = 1;

/// The questions and answers.
#[derive(Debug)]
pub struct Fitness {
    asked: watch::Sender<u64>,
    answered: watch::Sender<u64>,
    services: watch::Receiver<Services>,
}

impl Fitness {
    /// One with the first question, not answered yet. `services` is how each service is now.
    pub(super) fn new(services: watch::Receiver<Services>) -> Self {
        Self {
            asked: watch::Sender::new(FIRST),
            answered: watch::Sender::new(0),
            services,
        }
    }

    /// Asks anew. Returns the number of the question.
    pub(super) fn ask(&self) -> u64 {
        self.asked.send_modify(|number| *number += 1);
        *self.asked.borrow()
    }

    /// Whether that question was answered: this balancer can serve.
    pub(super) fn is_answered(&self, number: u64) -> bool {
        number <= *self.answered.borrow()
    }

    /// Whether the first question was answered. Before that whoever was master before the daemon began still may be it.
    pub(super) fn has_begun(&self) -> bool {
        self.is_answered(FIRST)
    }

    /// Whether checks took all backends of a service down: what comes for it here is refused.
    pub(super) fn is_doubtful(&self) -> bool {
        let services = self.services.borrow();
        services.values().any(|service| service.up == 0 && service.down > 0)
    }

    /// The last question, where it is not answered.
    pub fn question(&self) -> Option<u64> {
        let asked = *self.asked.borrow();
        (!self.is_answered(asked)).then_some(asked)
    }

    /// Is told when a question is asked.
    pub fn questions(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// Answers that question, and all before it.
    pub(super) fn answer(&self, number: u64) {
        self.answered.send_modify(|answered| *answered = number.max(*answered));
    }
}

/// What a virtual router waits for, once something kept it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It cannot take part; when it could, it asks.
    Lost,
    /// The answer to this question.
    Asked(u64),
}

impl Fit {
    /// Of one that begins: what holds for all when the daemon starts holds for it.
    pub(super) const fn begin() -> Self {
        Self::Asked(FIRST)
    }

    /// Whether nothing stands in its way any more but that; asks where it has not.
    pub(super) fn waits(&mut self, fitness: &Fitness) -> bool {
        let number = match *self {
            Self::Lost => fitness.ask(),
            Self::Asked(number) => number,
        };
        *self = Self::Asked(number);
        !fitness.is_answered(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vrrp::ServiceHealth;

    #[test]
    fn who_was_lost_waits_for_an_answer_of_its_own() {
        let (services, seen) = watch::channel(Services::new());
        let fitness = Fitness::new(seen);
        let [mut one, mut other] = [Fit::begin(); 2];
        assert_eq!(fitness.question(), Some(1));
        assert!(one.waits(&fitness));
        fitness.answer(1);
        assert!(!one.waits(&fitness) && !other.waits(&fitness));

        other = Fit::Lost;
        assert!(other.waits(&fitness) && other.waits(&fitness), "it asks once");
        assert_eq!((other, fitness.question()), (Fit::Asked(2), Some(2)));
        assert!(!one.waits(&fitness), "who was not lost goes on");
        fitness.answer(2);
        assert_eq!((other.waits(&fitness), fitness.question()), (false, None));

        for (up, down, is_doubtful) in [(0, 0, false), (1, 1, false), (0, 1, true)] {
            services.send_replace([("web".to_owned(), ServiceHealth { up, down })].into());
            assert_eq!(fitness.is_doubtful(), is_doubtful, "{up} {down}");
        }
    }
}
