//! `lbctl event`

use std::{
    io::{self, Write},
    os::fd::AsFd,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    api::{Event, EventPage, limits::MAX_EVENT_LIMIT},
    cli::{args::EventVerb, client::Client, error::CliError, output::print_json, render},
};

/// How long one request waits for events, in seconds.
const WAIT: u64 = 25;
/// Pause before a daemon that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(verb: EventVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        EventVerb::List { limit, kind } => {
            let page = newest(limit, &kind, client).await?;
            if json {
                return print_json(&page, out);
            }
            Ok(write!(out, "{}", render::events(&page.events))?)
        }
        EventVerb::Follow { last, kind } => follow(last, &kind, client, json, out).await,
    }
}

/// The newest events of these kinds, at most `limit`.
async fn newest(limit: usize, kinds: &[String], client: &Client) -> Result<EventPage, CliError> {
    // The daemon knows no filter by kind: ask for all events when some kinds are wanted.
    let last = if kinds.is_empty() { limit } else { MAX_EVENT_LIMIT };
    let mut page: EventPage = client.get(&format!("/v1/events?last={last}")).await?;
    page.events.retain(|event| is_wanted(event, kinds));
    page.events.drain(..page.events.len().saturating_sub(limit));
    Ok(page)
}

/// Shows events as they happen. Ends when the reader closes standard output, or when the daemon
/// refuses a request.
async fn follow(
    last: usize,
    kinds: &[String],
    client: &Client,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut page = newest(last, kinds, client).await?;
    loop {
        show(&page, kinds, json, out)?;
        let path = format!("/v1/events?after={}&wait={WAIT}", page.cursor);
        page = tokio::select! {
            next = next_page(client, &path) => next?,
            () = reader_gone() => return Ok(()),
        };
    }
}

fn show(page: &EventPage, kinds: &[String], json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    if let Some(gap) = &page.gap {
        if json {
            writeln!(out, "{}", json!({ "gap": gap }))?;
        } else {
            writeln!(out, "... {gap}")?;
        }
    }
    for event in page.events.iter().filter(|event| is_wanted(event, kinds)) {
        if json {
            writeln!(out, "{}", json!(event))?;
        } else {
            writeln!(out, "{}", render::event_line(event))?;
        }
    }
    Ok(out.flush()?)
}

/// Asks until the daemon answers: it may be restarting, and the cursor then shows which events are
/// missing.
async fn next_page(client: &Client, path: &str) -> Result<EventPage, CliError> {
    loop {
        match client.get(path).await {
            Err(CliError::Unreachable { .. } | CliError::Garbled { .. }) => sleep(PAUSE).await,
            answered => return answered,
        }
    }
}

/// Waits until standard output is a pipe that nobody reads. Polling finds out without writing to
/// it.
async fn reader_gone() {
    loop {
        sleep(PAUSE).await;
        let stdout = io::stdout();
        let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let has_result = poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        let flags = watched[0].revents().unwrap_or(PollFlags::empty());
        if has_result && flags.contains(PollFlags::POLLERR) {
            return;
        }
    }
}

/// Whether an event has one of these kinds; no kinds mean all.
fn is_wanted(event: &Event, kinds: &[String]) -> bool {
    kinds.is_empty() || kinds.contains(&event.kind)
}
