//! Fits the cells of a table to the width of a terminal.

use std::{io::IsTerminal, sync::OnceLock};

use terminal_size::{Width, terminal_size_of};

/// Blanks between columns, as the table writes them.
const GAP: usize = 1;
/// A column of text is not cut below this many characters.
const NARROWEST: usize = 10;

static TO_TERMINAL: OnceLock<()> = OnceLock::new();

/// From now on, tables are as wide as the terminal at standard output, if there is one.
pub fn fit_to_terminal() {
    let _ = TO_TERMINAL.set(());
}

/// The width to fit to; `None`: whatever it takes.
pub(super) fn width() -> Option<usize> {
    let output = std::io::stdout();
    if TO_TERMINAL.get().is_none() || !output.is_terminal() {
        return None;
    }
    terminal_size_of(output)
        .map(|(Width(width), _)| usize::from(width))
        .filter(|width| *width > 0)
}

/// Cuts the widest cells of text, and then leaves columns out from the right, until rows have at most `width` characters.
/// The first row is the head; `numbers` says which columns hold numbers, which are never cut.
pub(super) fn fit(rows: &mut [Vec<String>], numbers: &[bool], width: usize) {
    let Some(mut columns) = rows.iter().map(Vec::len).min() else {
        return;
    };
    let mut widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    // The table keeps a blank at both sides of each cell; those at the ends of a line are cut.
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + (2 * GAP) * widths.len().saturating_sub(1);
    while total(&widths[..columns]) > width && columns > 1 {
        let cut = (0..columns)
            .filter(|at| !numbers.get(*at).copied().unwrap_or(false) && widths[*at] > NARROWEST)
            .max_by_key(|at| widths[*at]);
        match cut {
            Some(at) => widths[at] -= 1,
            None => columns -= 1,
        }
    }
    if columns == 1 {
        widths[0] = widths[0].min(width.max(1));
    }
    for row in rows {
        row.truncate(columns);
        for (cell, width) in row.iter_mut().zip(&widths) {
            if cell.chars().count() > *width {
                *cell = cell.chars().take(width.saturating_sub(1)).chain(['…']).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fit;

    fn fitted(width: usize) -> Vec<String> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let mut rows = [
            row(["service", "active", "cause"]),
            row(["web", "1234567", "status 503 from everywhere"]),
        ];
        fit(&mut rows, &[false, true, false], width);
        rows[1].clone()
    }

    #[test]
    fn text_is_cut_first_and_then_columns_go_from_the_right() {
        assert_eq!(fitted(80), ["web", "1234567", "status 503 from everywhere"]);
        assert_eq!(fitted(30), ["web", "1234567", "status 503 …"]);
        assert_eq!(fitted(20), ["web", "1234567"]);
        assert_eq!(fitted(5), ["web"]);
        assert_eq!(fitted(2), ["w…"]);
    }
}
