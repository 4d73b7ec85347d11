//! Collects what is wrong with a file, with the place of each problem, so that one run reports
//! everything.

use std::{hash::Hash, ops::Range};

use toml::Spanned;

use super::raw::Given;

/// A byte range of the text.
pub(super) type Span = Range<usize>;

/// What is wrong with a value, without its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// What is wrong.
    pub(super) text: String,
    /// What is expected instead.
    pub(super) expected: String,
    /// The known word that was probably meant.
    pub(super) suggestion: Option<String>,
}

impl Message {
    pub(super) fn new(text: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            expected: expected.into(),
            suggestion: None,
        }
    }

    #[must_use]
    pub(super) fn suggest(self, word: Option<impl Into<String>>) -> Self {
        Self {
            suggestion: word.map(Into::into),
            ..self
        }
    }
}

/// A message and its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) span: Span,
    pub(super) message: Message,
    /// A second place that is part of the problem, and its label.
    pub(super) related: Option<(Span, &'static str)>,
}

impl Entry {
    pub(super) fn new(span: Span, message: Message) -> Self {
        Self {
            span,
            message,
            related: None,
        }
    }
}

/// All problems found so far.
///
/// The methods add a problem and return `None` where a value is wrong, so that the caller can check
/// the next value.
#[derive(Debug, Default)]
pub(super) struct Diagnostics(Vec<Entry>);

impl Diagnostics {
    /// The entries, sorted by their place in the text.
    pub(super) fn into_vec(mut self) -> Vec<Entry> {
        self.0.sort_by_key(|entry| entry.span.start);
        self.0
    }

    /// `Ok` if there are none.
    pub(super) fn into_result(self) -> Result<(), Vec<Entry>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.into_vec())
        }
    }

    /// The result of `check` for the table at `span`.
    ///
    /// A table that is refused without a diagnostic would silently be missing from a valid
    /// configuration. Then this adds a diagnostic of its own, which makes the file invalid.
    pub(super) fn table<T>(&mut self, span: Span, check: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let checked = check(self);
        if checked.is_none() && self.0.is_empty() {
            let problem = "this table is refused for an unknown reason; this is a bug in lbd";
            self.add(span, Message::new(problem, "other keys, or another version of lbd"));
        }
        checked
    }

    pub(super) fn add(&mut self, span: Span, message: Message) {
        self.0.push(Entry::new(span, message));
    }

    pub(super) fn add_related(&mut self, span: Span, message: Message, related: Span, label: &'static str) {
        self.0.push(Entry {
            span,
            message,
            related: Some((related, label)),
        });
    }

    /// Checks a value that is given.
    pub(super) fn value<R, T>(
        &mut self,
        given: &Spanned<R>,
        check: impl FnOnce(&R) -> Result<T, Message>,
    ) -> Option<T> {
        check(given.get_ref())
            .map_err(|message| self.add(given.span(), message))
            .ok()
    }

    /// Checks a value that may be absent.
    pub(super) fn optional<R, T>(
        &mut self,
        given: &Given<R>,
        default: T,
        check: impl FnOnce(&R) -> Result<T, Message>,
    ) -> Option<T> {
        match given {
            Some(given) => self.value(given, check),
            None => Some(default),
        }
    }

    /// Checks a value that is required. Where it is missing, the diagnostic is at `table`.
    pub(super) fn required<R, T>(
        &mut self,
        given: &Given<R>,
        table: &Span,
        key: &str,
        expected: &str,
        check: impl FnOnce(&R) -> Result<T, Message>,
    ) -> Option<T> {
        match given {
            Some(given) => self.value(given, check),
            None => {
                self.missing(table, key, expected);
                None
            }
        }
    }

    /// Adds that `key` is missing from `table`.
    pub(super) fn missing(&mut self, table: &Span, key: &str, expected: &str) {
        self.add(
            table.clone(),
            Message::new(format!("`{key}` is missing"), format!("`{key}` = {expected}")),
        );
    }

    /// Checks a list of 1 to `most` different values. `what` names them in the plural.
    pub(super) fn list<R, T: Clone + Eq + Hash>(
        &mut self,
        given: &Spanned<Vec<Spanned<R>>>,
        most: usize,
        what: &str,
        check: impl Fn(&R) -> Result<T, Message>,
    ) -> Option<Vec<T>> {
        let items = given.get_ref();
        if items.is_empty() || items.len() > most {
            let message = Message::new(format!("{} {what}", items.len()), format!("1 to {most} {what}"));
            self.add(given.span(), message);
            return None;
        }
        let mut values: Vec<T> = Vec::with_capacity(items.len());
        let mut seen = Seen::default();
        for item in items {
            let value = self.value(item, &check);
            if let Some(value) = value
                && seen.is_new(self, value.clone(), item.span(), || {
                    Message::new("duplicate entry", format!("{what} that all differ"))
                })
            {
                values.push(value);
            }
        }
        (values.len() == items.len()).then_some(values)
    }
}

/// Finds duplicates.
#[derive(Debug)]
pub(super) struct Seen<T>(std::collections::HashMap<T, Span>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T: Eq + Hash> Seen<T> {
    /// Whether `value` is new. If not, adds `message` with both places.
    pub(super) fn is_new(
        &mut self,
        diagnostics: &mut Diagnostics,
        value: T,
        span: Span,
        message: impl FnOnce() -> Message,
    ) -> bool {
        match self.0.entry(value) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(span);
                true
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                diagnostics.add_related(span, message(), first.get().clone(), "first here");
                false
            }
        }
    }
}
