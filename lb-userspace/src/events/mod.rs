//! The journal of the daemon: numbered changes of state with their causes. The last 10 000 are kept
//! in memory.

mod journal;
mod kind;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use crate::api::{EventPage, limits::MAX_EVENT_LIMIT};

pub use journal::{BadCursor, Cursor, Journal, Start};
pub use kind::Kind;

/// Number of events that are kept.
const KEPT: usize = MAX_EVENT_LIMIT;

/// A change of state, before it has a number and a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    kind: Kind,
    service: Option<String>,
    backend: Option<String>,
    vrrp: Option<String>,
    interface: Option<String>,
    cause: String,
}

impl Happening {
    /// A change of the whole node.
    pub fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            service: None,
            backend: None,
            vrrp: None,
            interface: None,
            cause: cause.into(),
        }
    }

    /// Names the service that changed.
    #[must_use]
    pub fn of_service(self, service: &str) -> Self {
        Self {
            service: Some(service.to_owned()),
            ..self
        }
    }

    /// Names the backend that changed.
    #[must_use]
    pub fn of_backend(self, service: &str, backend: &str) -> Self {
        Self {
            service: Some(service.to_owned()),
            backend: Some(backend.to_owned()),
            ..self
        }
    }

    /// Names the interface that changed.
    #[must_use]
    pub fn of_interface(self, interface: &str) -> Self {
        Self {
            interface: Some(interface.to_owned()),
            ..self
        }
    }

    /// Names the virtual router that changed, and its interface.
    #[must_use]
    pub fn of_router(self, name: &str, interface: &str) -> Self {
        Self {
            vrrp: Some(name.to_owned()),
            interface: Some(interface.to_owned()),
            ..self
        }
    }

    /// Kind of the change.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Cause of the change, or a description of it.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    fn log(&self) {
        let (service, backend) = (self.service.as_deref(), self.backend.as_deref());
        let (vrrp, interface) = (self.vrrp.as_deref(), self.interface.as_deref());
        let (event, cause) = (self.kind.word(), self.cause.as_str());
        // tracing needs the level at compile time, so there is one call for each.
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    event,
                    service,
                    backend,
                    vrrp,
                    interface,
                    cause,
                    "{}",
                    self.kind.sentence()
                )
            };
        }
        if self.kind.is_alarming() {
            log!(warn);
        } else {
            log!(info);
        }
    }
}

/// A handle to the journal of this process. Clones are handles to the same journal.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    /// Number of the newest event, and whether the journal is closed.
    newest: watch::Sender<(u64, bool)>,
}

impl Default for Events {
    fn default() -> Self {
        Self::new(SystemTime::now())
    }
}

impl Events {
    /// An empty journal of a daemon that started at this time.
    pub fn new(started: SystemTime) -> Self {
        let epoch = started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis() as u64;
        Self(Arc::new(Shared {
            journal: Mutex::new(Journal::new(epoch, KEPT)),
            newest: watch::Sender::new((0, false)),
        }))
    }

    /// Adds an event, and logs it.
    pub fn record(&self, happening: Happening) {
        happening.log();
        let number = self.journal(|journal| journal.append(SystemTime::now(), happening));
        self.0.newest.send_modify(|newest| newest.0 = number);
    }

    /// At most `limit` events from `from` on.
    pub fn page(&self, from: Start, limit: usize) -> EventPage {
        self.journal(|journal| journal.page(from, limit))
    }

    /// As [`Events::page`], but waits up to `patience` if there is no event yet.
    pub async fn page_when_there_is_one(&self, from: Start, limit: usize, patience: Duration) -> EventPage {
        let mut newest = self.0.newest.subscribe();
        // Read `from` once: the end of the journal moves while this waits.
        let first = self.page(from, limit);
        if !first.events.is_empty() || first.gap.is_some() {
            return first;
        }
        let Ok(cursor) = first.cursor.parse::<Cursor>() else {
            return first;
        };
        let came = newest.wait_for(|(number, ended)| *number > cursor.number() || *ended);
        let _ = tokio::time::timeout(patience, came).await;
        self.page(Start::After(cursor), limit)
    }

    /// Closes the journal: requests that wait for events return at once.
    pub fn close(&self) {
        self.0.newest.send_modify(|newest| newest.1 = true);
    }

    fn journal<T>(&self, work: impl FnOnce(&mut Journal) -> T) -> T {
        // Nothing panics while it holds the lock, so a poisoned lock still guards a valid journal.
        work(&mut self.0.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn waiting_returns_at_the_next_event_and_when_the_journal_closes() {
        let events = Events::default();
        events.record(Happening::new(Kind::DaemonStarted, "here"));
        let end = events.page(Start::End, 10);
        assert!(end.events.is_empty());
        let cursor = end.cursor.parse().unwrap();
        let waiting = tokio::spawn({
            let events = events.clone();
            async move { events.page_when_there_is_one(Start::After(cursor), 10, PATIENCE).await }
        });
        events.record(Happening::new(Kind::BackendDown, "refused").of_backend("web", "w1"));
        let page = waiting.await.unwrap();
        let [event] = &page.events[..] else {
            panic!("one event, not {:?}", page.events)
        };
        assert_eq!((event.number, event.kind.as_str()), (2, "backend-down"));
        assert_eq!(
            (event.service.as_deref(), event.backend.as_deref()),
            (Some("web"), Some("w1"))
        );
        let waiting = tokio::spawn({
            let events = events.clone();
            async move { events.page_when_there_is_one(Start::End, 10, PATIENCE).await }
        });
        events.close();
        assert!(waiting.await.unwrap().events.is_empty());
    }
}
