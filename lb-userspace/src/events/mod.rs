//! What happened to the node: numbered events with their causes, of which the last ones are kept in memory.

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

/// How many events are kept.
const KEPT: usize = MAX_EVENT_LIMIT;

/// Something that happens now.
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
    /// Something that concerns the whole node.
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

    /// It concerns a service.
    #[must_use]
    pub fn of_service(self, service: &str) -> Self {
        Self {
            service: Some(service.to_owned()),
            ..self
        }
    }

    /// It concerns a backend.
    #[must_use]
    pub fn of_backend(self, service: &str, backend: &str) -> Self {
        Self {
            service: Some(service.to_owned()),
            backend: Some(backend.to_owned()),
            ..self
        }
    }

    /// It concerns an interface.
    #[must_use]
    pub fn of_interface(self, interface: &str) -> Self {
        Self {
            interface: Some(interface.to_owned()),
            ..self
        }
    }

    /// It concerns a virtual router, which is on that interface.
    #[must_use]
    pub fn of_router(self, name: &str, interface: &str) -> Self {
        Self {
            vrrp: Some(name.to_owned()),
            interface: Some(interface.to_owned()),
            ..self
        }
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Why, or what it is.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    fn log(&self) {
        let (service, backend) = (self.service.as_deref(), self.backend.as_deref());
        let (vrrp, interface) = (self.vrrp.as_deref(), self.interface.as_deref());
        let (event, cause) = (self.kind.word(), self.cause.as_str());
        // A level is part of the place in the code that logs.
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

/// The journal of this process; clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    /// Number of the newest event, and whether there will be no more.
    newest: watch::Sender<(u64, bool)>,
}

impl Default for Events {
    fn default() -> Self {
        Self::new(SystemTime::now())
    }
}

impl Events {
    /// An empty journal of a daemon that started at this moment.
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

    /// Writes down what happens, also to the log.
    pub fn record(&self, happening: Happening) {
        happening.log();
        let number = self.journal(|journal| journal.append(SystemTime::now(), happening));
        self.0.newest.send_modify(|newest| newest.0 = number);
    }

    /// The events from a place on, at most `limit`.
    pub fn page(&self, from: Start, limit: usize) -> EventPage {
        self.journal(|journal| journal.page(from, limit))
    }

    /// As [`Events::page`], but waits for up to `patience` where there is none yet.
    pub async fn page_when_there_is_one(&self, from: Start, limit: usize, patience: Duration) -> EventPage {
        let mut newest = self.0.newest.subscribe();
        // What `from` says now: the end moves while this waits.
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

    /// Lets those go that wait for events: there will be none.
    pub fn close(&self) {
        self.0.newest.send_modify(|newest| newest.1 = true);
    }

    fn journal<T>(&self, work: impl FnOnce(&mut Journal) -> T) -> T {
        // Nothing panics while it holds the lock, and the journal is right at every instant.
        work(&mut self.0.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn whoever_waits_gets_the_next_event_and_the_end_lets_all_go() {
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
