//! Passes on what the XDP program logs, when it was loaded to log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Writes the lines of the program to this program's log until the task is dropped.
pub async fn forward(mut program: Ebpf) {
    let logger = match EbpfLogger::init_with_logger(&mut program, ToTracing) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(%error, "the XDP program's log cannot be read");
            return;
        }
    };
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
