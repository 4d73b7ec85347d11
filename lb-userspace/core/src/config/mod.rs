//! From the text of a TOML file to a configuration that cannot be wrong.
//!
//! In three steps, each of which reports all that it finds before the next one begins: `read` makes typed but unchecked
//! values of the text, `validate` gives them meaning, and what comes out is [`model`]. Nothing but this module sees the
//! first two.

mod address;
mod api;
mod backend;
mod backend_id;
mod defaults;
mod duration;
mod error;
mod finding;
mod flaw;
mod guard;
mod health;
mod locate;
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
mod words;

#[cfg(test)]
mod tests;

pub use backend_id::BackendId;
pub use defaults::SOCKETS;
pub use error::{ConfigError, Diagnostic, Invalid};
pub use flaw::refuse;
pub use flaw::{Flaw, Table};
pub use locate::{NodeLocation, locate};
pub use model::*;
pub use words::Word;

use finding::{Finding, Problem};

impl Config {
    /// What is right, and works less well than one might think: sentences.
    pub fn warnings(&self) -> Vec<String> {
        vrrp::warnings(self)
    }
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

/// As [`parse`], from the bytes of a file; returns the text too.
///
/// # Errors
///
/// [`ConfigError::Invalid`] with every finding; also when the bytes are not UTF-8.
pub fn parse_bytes(file_name: &str, bytes: Vec<u8>) -> Result<(Config, String), ConfigError> {
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
