//! Fits the cells of a table to the width of a terminal.

use std::{io::IsTerminal, sync::OnceLock};

use terminal_size::{Width, terminal_size_of};

/// Blanks on each side of a cell.
const GAP: usize = 1;
/// Texts stay this wide, in characters, while a less important column can be left out.
const READABLE: usize = 24;
/// Narrowest text, in characters.
const NARROWEST: usize = 10;
/// Columns whose cells are never cut: a part of an address or a state would mislead.
const WHOLE: &[&str] = &[
    "address",
    "addresses",
    "backend",
    "client",
    "master",
    "phase",
    "role",
    "NAT source",
    "state",
    "virtual address",
];
/// The least important columns, which are left out first, in this order.
const FIRST_TO_GO: &[&str] = &[
    "to client",
    "to worker",
    "total",
    "embryonic",
    "NAT source",
    "protocol",
    "scheduler",
    "mode",
    "received",
    "sent",
    "idle",
    "virtual address",
];
/// The most important columns, which are left out last.
const LAST_TO_GO: &[&str] = &["cause", "help", "holds", "meaning", "phase", "role", "state", "finding"];

static TO_TERMINAL: OnceLock<()> = OnceLock::new();

/// From now on, tables fit the terminal at standard output, if it is one.
pub fn fit_to_terminal() {
    let _ = TO_TERMINAL.set(());
}

/// The width to fit, in characters; `None` if there is no limit.
pub(super) fn width() -> Option<usize> {
    let output = std::io::stdout();
    if TO_TERMINAL.get().is_none() || !output.is_terminal() {
        return None;
    }
    let wanted = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    wanted
        .or_else(|| terminal_size_of(output).map(|(Width(width), _)| usize::from(width)))
        .filter(|width| *width > 0)
}

/// What happens to long texts in the last column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// They are cut, as in other columns.
    Cut,
    /// They continue on more lines.
    Wraps,
}

/// Width of a table of these rows when nothing is cut, in characters.
pub(super) fn natural_width(rows: &[Vec<String>]) -> usize {
    total(widths(rows))
}

/// The widest cell of each column.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(widest).collect()
}

/// Width of a line with these columns. The blanks at both ends of a line do not count, because they
/// are removed.
fn total(widths: impl IntoIterator<Item = usize>) -> usize {
    let (columns, sum) = widths
        .into_iter()
        .fold((0_usize, 0), |(columns, sum), width| (columns + 1, sum + width));
    sum + 2 * GAP * columns.saturating_sub(1)
}

/// Makes rows at most `width` characters wide, by these steps until they fit:
///
/// 1. Cut texts, down to [`READABLE`].
/// 2. Leave out the columns of [`FIRST_TO_GO`].
/// 3. Cut texts more, down to [`NARROWEST`].
/// 4. Leave out columns from the right; those of [`LAST_TO_GO`] last.
///
/// The first row is the head. `numbers` marks the columns with numbers, which are never cut; it
/// loses the columns that are left out.
pub(super) fn fit(rows: &mut Vec<Vec<String>>, numbers: &mut Vec<bool>, width: usize, last: Last) {
    let Some(head) = rows.first() else {
        return;
    };
    let wrapped = head.len().checked_sub(1).filter(|_| last == Last::Wraps);
    let layout = Layout::fitting(rows, numbers, width, wrapped);
    *rows = rows.iter().flat_map(|row| layout.lines(row)).collect();
    *numbers = layout
        .kept
        .iter()
        .map(|at| numbers.get(*at).copied().unwrap_or(false))
        .collect();
}

/// Which columns are shown, and how wide.
struct Layout {
    /// The columns that are shown.
    kept: Vec<usize>,
    /// Width of every column, in characters.
    widths: Vec<usize>,
    /// The column that wraps.
    wrapped: Option<usize>,
}

impl Layout {
    fn fitting(rows: &[Vec<String>], numbers: &[bool], width: usize, wrapped: Option<usize>) -> Self {
        let head = &rows[0];
        let natural = widths(rows);
        let mut layout = Self {
            kept: (0..head.len()).collect(),
            widths: natural.clone(),
            wrapped,
        };
        if let Some(at) = wrapped {
            layout.widths[at] = layout.widths[at].min(READABLE);
        }
        let is_text = |at: usize| !numbers.get(at).copied().unwrap_or(false) && !WHOLE.contains(&head[at].as_str());
        while layout.total() > width && layout.kept.len() > 1 {
            layout.shrink(head, is_text);
        }
        if let [only] = layout.kept[..] {
            layout.widths[only] = layout.widths[only].min(width.max(1));
        }
        layout.wrapped = wrapped.filter(|at| layout.kept.last() == Some(at));
        if let Some(at) = layout.wrapped {
            let rest = width.saturating_sub(layout.total() - layout.widths[at]);
            layout.widths[at] = rest.clamp(layout.widths[at], natural[at].max(layout.widths[at]));
        }
        layout
    }

