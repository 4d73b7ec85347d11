//! What is wrong with a file, and where: collected while the checks go on, so that one run reports them all.

use std::{hash::Hash, ops::Range};

use toml::Spanned;

use super::raw::Given;

/// A byte range of the text.
pub(super) type Span = Range<usize>;

/// What is wrong with a value, without its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong.
    pub(super) message: String,
    /// What would have been right.
    pub(super) expected: String,
    /// The known word that was probably meant.
    pub(super) suggestion: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            message: message.into(),
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

/// A problem and its place.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) span: Span,
    pub(super) problem: Problem,
    /// Another place that matters, and why.
    pub(super) related: Option<(Span, &'static str)>,
}

impl Finding {
    pub(super) fn new(span: Span, problem: Problem) -> Self {
        Self {
            span,
            problem,
            related: None,
        }
    }
}

/// All findings so far. The methods return `None` for what is wrong, having noted why, so that the caller goes on.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// The findings, in the order of the text.
    pub(super) fn into_vec(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.span.start);
        self.0
    }

    /// `Ok` if there are none.
    pub(super) fn into_result(self) -> Result<(), Vec<Finding>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.into_vec())
        }
    }

    /// What `check` makes of the table at `span`. A table that is refused without a word would be missing from a file that
    /// counts as right, and what it describes be taken out of service: then the file is wrong, too.
    pub(super) fn whole<T>(&mut self, span: Span, check: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let checked = check(self);
        if checked.is_none() && self.0.is_empty() {
            let problem = "this table cannot be used, and lbd cannot say why, which is a fault of its own";
            self.add(span, Problem::new(problem, "other keys, or another lbd"));
        }
        checked
    }

    pub(super) fn add(&mut self, span: Span, problem: Problem) {
        self.0.push(Finding::new(span, problem));
    }

    pub(super) fn add_related(&mut self, span: Span, problem: Problem, related: Span, label: &'static str) {
        self.0.push(Finding {
            span,
            problem,
            related: Some((related, label)),
        });
    }

    /// A value that is there.
    pub(super) fn value<R, T>(
        &mut self,
        given: &Spanned<R>,
        check: impl FnOnce(&R) -> Result<T, Problem>,
    ) -> Option<T> {
        check(given.get_ref())
            .map_err(|problem| self.add(given.span(), problem))
            .ok()
    }

    /// A value that may be absent.
    pub(super) fn optional<R, T>(
        &mut self,
        given: &Given<R>,
        default: T,
        check: impl FnOnce(&R) -> Result<T, Problem>,
    ) -> Option<T> {
        match given {
            Some(given) => self.value(given, check),
            None => Some(default),
        }
    }

    /// A value that must be there; `table` is where it is missing otherwise.
    pub(super) fn required<R, T>(
        &mut self,
        given: &Given<R>,
        table: &Span,
        key: &str,
        expected: &str,
        check: impl FnOnce(&R) -> Result<T, Problem>,
    ) -> Option<T> {
        match given {
            Some(given) => self.value(given, check),
            None => {
                self.missing(table, key, expected);
                None
            }
        }
    }

    /// Notes that `key` is missing from `table`.
    pub(super) fn missing(&mut self, table: &Span, key: &str, expected: &str) {
        self.add(
            table.clone(),
            Problem::new(format!("`{key}` is missing"), format!("`{key}` = {expected}")),
        );
    }

    /// A list of 1 to `most` values, no two alike; `what` names them in the plural.
    pub(super) fn list<R, T: Clone + Eq + Hash>(
        &mut self,
        given: &Spanned<Vec<Spanned<R>>>,
        most: usize,
        what: &str,
        check: impl Fn(&R) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let items = given.get_ref();
        if items.is_empty() || items.len() > most {
            let problem = Problem::new(
                format!("{} {what} are given", items.len()),
                format!("1 to {most} {what}"),
            );
            self.add(given.span(), problem);
            return None;
        }
        let mut values: Vec<T> = Vec::with_capacity(items.len());
        let mut seen = Seen::default();
        for item in items {
            let value = self.value(item, &check);
            if let Some(value) = value
                && seen.is_new(self, value.clone(), item.span(), || {
                    Problem::new("this entry is there twice", format!("{what} that all differ"))
                })
            {
                values.push(value);
            }
        }
        (values.len() == items.len()).then_some(values)
    }
}

/// Finds what is there twice.
#[derive(Debug)]
pub(super) struct Seen<T>(std::collections::HashMap<T, Span>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T: Eq + Hash> Seen<T> {
    /// Whether `value` is met for the first time; if not, adds `problem`, pointing to both places.
    pub(super) fn is_new(
        &mut self,
        findings: &mut Findings,
        value: T,
        span: Span,
        problem: impl FnOnce() -> Problem,
    ) -> bool {
        match self.0.entry(value) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(span);
                true
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                findings.add_related(span, problem(), first.get().clone(), "first here");
                false
            }
        }
    }
}
