//! Parses and validates the TOML configuration file.
//!
//! 1. `read` turns the text into typed but unchecked values (`raw`).
//! 2. `validate` checks each value and how the values fit together.
//! 3. The result is [`model`]: a [`Config`] that is valid by construction.
//!
//! Each step reports all its problems before the next step begins. `raw` is private to this module.

mod address;
mod api;
mod backend;
mod backend_id;
mod capacity_check;
mod defaults;
mod diagnostics;
mod duration;
mod error;
mod foreign;
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
mod service;
mod tunnel;
mod unusable;
mod validate;
mod vrrp;
mod words;

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

pub use backend_id::BackendId;
pub use defaults::SOCKETS;
pub use error::{ConfigError, Diagnostic, Report};
pub use locate::{NodeLocation, locate};
pub use model::*;
pub use unusable::unusable_reference;
pub use unusable::{Table, UnusableReference};
pub use words::Word;

use diagnostics::{Entry, Message};

impl Config {
    /// Warnings: valid settings that may not work as expected, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        vrrp::warnings(self)
    }
}

/// Parses and validates `text`. `file_name` is only for error messages.
///
/// # Errors
///
/// [`ConfigError::Invalid`] with every problem.
pub fn parse(file_name: &str, text: &str) -> Result<Config, ConfigError> {
    read::read(text)
        .and_then(|file| validate::validate(&file))
        .map_err(|diagnostics| ConfigError::Invalid(Report::new(file_name, text, diagnostics)))
}

/// As [`parse`], from the bytes of a file. Returns the text too.
///
/// # Errors
///
/// [`ConfigError::Invalid`] with every problem, or if the bytes are not UTF-8.
pub fn parse_bytes(file_name: &str, bytes: Vec<u8>) -> Result<(Config, String), ConfigError> {
    match String::from_utf8(bytes) {
        Ok(text) => parse(file_name, &text).map(|config| (config, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            // All text before the first invalid byte is unchanged, so the first replacement
            // character is at the same offset.
            let text = String::from_utf8_lossy(error.as_bytes());
            let message = Message::new(format!("byte 0x{byte:02x} is not UTF-8"), "UTF-8");
            let entry = Entry::new(at..at + char::REPLACEMENT_CHARACTER.len_utf8(), message);
            Err(ConfigError::Invalid(Report::new(file_name, &text, vec![entry])))
        }
    }
}