    fn total(&self) -> usize {
        total(self.kept.iter().map(|at| self.widths[*at]))
    }

    /// Takes one character from a text, or leaves out one column.
    fn shrink(&mut self, head: &[String], is_text: impl Fn(usize) -> bool) {
        let widest_over = |least: usize| {
            let texts = self.kept.iter().copied();
            let texts = texts.filter(|at| is_text(*at) && self.widths[*at] > least);
            texts.max_by_key(|at| self.widths[*at])
        };
        let place = |name: &str| self.kept.iter().position(|at| head[*at] == name);
        if let Some(at) = widest_over(READABLE) {
            self.widths[at] -= 1;
        } else if let Some(place) = FIRST_TO_GO.iter().find_map(|name| place(name)) {
            self.kept.remove(place);
        } else if let Some(at) = widest_over(NARROWEST) {
            self.widths[at] -= 1;
        } else {
            let can_go = |at: &usize| *at > 0 && !LAST_TO_GO.contains(&head[*at].as_str());
            let place = self.kept.iter().rposition(can_go);
            self.kept.remove(place.unwrap_or(self.kept.len() - 1));
        }
    }

    /// The lines of a row.
    fn lines(&self, row: &[String]) -> Vec<Vec<String>> {
        let cells = self.kept.iter().filter_map(|at| Some((*at, row.get(*at)?)));
        let mut first: Vec<_> = cells
            .map(|(at, cell)| {
                if Some(at) == self.wrapped {
                    cell.clone()
                } else {
                    shortened(cell, self.widths[at])
                }
            })
            .collect();
        let Some(at) = self.wrapped else {
            return vec![first];
        };
        let text = first.pop().unwrap_or_default();
        let mut lines = wrapped(text.split(' '), " ", self.widths[at]).into_iter();
        let empty = vec![String::new(); first.len()];
        first.push(lines.next().unwrap_or_default());
        let more = lines.map(|line| [empty.clone(), vec![line]].concat());
        std::iter::once(first).chain(more).collect()
    }
}

/// Fills lines of at most `width` characters with words. A longer word has a line of its own.
pub(super) fn wrapped<'a>(words: impl IntoIterator<Item = &'a str>, gap: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + gap.len() + word.chars().count() <= width => {
                line.push_str(gap);
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn shortened(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::{Last, fit, natural_width};

    #[test]
    fn addresses_and_states_are_never_cut_and_less_important_columns_go_first() {
        let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
        let fitted = |width| {
            let mut rows = vec![
                row(["backend", "address", "state", "to client", "cause"]),
                row([
                    "w1",
                    "[2001:db8::1234:5678]:443",
                    "up, suspect",
                    "1.5 KiB",
                    "3 SYNs in a row were refused",
                ]),
            ];
            let mut numbers = vec![false, false, false, true, false];
            fit(&mut rows, &mut numbers, width, Last::Cut);
            assert_eq!(numbers.len(), rows[0].len());
            rows[1].clone()
        };
        let address = "[2001:db8::1234:5678]:443";
        assert_eq!(fitted(80), ["w1", address, "up, suspect", "3 SYNs in a row were re…"]);
        assert_eq!(fitted(60), ["w1", address, "up, suspect", "3 SYNs in …"]);
        assert_eq!(fitted(40), ["w1", "up, suspect", "3 SYNs in…"]);
    }

    fn fitted(width: usize) -> Vec<String> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let mut rows = vec![
            row(["service", "active", "cause"]),
            row(["web", "1234567", "status 503 from everywhere"]),
        ];
        fit(&mut rows, &mut vec![false, true, false], width, Last::Cut);
        rows[1].clone()
    }

    #[test]
    fn texts_are_cut_first_then_columns_go_from_the_right() {
        assert_eq!(fitted(80), ["web", "1234567", "status 503 from everywhere"]);
        assert_eq!(fitted(30), ["web", "1234567", "status 503 …"]);
        assert_eq!(fitted(20), ["web", "status 50…"]);
        assert_eq!(fitted(5), ["web"]);
        assert_eq!(fitted(2), ["w…"]);
    }

    #[test]
    fn the_last_column_wraps_where_it_may() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let mut rows = vec![
            row(["stage", "finding"]),
            row(["rewrite", "mode nat: to 198.51.100.11:8080, from 192.0.2.10"]),
            row(["send", "by eth1"]),
        ];
        assert_eq!(natural_width(&rows), 57);
        fit(&mut rows, &mut vec![false, false], 40, Last::Wraps);
        let expected = [
            ["stage", "finding"],
            ["rewrite", "mode nat: to"],
            ["", "198.51.100.11:8080, from"],
            ["", "192.0.2.10"],
            ["send", "by eth1"],
        ];
        assert_eq!(rows, expected);
        let mut wide = rows.clone();
        fit(&mut wide, &mut vec![false, false], 80, Last::Wraps);
        assert_eq!(wide, rows, "what fits stays as it is");
    }
}
