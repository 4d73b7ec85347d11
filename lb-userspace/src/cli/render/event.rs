//! `lbctl event`

use std::ops::Range;

use super::table::{Column, is_too_wide, prose, table};
use crate::api::Event;

/// One event on one line, for `lbctl event follow`.
pub(in crate::cli) fn event_line(event: &Event) -> String {
    format!("{}  {:<20} {}  {}", event.at, event.kind, subject(event), event.cause)
}

/// What changed.
fn subject(event: &Event) -> String {
    match (&event.service, &event.backend) {
        (Some(service), Some(backend)) => format!("{service}/{backend}"),
        (one, _) => {
            let one = one.as_ref().or(event.vrrp.as_ref()).or(event.interface.as_ref());
            one.cloned().unwrap_or_else(|| "-".to_owned())
        }
    }
}

/// A table of events, for `lbctl event list`.
pub(in crate::cli) fn events(events: &[Event]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("number", true),
        ("at", false),
        ("event", false),
        ("of", false),
        ("cause", false),
    ];
    let row = |at: String, event: &Event| {
        vec![
            event.number.to_string(),
            at,
            event.kind.clone(),
            subject(event),
            event.cause.lines().next().unwrap_or_default().to_owned(),
        ]
    };
    let rows: Vec<_> = events.iter().map(|event| row(event.at.clone(), event)).collect();
    if !is_too_wide(COLUMNS, &rows) {
        return table(COLUMNS, rows);
    }
    let newest = events.last().map_or("", |event| event.at.as_str());
    prose(COLUMNS, events.iter().map(|event| row(short(&event.at, newest), event)))
}

/// A time without fractions of seconds and year, and without the day if the newest event is of the
/// same day.
fn short(at: &str, newest: &str) -> String {
    const DAY: Range<usize> = 0..10;
    let from = if at.get(DAY) == newest.get(DAY) { 11 } else { 5 };
    at.get(from..19)
        .map_or(at.to_owned(), |short| format!("{}Z", short.replace('T', " ")))
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_short_time_has_the_day_if_the_newest_event_is_of_another() {
        let newest = "2026-11-27T05:12:36.123Z";
        assert_eq!(short(newest, newest), "05:12:36Z");
        assert_eq!(short("2026-11-26T23:59:59.999Z", newest), "11-26 23:59:59Z");
        assert_eq!(short("soon", newest), "soon");
    }
}
