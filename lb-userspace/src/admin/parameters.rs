//! The query of a request: every key known, given once, with a value that makes sense.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use axum::{extract::Query, http::Uri};

use crate::api::Problem;

/// The query of a request.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the query, which may have the keys `known`.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}")))?;
        for (at, (key, _)) in pairs.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(Problem::bad_request(unknown(key, uri.path(), known)));
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(Problem::bad_request(format!("the query has `{key}` more than once")));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a key as it is. An empty one is as good as none.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == key)?;
        (!value.is_empty()).then_some(value)
    }

    /// The value of a key as something else.
    pub(super) fn value<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, Problem> {
        let wrong = |text| move |_| refused(key, text, expected);
        self.text(key).map(|text| text.parse().map_err(wrong(text))).transpose()
    }

    /// The value of a key as a number in a range.
    pub(super) fn number<T>(&self, key: &str, range: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        match self.value(key, &expected)? {
            Some(number) if !range.contains(&number) => Err(refused(key, &number.to_string(), &expected)),
            number => Ok(number),
        }
    }
}

fn refused(key: &str, text: &str, expected: &str) -> Problem {
    Problem::bad_request(format!("`{key}` is `{}`; expected {expected}", text.escape_debug()))
}

fn unknown(key: &str, path: &str, known: &[&str]) -> String {
    let key = key.escape_debug();
    match known {
        [] => format!("{path} takes no query, but there is `{key}`"),
        known => format!("{path} takes no `{key}`; expected {}", known.join(", ")),
    }
}
