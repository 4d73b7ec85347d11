//! `lbctl`: asks the admin API, or the pinned maps, and shows the answer.

mod args;
mod client;
mod commands;
mod error;
mod render;

use std::io::Write;

pub use args::Arguments;
pub use error::CliError;

/// Carries a command out and writes what it found to `out`.
///
/// # Errors
///
/// What was in the way; [`CliError::exit_code`] says with which status to end.
pub async fn run(arguments: Arguments, out: &mut dyn Write) -> Result<(), CliError> {
    commands::run(arguments, out).await
}
