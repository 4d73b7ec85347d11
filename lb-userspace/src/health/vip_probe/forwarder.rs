//! Forwards the packets of checks from the tun device to the workers, and has the replies returned
//! to the checks.

use std::{collections::HashMap, io, net::IpAddr, sync::Arc, time::Duration};

use lb_common::{check_answer::Answer, family::address};
use lb_core::health::{VipPath, vip_packet};

use super::device::Device;
use crate::{
    dataplane::{CheckReplies, DataplaneError},
    health::Targets,
    network::raw_socket::Sender,
};

/// How often the device and the interfaces are checked.
const PERIOD: Duration = Duration::from_secs(2);
/// Size of the receive buffer, in bytes; more than the device's MTU.
const BUFFER: usize = 2048;

/// Why checks with `target = "virtual"` are not possible.
#[derive(Debug, thiserror::Error)]
pub enum VipProbeError {
    /// The tun device cannot be created.
    #[error("cannot create the tun device for checks with `target = \"virtual\"` (it needs /dev/net/tun): {0}")]
    Device(io::Error),
    /// The raw socket cannot be opened.
    #[error("cannot send checks with `target = \"virtual\"`: {0}")]
    Send(io::Error),
    /// The program that returns replies cannot be loaded or attached.
    #[error("cannot receive replies to checks with `target = \"virtual\"`: {0}")]
    Program(#[from] DataplaneError),
}

/// Forwards the packets of checks. Dropping it removes its device and its programs.
pub struct VipForwarder {
    device: Device,
    answers: CheckReplies,
    sender: Sender,
    interfaces: Vec<String>,
    /// The path of each placeholder address.
    paths: HashMap<IpAddr, Arc<VipPath>>,
}

impl VipForwarder {
    /// Creates the device, loads the program and attaches it to these interfaces. Call it within a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one of these steps.
    pub async fn open(device: &str, interfaces: &[String], targets: &Targets) -> Result<Self, VipProbeError> {
        let mut forwarder = Self {
            answers: CheckReplies::load()?,
            device: Device::open(device).await.map_err(VipProbeError::Device)?,
            sender: Sender::new().map_err(VipProbeError::Send)?,
            interfaces: Vec::new(),
            paths: HashMap::new(),
        };
        forwarder.set(interfaces, targets)?;
        Ok(forwarder)
    }

    /// Whether any target is checked at its virtual address.
    pub fn is_needed(targets: &Targets) -> bool {
        targets.values().any(|target| target.vip_path.is_some())
    }

    /// Sets the interfaces where replies arrive, and the targets.
    ///
    /// # Errors
    ///
    /// When the program cannot be attached to an interface.
    pub fn set(&mut self, interfaces: &[String], targets: &Targets) -> Result<(), VipProbeError> {
        self.interfaces = interfaces.to_vec();
        self.paths = targets
            .values()
            .filter_map(|target| Some((target.address.ip(), Arc::clone(target.vip_path.as_ref()?))))
            .collect();
        Ok(self.answers.attach(interfaces)?)
    }

    /// Forwards packets until it is dropped. Returns when the device was deleted or set down.
    pub async fn run(&mut self) {
        let mut buffer = vec![0; BUFFER];
        let mut period = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                _ = period.tick() => {
                    if !self.device.is_up() {
                        tracing::error!("the tun device for health checks was deleted or set down; it is created again");
                        return;
                    }
                    // An interface may have appeared, or been replaced by another one of the same
                    // name.
                    let interfaces = self.interfaces.clone();
                    if let Err(error) = self.answers.attach(&interfaces) {
                        tracing::warn!(%error, "cannot receive replies to checks with `target = \"virtual\"`");
                    }
                }
                read = self.device.packet(&mut buffer) => match read {
                    Ok(length) => self.forward(&buffer[..length]),
                    Err(error) => {
                        tracing::error!(%error, "cannot read from the tun device for health checks; it is created again");
                        return;
                    }
                }
            }
        }
    }

    /// Forwards one packet. Errors are only logged: the check notices them by its timeout.
    fn forward(&mut self, packet: &[u8]) {
        let Some(placeholder) = vip_packet::destination(packet) else {
            return;
        };
        let Some(path) = self.paths.get(&placeholder) else {
            return;
        };
        let Some(outgoing) = vip_packet::outgoing(packet, path) else {
            return;
        };
        if let Some(key) = outgoing.replies {
            let answer = Answer {
                placeholder: address::to_words(placeholder),
                interface: self.device.index,
            };
            if let Err(error) = self.answers.expect(key, answer) {
                tracing::debug!(%error, "cannot prepare for the reply to a check");
            }
        }
        if let Err(error) = self.sender.send_by(&outgoing.bytes, outgoing.next_hop) {
            tracing::debug!(%error, next_hop = %outgoing.next_hop, "cannot send a check");
        }
    }
}
