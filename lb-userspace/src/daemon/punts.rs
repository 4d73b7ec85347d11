//! Sends the packets that the packet path could not send because their next hop is not resolved.

use tokio::sync::watch;

use crate::{dataplane::Punts, network::raw_socket::Sender};

/// Sends queued packets until `stopped` is true.
pub(super) async fn send_punts(mut punts: Punts, mut stopped: watch::Receiver<bool>) {
    let sender = match Sender::new() {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!(%error, "cannot send packets whose next hop is not resolved");
            return;
        }
    };
    let send = |family, packet: &[u8]| {
        if let Err(error) = sender.send(family, packet) {
            tracing::debug!(%error, "a packet whose next hop is not resolved was not sent");
        }
    };
    loop {
        let drained = tokio::select! {
            drained = punts.drain(send) => drained,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        if let Err(error) = drained {
            tracing::error!(%error, "cannot read the queue of packets to send");
            return;
        }
    }
}
