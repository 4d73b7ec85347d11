//! Passes on what the XDP program logs, when it was loaded to log.

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::Loaded;

/// What a program logs, to be read.
pub struct ProgramLog(Option<EbpfLogger<ToTracing>>);

impl Loaded {
    /// The log of the program; only the first call gets it.
    pub fn take_log(&mut self) -> ProgramLog {
        let logger = EbpfLogger::init_with_logger(&mut self.object, ToTracing);
        if let Err(error) = &logger {
            tracing::warn!(%error, "the XDP program's log cannot be read");
        }
        ProgramLog(logger.ok())
    }
}

/// Writes the lines of the program to this program's log until the task is dropped.
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

/// aya-log speaks to the `log` crate.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Switching the lines on in the configuration is the choice to see them, whatever the level of other lines.
        tracing::info!(target: "packet", "{}", record.args());
    }

    fn flush(&self) {}
}
