//! The daemon: `lbd run` starts the controller and ends it, `lbd detach` removes what it left.
//!
//! | step | file | what it does |
//! |---|---|---|
//! | bootstrap | `bootstrap.rs` | takes the locks, prepares the pins, loads the XDP program |
//! | wire | `wiring.rs` | makes the parts and connects them by channels |
//! | go live | `wiring.rs` | fills the maps, then attaches the program |
//! | spawn | `tasks.rs` | starts the background tasks |
//! | run | `controller/` | reconciles the maps and carries out commands |
//! | shutdown | `tasks.rs` | releases the virtual addresses, ends the tasks |

mod active_config;
mod bootstrap;
mod controller;
mod detach;
mod error;
pub mod flows;
mod inspect;
mod interfaces;
mod map_entries;
mod passive_checks;
pub mod preflight;
mod punts;
mod signals;
mod tasks;
mod vip_checks;
mod wiring;

use std::path::Path;

pub use bootstrap::MapChoice;
pub use detach::detach;
pub use error::DaemonError;

use crate::events::{Events, Happening, Kind};
use active_config::ActiveConfig;
use signals::Hangup;
use tasks::Tasks;
use vip_checks::VipChecks;

/// Runs the controller until SIGTERM or SIGINT. Forwarding continues after it ends.
///
/// # Errors
///
/// When the controller cannot start. After the start, failures are logged and retried.
pub async fn run(config_path: &Path, maps: MapChoice) -> Result<(), DaemonError> {
    // Signals are watched first: one that arrives during the start ends the process cleanly.
    let ended = signals::terminated();
    let hangup = Hangup::watch();
    let events = Events::default();
    // The locks are released last: until then no other controller may start.
    let (_locks, start) = bootstrap::bootstrap(config_path, maps, &events)?;
    let (mut controller, parts) = wiring::wire(start, config_path, &events)?;
    let vip_checks = VipChecks::open(parts.active.clone()).await;
    parts.go_live(&mut controller).await?;
    let tasks = Tasks::spawn(&controller, parts, vip_checks)?;
    events.record(Happening::new(Kind::DaemonStarted, tasks.description()));

    let reason = controller.run_until(ended, hangup).await;
    tasks.shut_down(&events, reason).await;
    Ok(())
}
