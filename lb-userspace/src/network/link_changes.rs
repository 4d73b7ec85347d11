//! When to look at interfaces and their addresses: when netlink says that something changed, and now and then without cause.

use std::{future::pending, io, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::MulticastGroup;
use tokio::{task::AbortHandle, time::timeout};

/// Says when to look.
pub(crate) struct LinkChanges {
    told: Option<Told>,
    /// How often without cause: what netlink should have told may be lost.
    period: Duration,
}

impl LinkChanges {
    /// From now on, in the network namespace of the calling thread. Must be called within a runtime.
    pub(crate) fn new(period: Duration) -> Self {
        let told = Told::open().inspect_err(|error| {
            tracing::warn!(%error, "netlink does not tell when interfaces change: they are looked at every {period:?}");
        });
        Self {
            told: told.ok(),
            period,
        }
    }

    /// Waits until it is time; one look answers all that was told so far.
    pub(crate) async fn next(&mut self) {
        let told = async {
            match &mut self.told {
                Some(told) => told.next().await,
                None => pending().await,
            }
        };
        let is_open = timeout(self.period, told).await != Ok(false);
        match &mut self.told {
            Some(told) if is_open => told.drain(),
            _ => self.told = Told::open().ok(),
        }
    }
}

/// What netlink tells of interfaces that come, go or change, and of their addresses.
struct Told {
    changes: Box<dyn Stream<Item = ()> + Send + Unpin>,
    connection: AbortHandle,
}

impl Told {
    fn open() -> io::Result<Self> {
        use MulticastGroup::{Ipv4Ifaddr, Ipv6Ifaddr, Link};
        let (connection, _, changes) = rtnetlink::new_multicast_connection(&[Link, Ipv4Ifaddr, Ipv6Ifaddr])?;
        Ok(Self {
            changes: Box::new(changes.map(drop)),
            connection: tokio::spawn(connection).abort_handle(),
        })
    }

    /// Waits for a change. Says whether the socket still works.
    async fn next(&mut self) -> bool {
        self.changes.next().await.is_some()
    }

    /// Takes what is there already.
    fn drain(&mut self) {
        while let Some(Some(())) = self.changes.next().now_or_never() {}
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
