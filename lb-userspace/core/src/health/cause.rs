//! Causes of health changes, as operators read them.

use super::{Decision, Verdict};
use crate::{
    config::Flaps,
    printable::printable,
    text::{duration, number},
};

/// The longest cause, in characters. A backend controls part of the text.
const LONGEST: usize = 400;

/// The cause before the first check.
pub(super) fn unchecked(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "not checked yet",
        Verdict::Up | Verdict::Down => "state kept from before; not checked yet",
    }
}

/// The cause of a decision.
pub(super) fn decided(Decision { results, flapping }: Decision, result: Result<(), &str>) -> String {
    match (result, flapping) {
        (Ok(()), None) => format!("{results} of {results} checks succeeded"),
        (Ok(()), Some(Flaps { period, .. })) => {
            let period = duration(period);
            format!("{results} of {results} checks succeeded, over {period}, after flapping")
        }
        (Err(failure), None) => format!("{results} of {results} checks failed: {failure}"),
        (Err(failure), Some(Flaps { limit, period })) => {
            let (times, period) = (number(limit, "time"), duration(period));
            format!(
                "{results} of {results} checks failed: {failure}; it went down {times} within {period}, and must stay healthy \
                 for {period} to come up"
            )
        }
    }
}

/// Makes a text that a backend controls safe to show: limits its length and replaces characters
/// that terminals interpret.
pub(super) fn shown(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_backends_are_cut_and_harmless_to_terminals() {
        assert_eq!(shown("gRPC: status 13 \u{1b}[2J\u{202e}on"), "gRPC: status 13  [2J on");
        assert_eq!(shown("refused"), "refused");
        let long = shown(&"ä".repeat(1_000_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
    }
}
