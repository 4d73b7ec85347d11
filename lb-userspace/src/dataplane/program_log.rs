//! Forwards log lines of the XDP program to the log of this process.

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::Loaded;

/// The log of the loaded programs.
pub struct ProgramLog(Option<EbpfLogger<ToTracing>>);

impl Loaded {
    /// The log of the programs. Only the first call returns it.
    pub fn take_log(&mut self) -> ProgramLog {
        let logger = EbpfLogger::init_with_logger(&mut self.object, ToTracing);
        if let Err(error) = &logger {
            tracing::warn!(%error, "cannot read the log of the XDP program");
        }
        ProgramLog(logger.ok())
    }
}

/// Writes the lines of the programs to this process's log, until the task is dropped.
pub async fn forward(log: ProgramLog) {
    let Some(logger) = log.0 else { return };
    // SAFETY: the logger owns its map's descriptor and keeps it open as long as it lives.
    let Ok(mut logger) = (unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }) else {
        return;
    };
    while let Ok(mut ready) = logger.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}

/// aya-log writes to the `log` crate; this passes it on to `tracing`.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // `packet_log` decides whether there are lines. The level of other log lines does not.
        tracing::info!(target: "packet", "{}", record.args());
    }

    fn flush(&self) {}
}
