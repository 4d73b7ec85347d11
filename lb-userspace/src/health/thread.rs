//! The thread that health checks run on.
//!
//! Checks have a thread and a single-threaded runtime of their own. So the rest of the controller
//! never delays them, and a wake-up usually continues with the next check on the same thread.

use std::{future::Future, io, thread};

use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};

/// A thread with its runtime. Dropping it ends the thread and all tasks on it.
#[derive(Debug)]
pub(super) struct Thread {
    handle: Handle,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl Thread {
    /// Starts the thread, in the network namespace of the calling thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("health".to_owned()).spawn(move || {
            // This returns an error once the sender is dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, _end: end })
    }

    /// Runs a task on the thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(task)
    }
}
