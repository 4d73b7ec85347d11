//! Draws tables.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::super::fit::{self, Last};

/// A column: its head, and whether it holds numbers.
pub(super) type Column<'a> = (&'a str, bool);

/// A table. Long texts are cut if it does not fit the terminal.
pub(super) fn table(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    draw(columns, with_head(columns, rows), Last::Cut)
}

/// A table whose last column wraps if it does not fit the terminal.
pub(super) fn prose(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    draw(columns, with_head(columns, rows), Last::Wraps)
}

/// A sentence that wraps at the width of the terminal.
pub(super) fn sentence(text: &str) -> String {
    match fit::width() {
        Some(width) => fit::wrapped(text.split(' '), " ", width).join("\n"),
        None => text.to_owned(),
    }
}

/// Whether a table is wider than the terminal.
pub(super) fn is_too_wide(columns: &[Column<'_>], rows: &[Vec<String>]) -> bool {
    fit::width().is_some_and(|width| fit::natural_width(&with_head(columns, rows.to_vec())) > width)
}

fn with_head(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    std::iter::once(head).chain(rows).collect()
}

fn draw(columns: &[Column<'_>], mut rows: Vec<Vec<String>>, last: Last) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let mut numbers: Vec<bool> = columns.iter().map(|(_, number)| *number).collect();
    if let Some(width) = fit::width() {
        fit::fit(&mut rows, &mut numbers, width, last);
    }
    let mut rows = rows.into_iter().map(|row| {
        row.into_iter()
            .zip(&numbers)
            .map(|(text, number)| cell(text, *number))
            .collect::<Vec<_>>()
    });
    if let Some(head) = rows.next() {
        table.set_header(head);
    }
    table.add_rows(rows);
    table.lines().map(|line| without_edges(&line)).collect()
}

fn cell(text: String, number: bool) -> Cell {
    Cell::new(text).set_alignment(if number {
        CellAlignment::Right
    } else {
        CellAlignment::Left
    })
}

/// A number of bytes with a unit, such as `1.5 KiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Removes the blanks before the first column and after the last one.
fn without_edges(line: &str) -> String {
    format!("{}\n", line.strip_prefix(' ').unwrap_or(line).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_to_the_right_and_lines_have_no_blank_ends() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["longer".to_owned(), "1000".to_owned()],
        ];
        let text = table(&[("name", false), ("count", true)], rows);
        assert_eq!(text, "name    count\na           1\nlonger   1000\n");
    }

    #[test]
    fn bytes_are_shown_for_people() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(3 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
        );
    }
}
