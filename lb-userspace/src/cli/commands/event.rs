//! `lbctl event`

use std::{io::Write, os::fd::AsFd, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::print_json;
use crate::{
    admin::model::MAX_EVENT_LIMIT,
    cli::{CliError, args::EventVerb, client::Client, render},
    events::{Event, EventPage},
};

/// For how many seconds one request waits for events.
const WAIT: u64 = 25;
/// How long to wait before a daemon that is not there is asked again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(verb: EventVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        EventVerb::List { limit, kind } => {
            // Of those of some kinds there may be few among the last ones.
            let last = if kind.is_empty() { limit } else { MAX_EVENT_LIMIT };
            let mut page: EventPage = client.get(&format!("/v1/events?last={last}")).await?;
            page.events.retain(|event| wanted(event, &kind));
            page.events.drain(..page.events.len().saturating_sub(limit));
            if json {
                return print_json(&page, out);
            }
            Ok(write!(out, "{}", table(&page.events))?)
        }
        EventVerb::Follow { last, kind } => follow(last, &kind, client, json, out).await,
    }
}

/// Ends only when the reader is gone, or the first question is refused.
async fn follow(
    last: usize,
    kinds: &[String],
    client: &Client,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let before = if kinds.is_empty() { last } else { MAX_EVENT_LIMIT };
    let mut page: EventPage = client.get(&format!("/v1/events?last={before}")).await?;
    page.events.retain(|event| wanted(event, kinds));
    page.events.drain(..page.events.len().saturating_sub(last));
    loop {
        if let Some(gap) = &page.gap {
            if json {
                writeln!(out, "{}", serde_json::json!({ "gap": gap }))?;
            } else {
                writeln!(out, "... {gap}")?;
            }
        }
        for event in page.events.iter().filter(|event| wanted(event, kinds)) {
            if json {
                let text = serde_json::to_string(event).map_err(std::io::Error::from)?;
                writeln!(out, "{text}")?;
            } else {
                writeln!(out, "{}", line(event))?;
            }
        }
        out.flush()?;
        let path = format!("/v1/events?after={}&wait={WAIT}", page.cursor);
        page = loop {
            let answer = tokio::select! {
                answer = client.get(&path) => answer,
                () = reader_gone() => return Ok(()),
            };
            match answer {
                Ok(page) => break page,
                // It is being restarted, perhaps; the cursor tells what is missing then.
                Err(CliError::Unreachable { .. } | CliError::Garbled { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        };
    }
}

/// Until nobody reads standard output any more, which a pipe tells without being written to.
async fn reader_gone() {
    loop {
        tokio::time::sleep(PAUSE).await;
        let stdout = std::io::stdout();
        let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let is_told = poll(&mut watched, PollTimeout::ZERO).is_ok_and(|told| told > 0);
        let flags = watched[0].revents().unwrap_or(PollFlags::empty());
        if is_told && flags.contains(PollFlags::POLLERR) {
            return;
        }
    }
}

/// Whether an event is of one of these kinds, or no kind is asked for.
fn wanted(event: &Event, kinds: &[String]) -> bool {
    kinds.is_empty() || kinds.contains(&event.kind)
}

fn line(event: &Event) -> String {
    format!("{}  {:<20} {}  {}", event.at, event.kind, subject(event), event.cause)
}

/// What an event is about.
fn subject(event: &Event) -> String {
    match (&event.service, &event.backend) {
        (Some(service), Some(backend)) => format!("{service}/{backend}"),
        (one, _) => {
            let one = one.as_ref().or(event.vrrp.as_ref()).or(event.interface.as_ref());
            one.cloned().unwrap_or_else(|| "-".to_owned())
        }
    }
}

fn table(events: &[Event]) -> String {
    const COLUMNS: &[render::Column<'_>] = &[
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
    if !render::is_too_wide(COLUMNS, &rows) {
        return render::table(COLUMNS, rows);
    }
    let newest = events.last().map_or("", |event| event.at.as_str());
    render::prose(COLUMNS, events.iter().map(|event| row(short(&event.at, newest), event)))
}

/// A moment without what goes without saying beside the newest one: fractions of seconds, the year, the same day.
fn short(at: &str, newest: &str) -> String {
    const DAY: std::ops::Range<usize> = 0..10;
    let from = if at.get(DAY) == newest.get(DAY) { 11 } else { 5 };
    at.get(from..19)
        .map_or(at.to_owned(), |short| format!("{}Z", short.replace('T', " ")))
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn short_moments_have_the_day_where_it_is_another() {
        let newest = "2026-11-27T05:12:36.123Z";
        assert_eq!(short(newest, newest), "05:12:36Z");
        assert_eq!(short("2026-11-26T23:59:59.999Z", newest), "11-26 23:59:59Z");
        assert_eq!(short("soon", newest), "soon");
    }
}
