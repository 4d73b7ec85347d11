//! Fits the cells of a table to the width of a terminal.

use std::{io::IsTerminal, sync::OnceLock};

use terminal_size::{Width, terminal_size_of};

/// Blanks between columns, as the table writes them.
const GAP: usize = 1;
/// Text is not cut below this many characters while there are columns that matter less.
const READABLE: usize = 24;
/// Text is not cut below this many characters at all.
const NARROWEST: usize = 10;
/// Columns whose cells mean nothing, or something else, when they are cut.
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
/// Columns that are left out first, in this order.
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
/// Columns that are left out when nothing else is left.
const LAST_TO_GO: &[&str] = &["cause", "help", "holds", "meaning", "phase", "role", "state", "finding"];

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
    let wanted = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    wanted
        .or_else(|| terminal_size_of(output).map(|(Width(width), _)| usize::from(width)))
        .filter(|width| *width > 0)
}

/// What becomes of texts in the last column that are too long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// They are cut like others.
    Cut,
    /// They go on in further lines.
    Wraps,
}

/// How wide a table of these rows is that nothing is cut of.
pub(super) fn natural_width(rows: &[Vec<String>]) -> usize {
    total(&widths(rows))
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(widest).collect()
}

/// The table keeps a blank at both sides of each cell; those at the ends of a line are cut.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + (2 * GAP) * widths.len().saturating_sub(1)
}

/// Makes rows at most `width` characters long: long texts are cut a little, columns that matter least are left out, texts
/// are cut more, and then further columns go from the right. Addresses, numbers and states are never cut. The first row is
/// the head; `numbers` says which columns hold numbers, and goes on saying so of those that stay.
pub(super) fn fit(rows: &mut Vec<Vec<String>>, numbers: &mut Vec<bool>, width: usize, last: Last) {
    let Some(head) = rows.first().cloned() else {
        return;
    };
    let natural = widths(rows);
    let mut widths = natural.clone();
    let prose = head.len().checked_sub(1).filter(|_| last == Last::Wraps);
    if let Some(at) = prose {
        widths[at] = widths[at].min(READABLE);
    }
    let mut kept: Vec<usize> = (0..head.len()).collect();
    let total = |kept: &[usize], widths: &[usize]| total(&kept.iter().map(|at| widths[*at]).collect::<Vec<_>>());
    let is_text = |at: usize| !numbers.get(at).copied().unwrap_or(false) && !WHOLE.contains(&head[at].as_str());
    while total(&kept, &widths) > width && kept.len() > 1 {
        let cut = |least: usize| {
            let texts = kept.iter().copied().filter(|at| is_text(*at) && widths[*at] > least);
            texts.max_by_key(|at| widths[*at])
        };
        let place = |name: &str| kept.iter().position(|at| head[*at] == name);
        if let Some(at) = cut(READABLE) {
            widths[at] -= 1;
        } else if let Some(place) = FIRST_TO_GO.iter().find_map(|name| place(name)) {
            kept.remove(place);
        } else if let Some(at) = cut(NARROWEST) {
            widths[at] -= 1;
        } else {
            let spare = |at: &usize| *at > 0 && !LAST_TO_GO.contains(&head[*at].as_str());
            kept.remove(kept.iter().rposition(spare).unwrap_or(kept.len() - 1));
        }
    }
    if let [only] = kept[..] {
        widths[only] = widths[only].min(width.max(1));
    }
    let prose = prose.filter(|at| kept.last() == Some(at));
    if let Some(at) = prose {
        let rest = width.saturating_sub(total(&kept, &widths) - widths[at]);
        widths[at] = rest.clamp(widths[at], natural[at].max(widths[at]));
    }
    let fitted = rows.iter().flat_map(|row| {
        let cells = kept.iter().filter_map(|at| Some((*at, row.get(*at)?)));
        let mut first: Vec<_> = cells
            .map(|(at, cell)| {
                if Some(at) == prose {
                    cell.clone()
                } else {
                    shortened(cell, widths[at])
                }
            })
            .collect();
        let Some(at) = prose else { return vec![first] };
        let text = first.pop().unwrap_or_default();
        let mut lines = wrapped(text.split(' '), " ", widths[at]).into_iter();
        let empty = vec![String::new(); first.len()];
        first.push(lines.next().unwrap_or_default());
        let further = lines.map(|line| [empty.clone(), vec![line]].concat());
        std::iter::once(first).chain(further).collect()
    });
    *rows = fitted.collect();
    *numbers = kept
        .iter()
        .map(|at| numbers.get(*at).copied().unwrap_or(false))
        .collect();
}

/// Lines of words that are at most `width` characters long, unless a word alone is longer.
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
    fn addresses_and_states_stay_whole_and_what_matters_least_goes_first() {
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
    fn text_is_cut_first_and_then_columns_go_from_the_right() {
        assert_eq!(fitted(80), ["web", "1234567", "status 503 from everywhere"]);
        assert_eq!(fitted(30), ["web", "1234567", "status 503 …"]);
        assert_eq!(fitted(20), ["web", "status 50…"]);
        assert_eq!(fitted(5), ["web"]);
        assert_eq!(fitted(2), ["w…"]);
    }

    #[test]
    fn the_last_column_goes_on_in_further_lines_where_it_may() {
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
