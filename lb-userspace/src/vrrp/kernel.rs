//! Ways to ask the kernel that keep nobody else waiting: requests of netlink are carried out by whoever sends them, and some
//! take tens of milliseconds.

use std::{io, sync::mpsc, thread};

use nix::{libc, unistd::Pid};
use rtnetlink::Handle;

/// Priority of the thread that moves addresses: below that of the one that decides who has them.
const REAL_TIME: libc::c_int = 10;

/// Two ways, each with a thread of its own.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// For what has to be soon: addresses.
    pub(super) fast: Handle,
    /// For what takes its time: devices, and what a dead controller left.
    pub(super) slow: Handle,
    /// The thread of the fast one.
    thread: Pid,
}

impl Kernel {
    /// Opens them in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let (fast, thread) = open("vrrp-addresses")?;
        let (slow, _) = open("vrrp-devices")?;
        Ok(Self { fast, slow, thread })
    }

    /// Lets addresses move before ordinary work is done.
    pub(super) fn hurry(&self) {
        let parameters = libc::sched_param {
            sched_priority: REAL_TIME,
        };
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        // Where that is not permitted, it was said of the other thread.
        // SAFETY: the parameters live through the call.
        unsafe { libc::sched_setscheduler(self.thread.as_raw(), policy, &raw const parameters) };
    }
}

/// Opens one, and says which thread works for it. The thread ends with the last handle.
fn open(name: &str) -> io::Result<(Handle, Pid)> {
    let (opened, result) = mpsc::channel();
    let work = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(opened.send(Err(error))),
        };
        runtime.block_on(async {
            match rtnetlink::new_connection() {
                Ok((connection, handle, _)) => {
                    let _ = opened.send(Ok((handle, nix::unistd::gettid())));
                    connection.await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
    };
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    result.recv().map_err(io::Error::other)?
}
