//! The last events of a daemon, and cursors into their sequence. Pure.

use std::{collections::VecDeque, fmt, str::FromStr, time::SystemTime};

use super::Happening;
use crate::api::{Event, EventPage, timestamp};

/// A place in the sequence of events: after one of them, or before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Start time of the daemon, in milliseconds: the numbers of every daemon begin with 1.
    epoch: u64,
    number: u64,
}

impl Cursor {
    /// Number of the event before this place; 0 before the first.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// The text is no cursor.
#[derive(Debug, thiserror::Error)]
#[error("not a cursor of events; expected the `cursor` of an earlier response, such as 1763918426123-42")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (epoch, number) = text.split_once('-').ok_or(BadCursor)?;
        Ok(Self {
            epoch: epoch.parse().map_err(|_| BadCursor)?,
            number: number.parse().map_err(|_| BadCursor)?,
        })
    }
}

/// Where a page of events starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After a cursor.
    After(Cursor),
    /// At this number of events before the end.
    Last(usize),
    /// At the end: only future events.
    End,
}

/// The last events.
#[derive(Debug)]
pub struct Journal {
    epoch: u64,
    /// Number of the newest event.
    newest: u64,
    kept: VecDeque<Event>,
    capacity: usize,
}

impl Journal {
    /// An empty journal that keeps `capacity` events. `epoch` distinguishes it from journals of
    /// other daemons.
    pub fn new(epoch: u64, capacity: usize) -> Self {
        Self {
            epoch,
            newest: 0,
            kept: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// Adds an event and returns its number. A full journal drops the oldest event.
    pub fn append(&mut self, at: SystemTime, happening: Happening) -> u64 {
        self.newest += 1;
        if self.kept.len() >= self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(Event {
            number: self.newest,
            at: timestamp(at),
            kind: happening.kind.word().to_owned(),
            service: happening.service,
            backend: happening.backend,
            vrrp: happening.vrrp,
            interface: happening.interface,
            cause: happening.cause,
        });
        self.newest
    }

    /// At most `limit` events from `from` on.
    pub fn page(&self, from: Start, limit: usize) -> EventPage {
        let oldest = self.newest - self.kept.len() as u64;
        let (wanted, gap) = match from {
            Start::End => (self.newest, None),
            Start::Last(count) => (self.newest.saturating_sub(count as u64).max(oldest), None),
            Start::After(cursor) if cursor.epoch != self.epoch || cursor.number > self.newest => {
                let sentence = "lbd was restarted since; events before the restart are not known";
                (oldest, Some(sentence.to_owned()))
            }
            Start::After(cursor) if cursor.number < oldest => {
                let missed = oldest - cursor.number;
                let sentence = format!("{missed} events are missing: they are too old and no longer kept");
                (oldest, Some(sentence))
            }
            Start::After(cursor) => (cursor.number, None),
        };
        let skipped = (wanted - oldest) as usize;
        let events: Vec<Event> = self.kept.iter().skip(skipped).take(limit).cloned().collect();
        let number = events.last().map_or(wanted, |event| event.number);
        let cursor = Cursor {
            epoch: self.epoch,
            number,
        };
        EventPage {
            events,
            cursor: cursor.to_string(),
            gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Kind;

    /// A journal that keeps five events, after so many.
    fn journal(events: u64) -> Journal {
        let mut journal = Journal::new(7, 5);
        for number in 1..=events {
            let appended = journal.append(
                SystemTime::UNIX_EPOCH,
                Happening::new(Kind::BackendUp, number.to_string()),
            );
            assert_eq!(appended, number);
        }
        journal
    }

    fn numbers(page: &EventPage) -> Vec<u64> {
        page.events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn a_page_starts_at_its_cursor_and_says_which_events_are_missing() {
        let after = |epoch, number| Start::After(Cursor { epoch, number });
        // Events so far, start, limit; then the numbers, the cursor, and words of the gap.
        type Case = (u64, Start, usize, &'static [u64], &'static str, Option<&'static str>);
        let given_then: &[Case] = &[
            (0, Start::Last(10), 10, &[], "7-0", None),
            (3, Start::Last(10), 10, &[1, 2, 3], "7-3", None),
            (3, Start::Last(2), 10, &[2, 3], "7-3", None),
            (3, Start::End, 10, &[], "7-3", None),
            (3, after(7, 0), 2, &[1, 2], "7-2", None),
            (3, after(7, 2), 2, &[3], "7-3", None),
            (3, after(7, 3), 2, &[], "7-3", None),
            (9, after(7, 4), 10, &[5, 6, 7, 8, 9], "7-9", None),
            (9, after(7, 1), 10, &[5, 6, 7, 8, 9], "7-9", Some("3 events")),
            (9, Start::Last(100), 2, &[5, 6], "7-6", None),
            (3, after(6, 2), 10, &[1, 2, 3], "7-3", Some("restarted")),
            (3, after(7, 4), 10, &[1, 2, 3], "7-3", Some("restarted")),
        ];
        for (events, from, limit, expected, cursor, gap) in given_then {
            let page = journal(*events).page(*from, *limit);
            assert_eq!(numbers(&page), *expected, "{events} {from:?}");
            assert_eq!(page.cursor, *cursor, "{events} {from:?}");
            match (gap, &page.gap) {
                (None, None) => {}
                (Some(words), Some(gap)) if gap.contains(words) => {}
                other => panic!("{events} {from:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor { epoch: 1, number: 2 };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for wrong in ["", "1", "-", "1-", "a-1", "1-2-3"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong:?}");
        }
    }
}
