//! Finds the daemon or the maps that the options mean.

use std::{fs, path::Path, time::Duration};

use lb_core::config::{NodeLocation, SOCKETS};
use tokio::time::timeout;

use super::{args::Place, client::Client, error::CliError};
use crate::{api::NodeStatus, dataplane::Pins, system::config_file};

/// Longest time that a daemon may take to say which file it was started with.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client of the daemon.
pub(super) async fn client(place: &Place) -> Result<Client, CliError> {
    match &place.socket {
        Some(socket) => Ok(Client::new(socket)),
        None if place.endpoint.is_some() => Client::remote(place),
        None => match config_file::locate(&place.config) {
            Ok(found) => Ok(Client::new(&found.socket)),
            // A broken file does not say where the socket is. The running daemon can still be
            // asked, and can report what is wrong with the file.
            Err(cause) => running_by(&place.config).await.ok_or(CliError::Config { cause }),
        },
    }
}

/// The daemon that was started with this file, among those with a socket in the default folder.
async fn running_by(file: &Path) -> Option<Client> {
    let file = std::path::absolute(file).ok()?;
    for entry in fs::read_dir(SOCKETS).ok()?.flatten() {
        let client = Client::new(&entry.path());
        let asked = timeout(PATIENCE, client.get::<NodeStatus>("/v1/node")).await;
        if asked.is_ok_and(|answer| answer.is_ok_and(|node| node.config_path == file)) {
            return Some(client);
        }
    }
    None
}

/// The pinned maps of this machine.
pub(super) fn pins(place: &Place) -> Result<Pins, CliError> {
    if let (Some(bpffs), Some(node)) = (&place.bpffs, &place.node) {
        return Ok(Pins::new(bpffs, node));
    }
    let other_option = match place {
        _ if place.is_config_given => None,
        Place { socket: Some(_), .. } => Some("--socket"),
        Place { endpoint: Some(_), .. } => Some("--endpoint"),
        _ => None,
    };
    let found = config_file::locate(&place.config);
    let is_same = |found: &NodeLocation| place.socket.as_ref().is_none_or(|socket| *socket == found.socket);
    match (found, other_option) {
        (Ok(found), option) if option.is_none() || is_same(&found) => Ok(Pins::new(&found.bpffs, &found.name)),
        (Err(cause), None) => Err(CliError::Usage(format!(
            "{cause}\nuse --config FILE (default /etc/lbd/lbd.toml), or --bpffs PATH with --node NAME, to choose the maps"
        ))),
        (_, option) => Err(CliError::Usage(format!(
            "maps are read on this machine, and {} does not say where they are: use --bpffs PATH with --node NAME, or \
             --config FILE",
            option.unwrap_or_default()
        ))),
    }
}
