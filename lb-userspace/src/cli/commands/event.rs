//! `lbctl event`

use std::{io::Write, time::Duration};

use super::print_json;
use crate::{
    cli::{CliError, args::EventVerb, client::Client, render},
    events::{Event, EventPage},
};

/// For how many seconds one request waits for events.
const WAIT: u64 = 25;
/// How long to wait before a daemon that is not there is asked again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(verb: EventVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        EventVerb::List { limit } => {
            let page: EventPage = client.get(&format!("/v1/events?last={limit}")).await?;
            if json {
                return print_json(&page, out);
            }
            Ok(write!(out, "{}", table(&page.events))?)
        }
        EventVerb::Follow { last } => follow(last, client, json, out).await,
    }
}

/// Ends only when the reader is gone, or the first question is refused.
async fn follow(last: usize, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let mut page: EventPage = client.get(&format!("/v1/events?last={last}")).await?;
    loop {
        if let Some(gap) = &page.gap {
            if json {
                writeln!(out, "{}", serde_json::json!({ "gap": gap }))?;
            } else {
                writeln!(out, "... {gap}")?;
            }
        }
        for event in &page.events {
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
            match client.get(&path).await {
                Ok(page) => break page,
                // It is being restarted, perhaps; the cursor tells what is missing then.
                Err(CliError::Unreachable { .. } | CliError::Garbled { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        };
    }
}

fn line(event: &Event) -> String {
    format!("{}  {:<18} {}  {}", event.at, event.kind, subject(event), event.cause)
}

/// What an event is about.
fn subject(event: &Event) -> String {
    match (&event.service, &event.backend, &event.interface) {
        (Some(service), Some(backend), _) => format!("{service}/{backend}"),
        (Some(one), None, _) | (None, None, Some(one)) => one.clone(),
        _ => "-".to_owned(),
    }
}

fn table(events: &[Event]) -> String {
    const COLUMNS: &[render::Column] = &[
        ("number", true),
        ("at", false),
        ("event", false),
        ("of", false),
        ("cause", false),
    ];
    let rows = events.iter().map(|event| {
        vec![
            event.number.to_string(),
            event.at.clone(),
            event.kind.clone(),
            subject(event),
            event.cause.lines().next().unwrap_or_default().to_owned(),
        ]
    });
    render::table(COLUMNS, rows)
}
