//! Parses text into [`raw`] values: reports syntax errors, unknown keys and wrong types.
//!
//! Serde stops at the first error. To report them all, the entry at fault is removed from the
//! parsed document and the rest is read again.

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Error, ValueDeserializer},
};

use super::{
    diagnostics::{Diagnostics, Entry, Message, Span},
    foreign, raw,
    words::nearest,
};

/// Reading stops after this many errors, because each one costs a pass over the file.
const MOST_ERRORS: usize = 20;

/// Parses `text`.
pub(super) fn read(text: &str) -> Result<raw::File, Vec<Entry>> {
    let mut diagnostics = Diagnostics::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        add_syntax_errors(text, &errors, &mut diagnostics);
        return Err(diagnostics.into_vec());
    }
    let mut document = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
    for _ in 0..MOST_ERRORS {
        match raw::File::deserialize(ValueDeserializer::from(document.clone())) {
            Ok(file) => return diagnostics.into_result().map(|()| file),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let removed = remove_at(&mut document, &span);
                let found = removed.is_some();
                diagnostics.add(span, structure_problem(&error, removed));
                if !found {
                    break;
                }
            }
        }
    }
    Err(diagnostics.into_vec())
}

/// Adds one diagnostic for each line: further errors on a line are nearly always consequences.
fn add_syntax_errors(text: &str, errors: &[Error], diagnostics: &mut Diagnostics) {
    let mut last_line = None;
    for error in errors.iter().take(MOST_ERRORS) {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = line_of(text, span.start);
        if last_line.replace(line.start) == Some(line.start) {
            continue;
        }
        match unquoted(text, line) {
            Some((span, message)) => diagnostics.add(span, message),
            None => diagnostics.add(span, syntax_message(error.message())),
        }
    }
}

/// Splits an error of the TOML parser into what is wrong and what is expected.
fn syntax_message(message: &str) -> Message {
    let expected = match message {
        "duplicate key" => "each key once",
        _ => "valid TOML",
    };
    let (message, expected) = message.split_once(", expected ").unwrap_or((message, expected));
    Message::new(message, expected)
}

/// The line that has the byte `at`, without its line break.
fn line_of(text: &str, at: usize) -> Span {
    let (before, after) = text.split_at(text.floor_char_boundary(at));
    let start = before.rfind('\n').map_or(0, |line_break| line_break + 1);
    let end = after.find('\n').map_or(text.len(), |length| before.len() + length);
    start..end
}

/// For a line such as `address = 192.0.2.1`: the place of its value, and that the value needs
/// quotes.
fn unquoted(text: &str, line: Span) -> Option<(Span, Message)> {
    let (key, value) = text[line.clone()].split_once('=')?;
    let value_start = line.start + key.len() + 1;
    let (key, value) = (key.trim(), value.split('#').next()?);
    let start = value_start + value.len() - value.trim_start().len();
    let value = value.trim();
    let is_word = |c: char| c.is_alphanumeric() || "._-:/%* ".contains(c);
    let is_plain = !value.is_empty() && value.chars().all(is_word) && value.contains(|c: char| !c.is_ascii_digit());
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if !is_plain || !is_key || value.parse::<toml::Value>().is_ok() {
        return None;
    }
    let message = match value.to_lowercase().as_str() {
        "yes" | "on" | "true" => Message::new(format!("`{key}` is not a TOML boolean"), "true"),
        "no" | "off" | "false" => Message::new(format!("`{key}` is not a TOML boolean"), "false"),
        _ => Message::new(
            format!("the value of `{key}` has no quotes"),
            format!("the value in quotes: \"{value}\""),
        ),
    };
    Some((start..start + value.len(), message))
}

/// An entry that was removed from the document.
struct Removed {
    /// The keys that lead to it, the outermost first, without array indexes.
    path: Vec<String>,
    place: Place,
    /// The TOML type of the value, in words.
    kind: &'static str,
}

/// What an error is about.
#[derive(PartialEq, Eq)]
enum Place {
    /// The key that the path leads to.
    Key,
    /// The value that the path leads to.
    Value,
    /// One entry of the array that the path leads to.
    Entry,
}

/// Translates an error of serde.
fn structure_problem(error: &Error, removed: Option<Removed>) -> Message {
    let (message, expected) = error
        .message()
        .rsplit_once(", expected ")
        .unwrap_or((error.message(), ""));
    let Some(Removed { path, place, kind }) = removed else {
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
        let problem = format!("unknown key `{}`", key.escape_debug());
        return match foreign::key(key) {
            Some(instead) => Message::new(problem, instead),
            None => Message::new(problem, format!("one of {expected}")).suggest(nearest(key, known.into_iter())),
        };
    }
    let expected = match expected {
        // Serde sees a date as a map with one special key.
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

/// Removes the innermost entry at `span` from `value`.
fn remove_at(value: &mut Spanned<DeValue<'_>>, span: &Span) -> Option<Removed> {
    match value.get_mut() {
        DeValue::Table(table) => {
            let inner = table
                .iter_mut()
                .find_map(|(key, value)| Some((key.get_ref().to_string(), remove_at(value, span)?)));
            if let Some((key, mut removed)) = inner {
                removed.path.insert(0, key);
                return Some(removed);
            }
            let (key, value) = table
                .iter()
                .find(|(key, value)| key.span() == *span || value.span() == *span)?;
            let place = if key.span() == *span { Place::Key } else { Place::Value };
            let (key, kind) = (key.get_ref().to_string(), kind(value.get_ref()));
            table.remove(key.as_str());
            Some(Removed {
                path: vec![key],
                place,
                kind,
            })
        }
        DeValue::Array(array) => {
            if let Some(removed) = array.iter_mut().find_map(|element| remove_at(element, span)) {
                return Some(removed);
            }
            let at = array.iter().position(|element| element.span() == *span)?;
            let kind = kind(array[at].get_ref());
            let rest = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
            *array = rest
                .filter(|(index, _)| *index != at)
                .map(|(_, element)| element)
                .collect();
            Some(Removed {
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
