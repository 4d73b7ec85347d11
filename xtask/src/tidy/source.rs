//! Reads Rust source for the rules: which text is code, and which words it has.

/// The lines of code, with their numbers from 1: without line comments, and without the tests at
/// the end of the file.
pub(super) fn product_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    code(text).take_while(|(_, line)| line.trim() != "#[cfg(test)]")
}

/// The lines of code, with their numbers from 1, without line comments.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, without_comment(line)))
}

/// Cuts a line comment; two slashes in a string stay.
fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    let mut previous = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if previous != '\\' && previous != '\'' => in_string = !in_string,
            '/' if previous == '/' && !in_string => return &line[..at - 1],
            _ => {}
        }
        previous = c;
    }
    line
}

/// Whether the text has the word, and not only as a part of a longer name.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// The modules that the code names directly below the crate: `b` and `c` for `a::b` and `a::{c::D,
/// ..}`, with lines.
pub(super) fn modules_of<'a>(text: &'a str, krate: &str) -> Vec<(usize, &'a str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut depth: Option<u32> = None;
    for (line, code) in product_code(text) {
        let mut rest = code;
        while !rest.is_empty() {
            if let Some(inside) = &mut depth {
                // At depth 1 of a group, a name after `{` or `,` is a module; deeper ones are its
                // contents.
                let end = rest.find(|c: char| !part(c)).unwrap_or(rest.len());
                if end > 0 {
                    found.extend((*inside == 1).then_some((line, &rest[..end])));
                    rest = &rest[end..];
                    continue;
                }
                match rest.as_bytes()[0] {
                    b'{' => *inside += 1,
                    b'}' => *inside -= 1,
                    _ => {}
                }
                if *inside == 0 {
                    depth = None;
                }
                rest = &rest[rest.chars().next().map_or(0, char::len_utf8)..];
                continue;
            }
            let Some(at) = rest.find(krate) else { break };
            let (before, after) = (&rest[..at], &rest[at + krate.len()..]);
            let Some(path) = after.strip_prefix("::").filter(|_| !before.ends_with(part)) else {
                rest = after;
                continue;
            };
            if let Some(group) = path.strip_prefix('{') {
                depth = Some(1);
                rest = group;
            } else {
                let end = path.find(|c: char| !part(c)).unwrap_or(path.len());
                found.push((line, &path[..end]));
                rest = &path[end..];
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_code_and_strings_are() {
        assert_eq!(without_comment("let a = 1; // tokio"), "let a = 1; ");
        assert_eq!(
            without_comment(r#"let a = "http://b"; // c"#),
            r#"let a = "http://b"; "#
        );
        assert_eq!(without_comment(r#"let a = '"'; // c"#), r#"let a = '"'; "#);
    }

    #[test]
    fn words_are_whole_names() {
        assert!(has_word("use aya::maps;", "aya"));
        assert!(!has_word("use aya_log::x;", "aya") && !has_word("papaya::x", "aya"));
    }

    #[test]
    fn modules_are_found_alone_and_in_groups_over_several_lines() {
        assert_eq!(
            modules_of("use aya::maps::HashMap;\nfn f(p: aya::programs::Xdp)", "aya"),
            [(1, "maps"), (2, "programs")]
        );
        let grouped = "use aya::{\n    Ebpf,\n    maps::{Array, lpm_trie::Key},\n};\nuse papaya::maps;";
        let names: Vec<&str> = modules_of(grouped, "aya").into_iter().map(|(_, name)| name).collect();
        assert!(
            names.contains(&"Ebpf") && names.contains(&"maps") && !names.contains(&"lpm_trie"),
            "{names:?}"
        );
    }
}
