//! Punts: packets that the packet path hands over because their next hop is not resolved.

use aya::maps::{Map, MapData, RingBuf};
use lb_common::{
    abi::Abi,
    maps,
    punt::{PuntHeader, PuntRecord},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{DataplaneError, Pins, tables};

/// The queue of packets to send.
pub struct Punts {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Punts {
    /// Opens the queue. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the map is not pinned or cannot be polled.
    pub fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| DataplaneError::map(maps::PUNTS.name, cause);
        let ring =
            RingBuf::try_from(Map::RingBuf(tables::open(pins, maps::PUNTS)?)).map_err(|error| failed(error.into()))?;
        // SAFETY: the ring owns its map's descriptor and keeps it open as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = ring.map_err(|error| failed(error.into()))?;
        Ok(Self { ring })
    }

    /// Waits for packets, and calls `each` with family (4 or 6) and bytes of each packet in the
    /// queue.
    ///
    /// # Errors
    ///
    /// When the queue cannot be polled.
    pub async fn drain(&mut self, mut each: impl FnMut(u8, &[u8])) -> std::io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        let ring = ready.get_inner_mut();
        while let Some(record) = ring.next() {
            let Some((header, packet)) = record.split_at_checked(size_of::<PuntHeader>()) else {
                continue;
            };
            let Some(header) = PuntHeader::from_bytes(header) else {
                continue;
            };
            if let Some(packet) = packet.get(..header.length as usize) {
                each(header.family as u8, packet);
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

const _: () = assert!(size_of::<PuntRecord>() == 2048);
