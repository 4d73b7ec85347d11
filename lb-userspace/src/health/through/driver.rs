//! Carries packets of checks to their workers, and has the answers brought back.

use std::{collections::HashMap, io, net::IpAddr, sync::Arc, time::Duration};

use lb_common::{check_answer::Answer, family::address};

use super::{device::Device, way::Way, wire};
use crate::{
    dataplane::{CheckReplies, DataplaneError},
    health::Targets,
    network::raw_socket::Sender,
};

/// How often the interfaces are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// Bytes of the largest packet.
const LARGEST: usize = 2048;

/// Why virtual addresses cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum ThroughError {
    /// The device cannot be made.
    #[error("a device for checks of virtual addresses cannot be made (it takes /dev/net/tun): {0}")]
    Device(io::Error),
    /// Nothing can be sent.
    #[error("checks of virtual addresses cannot be sent: {0}")]
    Send(io::Error),
    /// The program for answers cannot be had.
    #[error("checks of virtual addresses: {0}")]
    Program(#[from] DataplaneError),
}

/// All that checks of virtual addresses take. It leaves nothing behind.
pub struct Through {
    device: Device,
    answers: CheckReplies,
    sender: Sender,
    interfaces: Vec<String>,
    ways: HashMap<IpAddr, Arc<Way>>,
}

impl Through {
    /// Makes the device, loads the program, and puts it on these interfaces. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel does not let one of them.
    pub async fn open(device: &str, interfaces: &[String], targets: &Targets) -> Result<Self, ThroughError> {
        let mut through = Self {
            answers: CheckReplies::load()?,
            device: Device::open(device).await.map_err(ThroughError::Device)?,
            sender: Sender::new().map_err(ThroughError::Send)?,
            interfaces: Vec::new(),
            ways: HashMap::new(),
        };
        through.set(interfaces, targets)?;
        Ok(through)
    }

    /// Whether any of the targets needs it.
    pub fn is_needed(targets: &Targets) -> bool {
        targets.values().any(|target| target.way.is_some())
    }

    /// Sets where answers come in, and what is checked.
    ///
    /// # Errors
    ///
    /// When the program cannot be put on an interface.
    pub fn set(&mut self, interfaces: &[String], targets: &Targets) -> Result<(), ThroughError> {
        self.interfaces = interfaces.to_vec();
        self.ways = targets
            .values()
            .filter_map(|target| Some((target.address.ip(), Arc::clone(target.way.as_ref()?))))
            .collect();
        Ok(self.answers.attach(interfaces)?)
    }

    /// Works until it is dropped, or its device is gone.
    pub async fn run(&mut self) {
        let mut buffer = vec![0; LARGEST];
        let mut period = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                _ = period.tick() => {
                    if !self.device.is_well() {
                        tracing::error!("the device for checks of virtual addresses is gone or down, and is made anew");
                        return;
                    }
                    // An interface may have come, or another one in its place.
                    let interfaces = self.interfaces.clone();
                    if let Err(error) = self.answers.attach(&interfaces) {
                        tracing::warn!(%error, "answers to checks of virtual addresses are not seen");
                    }
                }
                read = self.device.packet(&mut buffer) => match read {
                    Ok(length) => self.carry(&buffer[..length]),
                    Err(error) => {
                        tracing::error!(%error, "the device for checks of virtual addresses is gone, and is made anew");
                        return;
                    }
                }
            }
        }
    }

    /// Sends a packet on. Whatever is wrong with it, the check finds by time.
    fn carry(&mut self, packet: &[u8]) {
        let Some(stand_in) = wire::destination(packet) else {
            return;
        };
        let Some(way) = self.ways.get(&stand_in) else { return };
        let Some(outgoing) = wire::sent(packet, way) else {
            return;
        };
        if let Some(key) = outgoing.answers {
            let answer = Answer {
                stand_in: address::to_words(stand_in),
                interface: self.device.index,
            };
            if let Err(error) = self.answers.expect(key, answer) {
                tracing::debug!(%error, "an answer to a check cannot be waited for");
            }
        }
        if let Err(error) = self.sender.send_by(&outgoing.bytes, outgoing.next) {
            tracing::debug!(%error, next = %outgoing.next, "a check could not be sent");
        }
    }
}
