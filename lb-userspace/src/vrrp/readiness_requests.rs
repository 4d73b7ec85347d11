//! Readiness requests: sync groups ask the controller whether this balancer can serve their
//! addresses.
//!
//! A group asks when it starts, and when it returns from something that may have hidden workers
//! from health checks. The controller grants the request when health checks have results.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use lb_core::vrrp::Services;

/// The addresses of a sync group.
pub type Addresses = Arc<BTreeSet<IpAddr>>;

/// The pending requests of all sync groups.
#[derive(Debug)]
pub struct ReadinessRequests {
    pending: Mutex<BTreeMap<u64, Addresses>>,
    /// Number of requests made so far. Each request has the number at which it was made.
    count: watch::Sender<u64>,
    services: watch::Receiver<Services>,
}

impl ReadinessRequests {
    /// No requests. `services` is the health of each service.
    pub(super) fn new(services: watch::Receiver<Services>) -> Self {
        Self {
            pending: Mutex::default(),
            count: watch::Sender::new(0),
            services,
        }
    }

    /// Makes a request for these addresses. Returns its number.
    pub(super) fn request(&self, addresses: &Addresses) -> u64 {
        let number = *self.count.borrow() + 1;
        self.lock().insert(number, Arc::clone(addresses));
        self.count.send_replace(number);
        number
    }

    /// Whether the request with that number was granted.
    pub(super) fn is_granted(&self, number: u64) -> bool {
        !self.lock().contains_key(&number)
    }

    /// Whether a service at one of these addresses refuses new connections, because health checks
    /// found its backends down.
    pub(super) fn refuses_connections(&self, addresses: &Addresses) -> bool {
        let services = self.services.borrow();
        let mut refused = services.values().filter_map(|service| service.refuses_at);
        refused.any(|address| addresses.contains(&address))
    }

    /// The pending requests, by their numbers.
    pub fn pending(&self) -> BTreeMap<u64, Addresses> {
        self.lock().clone()
    }

    /// Notifies of each request.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Ends a request: it is granted, or cancelled.
    pub(super) fn close(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Addresses>> {
        // Nothing panics while it holds the lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a sync group waits for before it is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadinessWait {
    /// The request with this number, made at its start. The group may still be master from before,
    /// so it decides nothing.
    Starts(u64),
    /// A fault. When it is over, the group makes a request.
    Suspended,
    /// The request with this number, made when it returned.
    Returns(u64),
}

impl ReadinessWait {
    /// The wait of a group that starts.
    pub(super) fn new(requests: &ReadinessRequests, addresses: &Addresses) -> Self {
        Self::Starts(requests.request(addresses))
    }

    /// Whether the group may decide anything yet.
    pub(super) fn has_started(self, requests: &ReadinessRequests) -> bool {
        !matches!(self, Self::Starts(number) if !requests.is_granted(number))
    }

    /// A fault makes the group inactive.
    pub(super) fn suspend(&mut self, requests: &ReadinessRequests) {
        self.cancel(requests);
        *self = Self::Suspended;
    }

    /// Whether the group, which has no fault, waits for readiness. Makes a request if it returns.
    pub(super) fn is_waiting(&mut self, requests: &ReadinessRequests, addresses: &Addresses) -> bool {
        if *self == Self::Suspended {
            *self = Self::Returns(requests.request(addresses));
        }
        match *self {
            Self::Starts(number) | Self::Returns(number) => !requests.is_granted(number),
            Self::Suspended => false,
        }
    }

    /// Stops waiting.
    pub(super) fn cancel(self, requests: &ReadinessRequests) {
        if let Self::Starts(number) | Self::Returns(number) = self {
            requests.close(number);
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
    fn each_group_waits_for_its_own_request_and_makes_another_one_when_it_returns() {
        let (_services, seen) = watch::channel(Services::new());
        let (requests, [a, b]) = (ReadinessRequests::new(seen), [1, 2].map(addresses));
        let [mut one, mut other] = [ReadinessWait::new(&requests, &a), ReadinessWait::new(&requests, &b)];
        assert_eq!(requests.pending(), [(1, a.clone()), (2, b.clone())].into());
        requests.close(2);
        assert_eq!(
            (one.has_started(&requests), other.has_started(&requests)),
            (false, true)
        );
        assert!(one.is_waiting(&requests, &a) && !other.is_waiting(&requests, &b));

        other.suspend(&requests);
        assert!(
            other.is_waiting(&requests, &b) && other.is_waiting(&requests, &b),
            "one request is enough"
        );
        assert_eq!((other, other.has_started(&requests)), (ReadinessWait::Returns(3), true));
        assert_eq!(requests.pending(), [(1, a.clone()), (3, b.clone())].into());
        one.suspend(&requests);
        assert_eq!(requests.pending(), [(3, b.clone())].into(), "the request is cancelled");
        requests.close(3);
        assert!(!other.is_waiting(&requests, &b));
    }

    #[test]
    fn services_at_other_addresses_do_not_matter() {
        let (services, seen) = watch::channel(Services::new());
        let requests = ReadinessRequests::new(seen);
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
            assert_eq!(requests.refuses_connections(&addresses(1)), then, "{refuses_at:?}");
        }
    }
}
