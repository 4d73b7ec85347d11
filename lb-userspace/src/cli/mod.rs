//! `lbctl`: sends a request to the admin API or reads the pinned maps, and shows the result.
//!
//! | file | task |
//! |---|---|
//! | `args` | the command line |
//! | `locate` | finds the daemon or the maps that the options mean |
//! | `client`, `endpoint` | talk to the daemon |
//! | `commands` | carry out one command, one file for each noun |
//! | `render`, `fit` | results as text, fitted to the terminal |
//! | `complete` | shell completions |

mod args;
mod client;
mod commands;
mod complete;
mod endpoint;
mod error;
mod fit;
mod locate;
mod output;
mod render;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};

pub use args::Arguments;
pub use complete::complete_if_asked;
pub use error::CliError;
pub use fit::fit_to_terminal;

/// Carries a command out and writes the result to `out`.
///
/// # Errors
///
/// If the command fails; [`CliError::exit_code`] has the exit status.
pub async fn run(arguments: Arguments, out: &mut dyn Write) -> Result<(), CliError> {
    commands::run(arguments, out).await
}

/// As [`run`]; `--watch` repeats the command until it fails or is interrupted.
///
/// # Errors
///
/// See [`run`].
pub async fn run_or_watch(mut arguments: Arguments, out: &mut dyn Write) -> Result<(), CliError> {
    const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";
    let Some(interval) = arguments.watch else {
        return run(arguments, out).await;
    };
    output::one_line_each();
    let redraw = std::io::stdout().is_terminal() && !arguments.json;
    let mut is_first = true;
    loop {
        // Show complete output at once, so that the terminal does not flicker.
        let mut shown = Vec::new();
        match run(arguments, &mut shown).await {
            // The daemon may be restarting.
            Err(error) if error.is_absence() && !is_first => {
                let sentence = format!("{error}; trying again\n");
                if redraw {
                    shown = sentence.into_bytes();
                } else {
                    // Standard error may be closed.
                    let _ = write!(std::io::stderr(), "lbctl: {sentence}");
                }
            }
            other => other?,
        }
        is_first = false;
        if redraw {
            write!(out, "{HOME_AND_CLEAR}")?;
        }
        out.write_all(&shown)?;
        out.flush()?;
        tokio::time::sleep(interval).await;
        arguments = Arguments::of_process();
    }
}
