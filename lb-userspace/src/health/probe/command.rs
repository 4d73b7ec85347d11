//! The `command` check: a command must end with status 0.

use std::net::SocketAddr;

use super::{BackendId, ProbeFailure};
use crate::system::command::{self, CommandFailure, RunAs};
use lb_core::config::CommandProbe;

/// Runs the command. Dropping the future kills the command and all processes of its process group.
pub(super) async fn probe(
    id: &BackendId,
    address: SocketAddr,
    probe: &CommandProbe,
    user: &RunAs,
) -> Result<(), ProbeFailure> {
    let mut environment = probe.environment.clone();
    environment.extend([
        ("LBD_SERVICE".to_owned(), id.service.clone()),
        ("LBD_BACKEND".to_owned(), id.backend.clone()),
        ("LBD_ADDRESS".to_owned(), address.ip().to_string()),
        ("LBD_PORT".to_owned(), address.port().to_string()),
    ]);
    let ran = command::run(&probe.argv, &environment, user).await;
    ran.map_err(|failure| match failure {
        CommandFailure::Failed(how) => ProbeFailure::Command(how),
        CommandFailure::Here(error) => ProbeFailure::Local(error),
    })
}
