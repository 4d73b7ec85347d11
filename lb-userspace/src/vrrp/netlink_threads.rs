//! Ways to ask the kernel that keep nobody else waiting: requests of netlink are carried out by whoever sends them, and some
//! take tens of milliseconds.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use nix::{libc, unistd::Pid};
use rtnetlink::Handle;
use tokio::sync::watch;

use super::interface_snapshot::{self, InterfaceSnapshot};

/// Priority of the threads that move addresses and see what became of interfaces: below that of the one that decides who has
/// them.
const REAL_TIME: libc::c_int = 10;

/// Ways to ask, each with a thread of its own.
#[derive(Clone, Debug)]
pub(super) struct NetlinkThreads {
    /// For what has to be soon: addresses.
    pub(super) fast: Handle,
    /// For what takes its time: devices, and what a dead controller left.
    pub(super) slow: Handle,
    /// What interfaces and addresses there are; nothing before the first look.
    pub(super) ground: watch::Receiver<Option<Arc<InterfaceSnapshot>>>,
    /// Whether somebody wants to know what there is.
    wanted: Arc<watch::Sender<bool>>,
    /// The threads whose work others wait for.
    urgent: [Pid; 2],
}

impl NetlinkThreads {
    /// Opens them in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let ask = async || {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            Ok((handle, connection))
        };
        let (fast, moving) = open("vrrp-addresses", ask)?;
        let (slow, _) = open("vrrp-devices", ask)?;
        let wanted = Arc::new(watch::Sender::new(false));
        let mut begin = wanted.subscribe();
        let (ground, looking) = open("vrrp-ground", async move || {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            let (seen, ground) = watch::channel(None);
            let look = async move {
                // It is dropped where nobody ever wants to.
                if begin.wait_for(|wanted| *wanted).await.is_ok() {
                    interface_snapshot::follow(seen, handle).await;
                }
            };
            Ok((ground, look))
        })?;
        Ok(Self {
            fast,
            slow,
            ground,
            wanted,
            urgent: [moving, looking],
        })
    }

    /// Begins to look at what there is, and lets addresses move before ordinary work is done.
    pub(super) fn begin(&self) {
        self.wanted.send_replace(true);
        let parameters = libc::sched_param {
            sched_priority: REAL_TIME,
        };
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        for thread in self.urgent {
            // Where that is not permitted, it was said of the other thread.
            // SAFETY: the parameters live through the call.
            unsafe { libc::sched_setscheduler(thread.as_raw(), policy, &raw const parameters) };
        }
    }
}

/// Lets a thread begin something, hand over a way to it, and work until that is done. Says which thread it is.
fn open<T, W>(name: &str, begin: impl AsyncFnOnce() -> io::Result<(T, W)> + Send + 'static) -> io::Result<(T, Pid)>
where
    T: Send + 'static,
    W: Future<Output = ()>,
{
    let (opened, result) = mpsc::channel();
    let work = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(opened.send(Err(error))),
        };
        runtime.block_on(async {
            match begin().await {
                Ok((way, work)) => {
                    let _ = opened.send(Ok((way, nix::unistd::gettid())));
                    work.await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
    };
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    result.recv().map_err(io::Error::other)?
}
