//! One file for each noun.

mod backend;
mod event;
mod explain;
mod flow;
mod map;
mod node;
mod overrides;
mod reload;
mod service;
mod vrrp;

use std::{
    io::{IsTerminal, Write},
    sync::OnceLock,
};

use serde::Serialize;

use super::{
    CliError,
    args::{Arguments, Noun, Place},
    client::Client,
    complete,
};
use crate::{
    config::{self, Whereabouts},
    dataplane::Pins,
};

static ONE_LINE_EACH: OnceLock<()> = OnceLock::new();

/// Carries a command out.
pub(super) async fn run(arguments: Arguments, out: &mut dyn Write) -> Result<(), CliError> {
    let Arguments {
        place,
        json,
        noun,
        watch: _,
    } = arguments;
    match noun {
        Noun::Node(verb) => node::run(verb, &client(&place)?, json, out).await,
        Noun::Service(verb) => service::run(verb, &client(&place)?, json, out).await,
        Noun::Backend(verb) => backend::run(verb, &client(&place)?, json, out).await,
        Noun::Flow(verb) => flow::run(verb, &client(&place)?, json, out).await,
        Noun::Vrrp(verb) => vrrp::run(verb, &client(&place)?, json, out).await,
        Noun::Event(verb) => event::run(verb, &client(&place)?, json, out).await,
        Noun::Explain(packet) => explain::run(packet, &client(&place)?, json, out).await,
        Noun::Reload(how) => reload::run(how, &client(&place)?, json, out).await,
        Noun::Completion { shell, fixed } => {
            let asking = if fixed { None } else { complete::script(shell) };
            let script = match asking {
                Some(script) => script,
                None => complete::static_script(shell)?,
            };
            Ok(out.write_all(&script)?)
        }
        Noun::Map(verb) => map::run(verb, &pins(&place)?, json, out),
    }
}

pub(super) fn client(place: &Place) -> Result<Client, CliError> {
    match &place.socket {
        Some(socket) => Ok(Client::new(socket)),
        None if place.endpoint.is_some() => Client::remote(place),
        None => Ok(Client::new(&configuration(place)?.socket)),
    }
}

fn pins(place: &Place) -> Result<Pins, CliError> {
    if let (Some(bpffs), Some(node)) = (&place.bpffs, &place.node) {
        return Ok(Pins::new(bpffs, node));
    }
    let config = configuration(place)?;
    Ok(Pins::new(&config.bpffs, &config.name))
}

fn configuration(place: &Place) -> Result<Whereabouts, CliError> {
    config::whereabouts(&place.config).map_err(|cause| CliError::Config { cause })
}

/// From now on, JSON takes one line each, also on a terminal.
pub(super) fn one_line_each() {
    let _ = ONE_LINE_EACH.set(());
}

/// Writes JSON: readable on a terminal that shows it once, compact otherwise.
fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), CliError> {
    let text = if std::io::stdout().is_terminal() && ONE_LINE_EACH.get().is_none() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    writeln!(out, "{}", text.map_err(std::io::Error::from)?)?;
    Ok(())
}
