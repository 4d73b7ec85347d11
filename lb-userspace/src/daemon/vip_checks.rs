//! Opens and closes what health checks of virtual addresses need, as the configuration asks for it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::ActiveConfig;
use crate::health::{VipForwarder, VipProbeError};

/// Pause before a failed attempt is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Pause before a deleted device is created again.
const RECREATE_PAUSE: Duration = Duration::from_millis(200);

/// The resources of these checks, and why they cannot be opened.
pub(super) struct VipChecks {
    active: watch::Receiver<Arc<ActiveConfig>>,
    opened: Option<VipForwarder>,
    error: Option<String>,
}

impl VipChecks {
    /// Opens them for the first checks.
    pub(super) async fn open(active: watch::Receiver<Arc<ActiveConfig>>) -> Self {
        let mut checks = Self {
            active,
            opened: None,
            error: None,
        };
        checks.follow().await;
        checks
    }

    /// Adapts them to the active configuration.
    async fn follow(&mut self) {
        let now = Arc::clone(&self.active.borrow_and_update());
        let error = adapt(&mut self.opened, &now).await.err().map(|error| error.to_string());
        // Logged once, not at every retry.
        if let Some(error) = error.as_ref().filter(|_| error != self.error) {
            tracing::error!(%error, "cannot check virtual addresses: the state of these backends stays as it is");
        }
        self.error = error;
    }

    /// Follows the configuration until `stopped` is true.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let has_failed = self.error.is_some();
            let opened = &mut self.opened;
            let work = async {
                match opened {
                    Some(through) => through.run().await,
                    None => std::future::pending().await,
                }
            };
            let mut is_deleted = false;
            tokio::select! {
                () = work => is_deleted = true,
                () = tokio::time::sleep(RETRY_PAUSE), if has_failed => {}
                changed = self.active.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            if is_deleted {
                self.opened = None;
                tokio::time::sleep(RECREATE_PAUSE).await;
            }
            self.follow().await;
        }
    }
}

/// Opens, changes or closes `opened` as the configuration needs.
async fn adapt(opened: &mut Option<VipForwarder>, now: &ActiveConfig) -> Result<(), VipProbeError> {
    if !VipForwarder::is_needed(&now.targets) {
        *opened = None;
        return Ok(());
    }
    let node = &now.config().node;
    match opened {
        Some(through) => through.set(&node.interfaces, &now.targets),
        None => {
            let device = lb_core::health::device_name(&node.name);
            *opened = Some(VipForwarder::open(&device, &node.interfaces, &now.targets).await?);
            Ok(())
        }
    }
}
