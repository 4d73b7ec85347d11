//! Whether this balancer can serve the addresses that it would take. Groups of virtual routers ask when they begin, and when they
//! return from something that may have kept workers out of sight; the controller answers when checks have told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use lb_core::vrrp::Services;

/// The addresses that a group asks about.
pub type Addresses = Arc<BTreeSet<IpAddr>>;

/// The questions that are open.
#[derive(Debug)]
pub struct ReadinessRequests {
    open: Mutex<BTreeMap<u64, Addresses>>,
    /// How many were asked.
    asked: watch::Sender<u64>,
    services: watch::Receiver<Services>,
}

impl ReadinessRequests {
    /// One without questions. `services` is how each service is now.
    pub(super) fn new(services: watch::Receiver<Services>) -> Self {
        Self {
            open: Mutex::default(),
            asked: watch::Sender::new(0),
            services,
        }
    }

    /// Asks about these addresses. Returns the number of the question.
    pub(super) fn ask(&self, addresses: &Addresses) -> u64 {
        let number = *self.asked.borrow() + 1;
        self.lock().insert(number, Arc::clone(addresses));
        self.asked.send_replace(number);
        number
    }

    /// Whether that question was answered: this balancer can serve.
    pub(super) fn is_answered(&self, number: u64) -> bool {
        !self.lock().contains_key(&number)
    }

    /// Whether new connections to one of these addresses are refused because checks took the workers of a service down.
    pub(super) fn refuses(&self, addresses: &Addresses) -> bool {
        let services = self.services.borrow();
        let mut refused = services.values().filter_map(|service| service.refuses_at);
        refused.any(|address| addresses.contains(&address))
    }

    /// The questions that are open, by their numbers.
    pub fn open(&self) -> BTreeMap<u64, Addresses> {
        self.lock().clone()
    }

    /// Is told when a question is asked.
    pub fn questions(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// That question is answered, or nobody waits for the answer any more.
    pub(super) fn close(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Addresses>> {
        // Nothing panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a group waits for before it takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadinessWait {
    /// The answer to the question that it began with. It may still be master from before, and decides nothing.
    Begins(u64),
    /// Something else keeps it out. When that is over it asks.
    Lost,
    /// The answer to the question that it asked when it returned.
    Returns(u64),
}

impl ReadinessWait {
    /// Of a group that begins.
    pub(super) fn begin(fitness: &ReadinessRequests, addresses: &Addresses) -> Self {
        Self::Begins(fitness.ask(addresses))
    }

    /// Whether it can decide anything yet.
    pub(super) fn has_begun(self, fitness: &ReadinessRequests) -> bool {
        !matches!(self, Self::Begins(number) if !fitness.is_answered(number))
    }

    /// Something else keeps it out.
    pub(super) fn lose(&mut self, fitness: &ReadinessRequests) {
        self.close(fitness);
        *self = Self::Lost;
    }

    /// Whether it waits, while nothing else keeps it out; asks where it has not.
    pub(super) fn waits(&mut self, fitness: &ReadinessRequests, addresses: &Addresses) -> bool {
        if *self == Self::Lost {
            *self = Self::Returns(fitness.ask(addresses));
        }
        match *self {
            Self::Begins(number) | Self::Returns(number) => !fitness.is_answered(number),
            Self::Lost => false,
        }
    }

    /// Waits for nothing any more.
    pub(super) fn close(self, fitness: &ReadinessRequests) {
        if let Self::Begins(number) | Self::Returns(number) = self {
            fitness.close(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::vrrp::ServiceHealth;

    fn addresses(last: u8) -> Addresses {
        Arc::new([IpAddr::from([192, 0, 2, last])].into())
    }

    #[test]
    fn each_waits_for_an_answer_of_its_own_and_asks_anew_when_it_returns() {
        let (_services, seen) = watch::channel(Services::new());
        let (fitness, [a, b]) = (ReadinessRequests::new(seen), [1, 2].map(addresses));
        let [mut one, mut other] = [ReadinessWait::begin(&fitness, &a), ReadinessWait::begin(&fitness, &b)];
        assert_eq!(fitness.open(), [(1, a.clone()), (2, b.clone())].into());
        fitness.close(2);
        assert_eq!((one.has_begun(&fitness), other.has_begun(&fitness)), (false, true));
        assert!(one.waits(&fitness, &a) && !other.waits(&fitness, &b));

        other.lose(&fitness);
        assert!(other.waits(&fitness, &b) && other.waits(&fitness, &b), "it asks once");
        assert_eq!((other, other.has_begun(&fitness)), (ReadinessWait::Returns(3), true));
        assert_eq!(fitness.open(), [(1, a.clone()), (3, b.clone())].into());
        one.lose(&fitness);
        assert_eq!(
            fitness.open(),
            [(3, b.clone())].into(),
            "nobody waits for that any more"
        );
        fitness.close(3);
        assert!(!other.waits(&fitness, &b));
    }

    #[test]
    fn what_is_refused_elsewhere_does_not_matter() {
        let (services, seen) = watch::channel(Services::new());
        let fitness = ReadinessRequests::new(seen);
        for (refuses_at, then) in [
            (None, false),
            (Some([192, 0, 2, 2]), false),
            (Some([192, 0, 2, 1]), true),
        ] {
            let health = ServiceHealth {
                up: 0,
                refuses_at: refuses_at.map(IpAddr::from),
            };
            services.send_replace([("web".to_owned(), health)].into());
            assert_eq!(fitness.refuses(&addresses(1)), then, "{refuses_at:?}");
        }
    }
}
