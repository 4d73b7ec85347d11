//! The width of comments and of Markdown.

/// The most columns of a line.
const WIDTH: usize = 100;

/// Lines of Rust source that are nothing but a comment and are too wide, with their width.
pub(super) fn wide_comments(text: &str) -> Vec<(usize, usize)> {
    wide(
        text.lines()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with("//")),
    )
}

/// Lines of Markdown that are too wide, with their width. Tables and code blocks may be wider.
pub(super) fn wide_prose(text: &str) -> Vec<(usize, usize)> {
    let mut in_block = false;
    wide(text.lines().enumerate().filter(|(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence && !line.trim_start().starts_with('|')
    }))
}

/// Lines that are too wide. One that a single long word makes too wide, such as an address, cannot
/// be wrapped.
fn wide<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<(usize, usize)> {
    let widths = lines.map(|(index, line)| (index + 1, line, line.chars().count()));
    widths
        .filter(|(_, line, width)| *width > WIDTH && !is_one_word(line))
        .map(|(number, _, width)| (number, width))
        .collect()
}

/// Whether the line is one word after its marks of a comment, list or heading.
fn is_one_word(line: &str) -> bool {
    let mark = |c: char| c.is_whitespace() || "/!-*#>".contains(c);
    !line.trim_start_matches(mark).trim_end().contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_comments_and_prose_that_can_be_wrapped_are_too_wide() {
        let long = "word ".repeat(20) + "x";
        let address = "https://example.com/".to_owned() + &"a".repeat(100);
        let source = format!("// {long}\nlet a = \"{long}\";\n    /// {long}\n// {address}\n//! short\n");
        assert_eq!(wide_comments(&source), [(1, 104), (3, 109)]);
        let document = format!("{long}\n| {long} |\n```\n{long}\n```\n- {address}\n{long}\n");
        assert_eq!(wide_prose(&document), [(1, 101), (7, 101)]);
    }
}
