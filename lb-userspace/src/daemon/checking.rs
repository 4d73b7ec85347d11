//! Holds what checks of virtual addresses take, for as long as the configuration has any.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::InForce;
use crate::health::{VipForwarder, VipProbeError};
use lb_core::health::device_name;

/// After how long what could not be had is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// After how long a device that went is made anew.
const REST: Duration = Duration::from_millis(200);

/// What checks of virtual addresses take now, and why it cannot be had.
pub(super) struct Checking {
    in_force: watch::Receiver<Arc<InForce>>,
    opened: Option<VipForwarder>,
    error: Option<String>,
}

impl Checking {
    /// Makes it ready for the first checks.
    pub(super) async fn begin(in_force: watch::Receiver<Arc<InForce>>) -> Self {
        let mut checking = Self {
            in_force,
            opened: None,
            error: None,
        };
        checking.follow().await;
        checking
    }

    /// Brings it to what is in force.
    async fn follow(&mut self) {
        let now = Arc::clone(&self.in_force.borrow_and_update());
        let error = bring(&mut self.opened, &now).await.err().map(|error| error.to_string());
        // Once, not every five seconds.
        if let Some(error) = error.as_ref().filter(|_| error != self.error) {
            tracing::error!(%error, "the verdicts on such backends stay as they are");
        }
        self.error = error;
    }

    /// Follows the configuration until told to end.
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
            let mut is_gone = false;
            tokio::select! {
                () = work => is_gone = true,
                () = tokio::time::sleep(PAUSE), if has_failed => {}
                changed = self.in_force.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            if is_gone {
                // Somebody deleted the device.
                self.opened = None;
                tokio::time::sleep(REST).await;
            }
            self.follow().await;
        }
    }
}

/// Makes `opened` what the configuration needs.
async fn bring(opened: &mut Option<VipForwarder>, now: &InForce) -> Result<(), VipProbeError> {
    if !VipForwarder::is_needed(&now.targets) {
        *opened = None;
        return Ok(());
    }
    let node = &now.config().node;
    match opened {
        Some(through) => through.set(&node.interfaces, &now.targets),
        None => {
            let device = device_name(&node.name);
            *opened = Some(VipForwarder::open(&device, &node.interfaces, &now.targets).await?);
            Ok(())
        }
    }
}
