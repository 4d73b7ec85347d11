//! `lbd detach`: ends forwarding and removes what the controller left in the kernel.

use std::path::Path;

use super::{DaemonError, bootstrap::reservation_file};
use crate::{
    dataplane::Pins,
    network::port_reservation,
    system::{config_file, lock::NodeLock},
    vrrp,
};

/// Takes the program off all interfaces, and removes all maps and reserved ports of the node.
/// Returns whether anything was attached.
///
/// # Errors
///
/// When the daemon still runs, or something cannot be removed.
pub fn detach(config_path: &Path) -> Result<bool, DaemonError> {
    let config = config_file::load(config_path)?;
    let _state_lock = NodeLock::take(&config.node.state_dir)?;
    let pins = Pins::new(&config.node.bpffs, &config.node.name);
    let folder = pins.exist().then(|| pins.claim()).transpose()?;
    let _maps_lock = folder.as_deref().map(NodeLock::claim).transpose()?;
    // The addresses go first. Until then the packet path keeps the kernel from answering for them.
    for failure in vrrp::remove_all(&pins, &config.vrrp)? {
        tracing::warn!("{failure}");
    }
    let removed = pins.remove()?;
    if let Some(unreadable) = port_reservation::remove(&reservation_file(&config))? {
        tracing::warn!("{unreadable}");
    }
    Ok(removed)
}
