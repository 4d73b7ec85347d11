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
    fs,
    io::{IsTerminal, Write},
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use serde::Serialize;
use tokio::time::timeout;

use super::{
    CliError,
    args::{Arguments, Noun, Place},
    client::Client,
    complete,
};
use crate::{admin::model::NodeStatus, dataplane::Pins};
use lb_core::config::NodeLocation;

/// How long a daemon may take that may be the one that is meant.
const PATIENCE: Duration = Duration::from_secs(2);

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
        Noun::Node(verb) => node::run(verb, &client(&place).await?, json, out).await,
        Noun::Service(verb) => service::run(verb, &client(&place).await?, json, out).await,
        Noun::Backend(verb) => backend::run(verb, &client(&place).await?, json, out).await,
        Noun::Flow(verb) => flow::run(verb, &client(&place).await?, json, out).await,
        Noun::Vrrp(verb) => vrrp::run(verb, &client(&place).await?, json, out).await,
        Noun::Event(verb) => event::run(verb, &client(&place).await?, json, out).await,
        Noun::Explain(packet) => explain::run(packet, &client(&place).await?, json, out).await,
        Noun::Reload(how) => reload::run(how, &client(&place).await?, json, out).await,
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

pub(super) async fn client(place: &Place) -> Result<Client, CliError> {
    match &place.socket {
        Some(socket) => Ok(Client::new(socket)),
        None if place.endpoint.is_some() => Client::remote(place),
        None => match crate::system::config_file::locate(&place.config) {
            Ok(found) => Ok(Client::new(&found.socket)),
            // The daemon is to say itself what it thinks of the file.
            Err(cause) => running_by(&place.config).await.ok_or(CliError::Config { cause }),
        },
    }
}

/// The daemon that was started with this file, among those whose sockets are where they are by default.
async fn running_by(file: &Path) -> Option<Client> {
    let file = std::path::absolute(file).ok()?;
    for entry in fs::read_dir(lb_core::config::SOCKETS).ok()?.flatten() {
        let client = Client::new(&entry.path());
        let asked = timeout(PATIENCE, client.get::<NodeStatus>("/v1/node")).await;
        if asked.is_ok_and(|answer| answer.is_ok_and(|node| node.config_path == file)) {
            return Some(client);
        }
    }
    None
}

fn pins(place: &Place) -> Result<Pins, CliError> {
    if let (Some(bpffs), Some(node)) = (&place.bpffs, &place.node) {
        return Ok(Pins::new(bpffs, node));
    }
    let elsewhere = match place {
        _ if place.is_config_given => None,
        Place { socket: Some(_), .. } => Some("--socket"),
        Place { endpoint: Some(_), .. } => Some("--endpoint"),
        _ => None,
    };
    let found = crate::system::config_file::locate(&place.config);
    let is_it = |found: &NodeLocation| place.socket.as_ref().is_none_or(|socket| *socket == found.socket);
    match (found, elsewhere) {
        (Ok(found), elsewhere) if elsewhere.is_none() || is_it(&found) => Ok(Pins::new(&found.bpffs, &found.name)),
        (Err(cause), None) => Err(CliError::Usage(format!(
            "{cause}\nmaps are found by --config FILE, by default /etc/lbd/lbd.toml, or by --bpffs PATH with --node NAME"
        ))),
        (_, elsewhere) => Err(CliError::Usage(format!(
            "maps are read on this machine, and {} does not tell where they are: expected --bpffs PATH with --node NAME, \
             or --config FILE",
            elsewhere.unwrap_or_default()
        ))),
    }
}

/// That an answer does not have all there is.
const MORE: &str = "there are more; --limit shows them";

/// Says something beside an answer: below it on a terminal, elsewhere on standard error, so that the answer is nothing else.
fn note(sentence: &str, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    if std::io::stdout().is_terminal() && !json {
        writeln!(out, "{sentence}")?;
    } else {
        // Whoever read this may be gone.
        let _ = writeln!(std::io::stderr(), "lbctl: {sentence}");
    }
    Ok(())
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
