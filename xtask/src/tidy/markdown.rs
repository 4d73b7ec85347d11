//! Links in Markdown.

/// Targets of the inline links of a document, with their lines from 1; code blocks and code spans
/// have none.
pub(super) fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            // Every second piece between backticks is code.
            for prose in pieces_of_prose(line) {
                for after in prose.split("](").skip(1) {
                    let end = after.find([')', ' ']).unwrap_or(after.len());
                    found.push((index + 1, &after[..end]));
                }
            }
        }
    }
    found
}

/// A code span within the brackets of a link must not tear it apart, so only spans that hold a link
/// are cut out.
fn pieces_of_prose(line: &str) -> impl Iterator<Item = &str> {
    let torn = line
        .split('`')
        .enumerate()
        .any(|(at, piece)| at % 2 == 1 && piece.contains("]("));
    let (step, line) = if torn {
        (2, line.split('`').collect::<Vec<_>>())
    } else {
        (1, vec![line])
    };
    line.into_iter().step_by(step)
}

/// The path from the root that a relative link in `document` points at; `None` for links to
/// elsewhere.
pub(super) fn path_of(document: &str, link: &str) -> Option<String> {
    let link = link.trim_start_matches('<').trim_end_matches('>');
    let path = link.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
        return None;
    }
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let start = if path.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_of_code() {
        let text = "[a](b.md) and [`c`](d.md#e \"title\")\n```\n[x](y)\n```\n`[x](y)` [z](w.md)";
        assert_eq!(links(text), [(1, "b.md"), (1, "d.md#e"), (5, "w.md")]);
    }

    #[test]
    fn links_are_resolved_from_the_folder_of_their_document() {
        for (document, link, path) in [
            ("README.md", "docs/a.md#part", Some("docs/a.md")),
            ("docs/a.md", "../README.md", Some("README.md")),
            ("docs/adr/1.md", "./2.md", Some("docs/adr/2.md")),
            ("README.md", "../outside", Some("../outside")),
            ("README.md", "#part", None),
            ("README.md", "https://example.com/a", None),
            ("README.md", "mailto:a@example.com", None),
        ] {
            assert_eq!(path_of(document, link).as_deref(), path, "{link} in {document}");
        }
    }
}
