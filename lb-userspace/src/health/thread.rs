//! The thread that checks run on.
//!
//! They have one of their own, with a runtime that has no other: what a check waits for is then next to always the next
//! check, and not another thread. Nothing that the controller does holds them up.

use std::{future::Future, io, thread};

use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};

/// A thread with its runtime. It ends when this is dropped, and all that runs on it.
#[derive(Debug)]
pub(super) struct Thread {
    handle: Handle,
    /// The thread waits for its end.
    _end: oneshot::Sender<()>,
}

impl Thread {
    /// Starts it, in the network namespace of the calling thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("health".to_owned()).spawn(move || {
            // It comes as an error: the other side is dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, _end: end })
    }

    /// Runs a task on it.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(task)
    }
}
