//! Threads for netlink. The kernel carries out a netlink request in the thread that sends it, and
//! some requests take tens of milliseconds: they must not delay the VRRP thread or each other.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use nix::{libc, unistd::Pid};
use rtnetlink::Handle;
use tokio::sync::watch;

use super::interface_snapshot::{self, InterfaceSnapshot};

/// Real-time priority of the threads that change addresses and watch interfaces: 1 to 99, and less
/// than that of the VRRP thread.
const REALTIME_PRIORITY: libc::c_int = 10;

/// Handles to netlink, each with a thread of its own.
#[derive(Clone, Debug)]
pub(super) struct NetlinkThreads {
    /// For urgent requests: addresses.
    pub(super) addresses: Handle,
    /// For slow requests: devices, and what a dead controller left.
    pub(super) devices: Handle,
    /// The last snapshot of interfaces and addresses. `None` before the first one.
    pub(super) interfaces: watch::Receiver<Option<Arc<InterfaceSnapshot>>>,
    /// Whether snapshots are wanted.
    wanted: Arc<watch::Sender<bool>>,
    /// The threads with real-time priority.
    urgent: [Pid; 2],
}

impl NetlinkThreads {
    /// Starts them in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let connect = async || {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            Ok((handle, connection))
        };
        let (addresses, addresses_thread) = start("vrrp-addresses", connect)?;
        let (devices, _) = start("vrrp-devices", connect)?;
        let wanted = Arc::new(watch::Sender::new(false));
        let mut begin = wanted.subscribe();
        let (interfaces, interfaces_thread) = start("vrrp-interfaces", async move || {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            let (snapshots, interfaces) = watch::channel(None);
            let work = async move {
                // The sender is dropped if snapshots are never wanted.
                if begin.wait_for(|wanted| *wanted).await.is_ok() {
                    interface_snapshot::follow(snapshots, handle).await;
                }
            };
            Ok((interfaces, work))
        })?;
        Ok(Self {
            addresses,
            devices,
            interfaces,
            wanted,
            urgent: [addresses_thread, interfaces_thread],
        })
    }

    /// Begins to take snapshots, and gives the urgent threads real-time priority.
    pub(super) fn begin(&self) {
        self.wanted.send_replace(true);
        let parameters = libc::sched_param {
            sched_priority: REALTIME_PRIORITY,
        };
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        for thread in self.urgent {
            // If this is not permitted, the VRRP thread has logged a warning.
            // SAFETY: the parameters live through the call.
            unsafe { libc::sched_setscheduler(thread.as_raw(), policy, &raw const parameters) };
        }
    }
}

/// Starts a thread. `begin` returns a value for the caller, and the work of the thread. Returns the
/// value, and the thread's id.
fn start<T, W>(name: &str, begin: impl AsyncFnOnce() -> io::Result<(T, W)> + Send + 'static) -> io::Result<(T, Pid)>
where
    T: Send + 'static,
    W: Future<Output = ()>,
{
    let (started, result) = mpsc::channel();
    let work = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        runtime.block_on(async {
            match begin().await {
                Ok((value, work)) => {
                    let _ = started.send(Ok((value, nix::unistd::gettid())));
                    work.await;
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
    };
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    result.recv().map_err(io::Error::other)?
}
