//! `lbctl`: asks the admin API, or the pinned maps, and shows the answer.

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

/// Carries a command out and writes what it found to `out`.
///
/// # Errors
///
/// What was in the way; [`CliError::exit_code`] says with which status to end.
pub async fn run(arguments: Arguments, out: &mut dyn Write) -> Result<(), CliError> {
    commands::run(arguments, out).await
}

/// Carries the command of this process out, with `--watch` again and again until it fails or is interrupted.
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
        // Whole before it is shown, so that a terminal does not flicker.
        let mut shown = Vec::new();
        match run(arguments, &mut shown).await {
            // It is being restarted, perhaps.
            Err(error) if error.is_absence() && !is_first => {
                let sentence = format!("{error}; trying again\n");
                if redraw {
                    shown = sentence.into_bytes();
                } else {
                    // Whoever read this may be gone.
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
