//! Writes what a command found: JSON, or text with a note.

use std::{
    io::{IsTerminal, Write},
    sync::OnceLock,
};

use serde::Serialize;

use super::error::CliError;

/// The note below a response that a limit cut.
pub(super) const MORE: &str = "there are more; use --limit to show them";

static ONE_LINE_EACH: OnceLock<()> = OnceLock::new();

/// From now on, each JSON document takes one line, also on a terminal.
pub(super) fn one_line_each() {
    let _ = ONE_LINE_EACH.set(());
}

/// Writes JSON: indented on a terminal that shows it once, compact otherwise.
pub(super) fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), CliError> {
    let text = if std::io::stdout().is_terminal() && ONE_LINE_EACH.get().is_none() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    writeln!(out, "{}", text.map_err(std::io::Error::from)?)?;
    Ok(())
}

/// Writes a note: below the response on a terminal, else on standard error, so that standard output
/// has only the response.
pub(super) fn note(sentence: &str, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    if std::io::stdout().is_terminal() && !json {
        writeln!(out, "{sentence}")?;
    } else {
        // Standard error may be closed; the response is complete without the note.
        let _ = writeln!(std::io::stderr(), "lbctl: {sentence}");
    }
    Ok(())
}
