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
    "source",
    "state",
    "virtual address",
];
/// Columns that are left out first, in this order.
const FIRST_TO_GO: &[&str] = &[
    "to client",
    "to worker",
    "total",
    "embryonic",
    "source",
    "protocol",
    "scheduler",
    "mode",
    "received",
    "sent",
    "idle",
    "virtual address",
];
/// Columns that are left out when nothing else is left.
const LAST_TO_GO: &[&str] = &["cause", "phase", "role", "state"];

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

/// Makes rows at most `width` characters long: long texts are cut a little, columns that matter least are left out, texts
/// are cut more, and then further columns go from the right. Addresses, numbers and states are never cut. The first row is
/// the head; `numbers` says which columns hold numbers, and goes on saying so of those that stay.
pub(super) fn fit(rows: &mut [Vec<String>], numbers: &mut Vec<bool>, width: usize) {
    let Some(head) = rows.first().cloned() else {
        return;
    };
    let widest = |at: usize| {
        rows.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .max()
    };
    let mut widths: Vec<usize> = (0..head.len()).map(|at| widest(at).unwrap_or(0)).collect();
    let mut kept: Vec<usize> = (0..head.len()).collect();
    // The table keeps a blank at both sides of each cell; those at the ends of a line are cut.
    let total = |kept: &[usize], widths: &[usize]| {
        kept.iter().map(|at| widths[*at]).sum::<usize>() + (2 * GAP) * kept.len().saturating_sub(1)
    };
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
    for row in rows {
        let cells = kept.iter().filter_map(|at| Some((row.get(*at)?, widths[*at])));
        *row = cells.map(|(cell, width)| shortened(cell, width)).collect();
    }
    *numbers = kept
        .iter()
        .map(|at| numbers.get(*at).copied().unwrap_or(false))
        .collect();
}

fn shortened(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn addresses_and_states_stay_whole_and_what_matters_least_goes_first() {
        let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
        let fitted = |width| {
            let mut rows = [
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
            fit(&mut rows, &mut numbers, width);
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
        let mut rows = [
            row(["service", "active", "cause"]),
            row(["web", "1234567", "status 503 from everywhere"]),
        ];
        fit(&mut rows, &mut vec![false, true, false], width);
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
}
