//! From a TOML file to a configuration that cannot be wrong.
//!
//! In three steps, each of which reports all that it finds before the next one begins: `read` makes typed but unchecked
//! values of the text, `validate` gives them meaning, and what comes out is [`model`]. Nothing but this module sees the
//! first two.

mod address;
mod api;
mod backend;
mod defaults;
mod duration;
mod error;
mod finding;
mod flaw;
mod guard;
mod health;
pub mod model;
mod names;
mod node;
mod numbers;
mod passive;
mod ports;
mod prefix;
mod raw;
mod read;
mod room;
mod service;
mod tunnel;
mod validate;
mod vrrp;
mod whereabouts;
mod words;

#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

pub use defaults::SOCKETS;
pub use error::{ConfigError, Diagnostic, Invalid};
pub(crate) use flaw::refuse;
pub use flaw::{Flaw, Table};
pub use model::*;
pub use whereabouts::{Whereabouts, whereabouts};
pub use words::Word;

use finding::{Finding, Problem};

/// Reads and checks the file at `path`.
///
/// # Errors
///
/// [`ConfigError::Unreadable`] if the file cannot be read, [`ConfigError::Invalid`] with every finding if it is wrong.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    parse_file(path, fs::read(path)).map(|(config, _)| config)
}

/// As [`load`], with the text of the file, which is a regular one: what takes its time would hold up the daemon.
///
/// # Errors
///
/// See [`load`].
pub fn load_with_text(path: &Path) -> Result<(Config, String), ConfigError> {
    parse_file(path, read_regular(path))
}

impl Config {
    /// What is right, and works less well than one might think: sentences.
    pub fn warnings(&self) -> Vec<String> {
        vrrp::warnings(self)
    }
}

fn parse_file(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<(Config, String), ConfigError> {
    let bytes = bytes.map_err(|cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    parse_bytes(&path.display().to_string(), bytes)
}

/// What is in a file; of a pipe nobody knows when it ends.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = fs::File::options();
    // A pipe that nobody writes to would be waited for.
    let mut file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() { "a folder" } else { "no regular file" };
        return Err(io::Error::other(format!("it is {what}")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks `text`; `file_name` is only for the error messages.
///
/// # Errors
///
/// [`ConfigError::Invalid`] with every finding.
pub fn parse(file_name: &str, text: &str) -> Result<Config, ConfigError> {
    read::read(text)
        .and_then(|file| validate::validate(&file))
        .map_err(|findings| ConfigError::Invalid(Invalid::new(file_name, text, findings)))
}

fn parse_bytes(file_name: &str, bytes: Vec<u8>) -> Result<(Config, String), ConfigError> {
    match String::from_utf8(bytes) {
        Ok(text) => parse(file_name, &text).map(|config| (config, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            // The first replacement character stands where the first wrong byte was: all before it is unchanged.
            let text = String::from_utf8_lossy(error.as_bytes());
            let problem = Problem::new(format!("byte 0x{byte:02x} is not UTF-8"), "a file in UTF-8");
            let finding = Finding::new(at..at + char::REPLACEMENT_CHARACTER.len_utf8(), problem);
            Err(ConfigError::Invalid(Invalid::new(file_name, &text, vec![finding])))
        }
    }
}
