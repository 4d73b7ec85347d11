//! Words that names must not have, with the word of the field to use instead.

/// A word, and what to write instead.
type Banned = (&'static str, &'static str);

/// Words that no identifier and no file name has.
const BANNED: &[Banned] = &[
    ("doubt", "a name for the condition, such as `yield_if_unfit`"),
    ("ground", "`interface_snapshot`"),
    ("hearsay", "`learned`"),
    ("heed", "`apply`"),
    ("heeds", "`applies`"),
    ("hindrance", "`probe_error`"),
    ("hindrances", "`probe_errors`"),
    ("hurry", "`set_realtime_priority`"),
    ("judge", "`validate`"),
    ("judged", "`validated`"),
    ("judgement", "`verdict` or `result`"),
    ("lend", "`borrow`"),
    ("lent", "`borrowed`"),
    ("nudge", "`challenge_ack`"),
    ("nudged", "`challenged`"),
    ("oddities", "`mismatches`"),
    ("oddity", "`mismatch`"),
    ("room", "`capacity` or `scratch`"),
    ("rooms", "`capacities`"),
    ("standing", "`state` or `result`"),
    ("suspecting", "`passive_checks`"),
    ("tell", "`announce`, `report` or `print`"),
    ("tells", "`announces`, `reports` or `prints`"),
    ("told", "`announced`, `reported` or `printed`"),
    ("unserved", "`no_backend`"),
    ("way", "`path`, `route`, `trace`, `classify` or `method`"),
    ("ways", "`paths`, `routes` or `methods`"),
    ("weigh", "`evaluate`"),
    ("whereabouts", "`location`"),
    ("whoever", "the name of the role"),
];

/// The banned word in a name, and what to write instead.
pub(super) fn banned_in(name: &str) -> Option<Banned> {
    let words = words_of(name);
    BANNED
        .iter()
        .copied()
        .find(|(word, _)| words.iter().any(|found| found == word))
}

/// The words of `snake_case`, `kebab-case`, `CamelCase` and `UPPER_CASE`, in lower case.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous = '_';
    for c in name.chars() {
        let begins = c.is_uppercase() && !previous.is_uppercase();
        if !c.is_alphanumeric() || begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        previous = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The identifiers of Rust source, with their lines from 1; those in comments, strings and
/// characters are none.
pub(super) fn identifiers(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string(rest),
            '\'' => character(rest),
            _ if c.is_alphabetic() || c == '_' => {
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if let Some(length) = raw_string(name, after) {
                    end + length
                } else {
                    found.push((line, name));
                    end
                }
            }
            _ => c.len_utf8(),
        };
        let (taken, after) = rest.split_at(length);
        line += taken.matches('\n').count();
        rest = after;
    }
    found
}

/// The length of a string that begins here.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character that begins here, or of the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) => text[3.min(text.len())..].find('\'').map_or(text.len(), |end| end + 4),
        (Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 1,
    }
}

/// The length of a raw string after its prefix, if it is one.
fn raw_string(prefix: &str, text: &str) -> Option<usize> {
    let quote = text.find(|c| c != '#').filter(|at| text[*at..].starts_with('"'))?;
    if !["r", "br", "cr"].contains(&prefix) {
        return None;
    }
    let end = format!("\"{}", "#".repeat(quote));
    let inside = &text[quote + 1..];
    Some(inside.find(&end).map_or(text.len(), |at| quote + 1 + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_words() {
        for (name, words) in [
            ("tell_link", &["tell", "link"][..]),
            ("RoomCheck", &["room", "check"]),
            ("MAX_WAYS", &["max", "ways"]),
            ("vrrp-odd-adverts", &["vrrp", "odd", "adverts"]),
            ("always", &["always"]),
        ] {
            assert_eq!(words_of(name), words, "{name}");
        }
    }

    #[test]
    fn text_in_comments_and_strings_is_no_name() {
        let text = "// room\nlet a = \"room \\\" room\n room\"; /* room\n */ let b: &'way u8 = r#\"room\"#;\n\
                    let c = ('r', '\\'', b'x', '\\u{1F}', b\"room\"); d";
        let names: Vec<_> = identifiers(text);
        let expected = [
            (2, "let"),
            (2, "a"),
            (4, "let"),
            (4, "b"),
            (4, "way"),
            (4, "u8"),
            (5, "let"),
            (5, "c"),
            (5, "b"),
            (5, "b"),
            (5, "d"),
        ];
        assert_eq!(names, expected);
    }
}
