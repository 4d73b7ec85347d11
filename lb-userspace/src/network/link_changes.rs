//! Waits for changes of interfaces and their addresses, as netlink reports them, with a periodic
//! wake-up.

use std::{future::pending, io, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::MulticastGroup;
use tokio::{task::AbortHandle, time::timeout};

/// Waits for changes.
pub(crate) struct LinkChanges {
    monitor: Option<Monitor>,
    /// Longest time between two wake-ups. It covers netlink messages that were lost.
    period: Duration,
}

impl LinkChanges {
    /// Watches from now on, in the network namespace of the calling thread. Must be called within a
    /// runtime.
    pub(crate) fn new(period: Duration) -> Self {
        let monitor = Monitor::open().inspect_err(|error| {
            tracing::warn!(%error, "netlink does not report changes of interfaces: they are read every {period:?}");
        });
        Self {
            monitor: monitor.ok(),
            period,
        }
    }

    /// Waits for the next change or the end of the period. Collects all changes that are already
    /// queued.
    pub(crate) async fn next(&mut self) {
        let monitor = async {
            match &mut self.monitor {
                Some(monitor) => monitor.next().await,
                None => pending().await,
            }
        };
        let is_open = timeout(self.period, monitor).await != Ok(false);
        match &mut self.monitor {
            Some(monitor) if is_open => monitor.drain(),
            _ => self.monitor = Monitor::open().ok(),
        }
    }
}

/// The netlink socket that reports interfaces and addresses.
struct Monitor {
    changes: Box<dyn Stream<Item = ()> + Send + Unpin>,
    connection: AbortHandle,
}

impl Monitor {
    fn open() -> io::Result<Self> {
        use MulticastGroup::{Ipv4Ifaddr, Ipv6Ifaddr, Link};
        let (connection, _, changes) = rtnetlink::new_multicast_connection(&[Link, Ipv4Ifaddr, Ipv6Ifaddr])?;
        Ok(Self {
            changes: Box::new(changes.map(drop)),
            connection: tokio::spawn(connection).abort_handle(),
        })
    }

    /// Waits for a change. Returns whether the socket still works.
    async fn next(&mut self) -> bool {
        self.changes.next().await.is_some()
    }

    /// Discards queued changes.
    fn drain(&mut self) {
        while let Some(Some(())) = self.changes.next().now_or_never() {}
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
