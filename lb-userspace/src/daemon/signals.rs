//! Signals of the process: SIGTERM and SIGINT end it, SIGHUP reloads the configuration.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Watches for SIGTERM and SIGINT from now on. The future returns the name of the first one.
pub(super) fn terminated() -> impl Future<Output = &'static str> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            },
            _ => {
                tracing::error!("cannot watch for SIGTERM and SIGINT: end this process with SIGKILL");
                std::future::pending().await
            }
        }
    }
}

/// SIGHUP; `None` inside where it cannot be watched.
pub(super) struct Hangup(Option<Signal>);

impl Hangup {
    /// Watches for SIGHUP from now on. Before this call SIGHUP ends the process.
    pub(super) fn watch() -> Self {
        let watched = signal(SignalKind::hangup());
        if let Err(error) = &watched {
            tracing::error!(%error, "cannot watch for SIGHUP: use `lbctl reload`");
        }
        Self(watched.ok())
    }

    /// Waits for the next SIGHUP.
    pub(super) async fn received(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}
