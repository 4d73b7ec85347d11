//! From text to [`raw`]: syntax, unknown keys and wrong types.
//!
//! Serde stops at the first error. To report them all, the culprit is taken out of the parsed document and the rest is
//! read again.

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Error, ValueDeserializer},
};

use super::{
    diagnostics::{Diagnostics, Entry, Message, Span},
    raw,
    words::nearest,
};

/// After so many errors the rest of the file is not worth another look: each one costs a pass over the file.
const MOST_ERRORS: usize = 20;

/// Reads `text`.
pub(super) fn read(text: &str) -> Result<raw::File, Vec<Entry>> {
    let mut diagnostics = Diagnostics::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        note_syntax_errors(text, &errors, &mut diagnostics);
        return Err(diagnostics.into_vec());
    }
    let mut document = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
    for _ in 0..MOST_ERRORS {
        match raw::File::deserialize(ValueDeserializer::from(document.clone())) {
            Ok(file) => return diagnostics.into_result().map(|()| file),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let culprit = take_out(&mut document, &span);
                let found = culprit.is_some();
                diagnostics.add(span, structure_problem(&error, culprit));
                if !found {
                    break;
                }
            }
        }
    }
    Err(diagnostics.into_vec())
}

/// One finding a line: what follows on the same line is nearly always a consequence.
fn note_syntax_errors(text: &str, errors: &[Error], diagnostics: &mut Diagnostics) {
    let mut last_line = None;
    for error in errors.iter().take(MOST_ERRORS) {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = text
            .as_bytes()
            .iter()
            .take(span.start)
            .filter(|byte| **byte == b'\n')
            .count();
        if last_line.replace(line) != Some(line) {
            let (message, expected) = error.message().split_once(", expected ").unwrap_or_else(|| {
                let expected = if error.message() == "duplicate key" {
                    "each key once"
                } else {
                    "valid TOML"
                };
                (error.message(), expected)
            });
            diagnostics.add(span, Message::new(message, expected));
        }
    }
}

/// What was taken out of the document.
struct Culprit {
    /// The keys that lead to it, from the outermost; array indexes are left out.
    path: Vec<String>,
    place: Place,
    /// The TOML type of the value, in words.
    kind: &'static str,
}

/// What an error was about.
#[derive(PartialEq, Eq)]
enum Place {
    /// The key that the path leads to.
    Key,
    /// The value that the path leads to.
    Value,
    /// One entry of the array that the path leads to.
    Entry,
}

/// Says in our words what serde says in its own.
fn structure_problem(error: &Error, culprit: Option<Culprit>) -> Message {
    let (message, expected) = error
        .message()
        .rsplit_once(", expected ")
        .unwrap_or((error.message(), ""));
    let Some(Culprit { path, place, kind }) = culprit else {
        return Message::new(message, if expected.is_empty() { "another value" } else { expected });
    };
    let key = path.last().map_or("", String::as_str);
    if place == Place::Key {
        // Serde lists the known keys between backquotes.
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let expected = known
            .iter()
            .map(|key| format!("`{key}`"))
            .collect::<Vec<_>>()
            .join(", ");
        return Message::new(
            format!("unknown key `{}`", key.escape_debug()),
            format!("one of {expected}"),
        )
        .suggest(nearest(key, known.into_iter()));
    }
    let expected = match expected {
        // A date is a map with a key of its own to serde.
        _ if message.starts_with("unknown field") => TABLE.to_owned(),
        "" => "a smaller number".to_owned(),
        "i128" if kind == INTEGER => "a smaller number".to_owned(),
        "i128" => "an integer".to_owned(),
        "a sequence" if kind == TABLE => format!("an array of tables, each headed by `[[{}]]`", path.join(".")),
        "a sequence" => "an array".to_owned(),
        other => other.to_owned(),
    };
    let subject = if place == Place::Entry { "an entry of " } else { "" };
    Message::new(format!("{subject}`{key}` is {kind}"), expected)
}

/// Takes the innermost entry that an error at `span` is about out of `value`.
fn take_out(value: &mut Spanned<DeValue<'_>>, span: &Span) -> Option<Culprit> {
    match value.get_mut() {
        DeValue::Table(table) => {
            let inner = table
                .iter_mut()
                .find_map(|(key, value)| Some((key.get_ref().to_string(), take_out(value, span)?)));
            if let Some((key, mut culprit)) = inner {
                culprit.path.insert(0, key);
                return Some(culprit);
            }
            let (key, value) = table
                .iter()
                .find(|(key, value)| key.span() == *span || value.span() == *span)?;
            let place = if key.span() == *span { Place::Key } else { Place::Value };
            let (key, kind) = (key.get_ref().to_string(), kind(value.get_ref()));
            table.remove(key.as_str());
            Some(Culprit {
                path: vec![key],
                place,
                kind,
            })
        }
        DeValue::Array(array) => {
            if let Some(culprit) = array.iter_mut().find_map(|element| take_out(element, span)) {
                return Some(culprit);
            }
            let at = array.iter().position(|element| element.span() == *span)?;
            let kind = kind(array[at].get_ref());
            let rest = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
            *array = rest
                .filter(|(index, _)| *index != at)
                .map(|(_, element)| element)
                .collect();
            Some(Culprit {
                path: Vec::new(),
                place: Place::Entry,
                kind,
            })
        }
        _ => None,
    }
}

const INTEGER: &str = "an integer";
const TABLE: &str = "a table";

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => INTEGER,
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => TABLE,
    }
}
