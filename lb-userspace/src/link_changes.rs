//! When something may have changed about interfaces and their addresses, by netlink.

use std::io;

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::MulticastGroup;
use tokio::task::AbortHandle;

/// What netlink tells of interfaces that come, go or change, and of their addresses.
pub(crate) struct LinkChanges {
    changes: Box<dyn Stream<Item = ()> + Send + Unpin>,
    connection: AbortHandle,
}

impl LinkChanges {
    /// Opens a socket, in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        use MulticastGroup::{Ipv4Ifaddr, Ipv6Ifaddr, Link};
        let (connection, _, changes) = rtnetlink::new_multicast_connection(&[Link, Ipv4Ifaddr, Ipv6Ifaddr])?;
        Ok(Self {
            changes: Box::new(changes.map(drop)),
            connection: tokio::spawn(connection).abort_handle(),
        })
    }

    /// Waits for a change. Says whether the socket still works.
    pub(crate) async fn next(&mut self) -> bool {
        self.changes.next().await.is_some()
    }

    /// Takes what is there already: one look answers all of it.
    pub(crate) fn drain(&mut self) {
        while let Some(Some(())) = self.changes.next().now_or_never() {}
    }
}

impl Drop for LinkChanges {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
