//! Carries commands out: one file for each noun.

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

use std::io::Write;

use super::{
    args::{Arguments, Noun},
    complete,
    error::CliError,
    locate::{client, pins},
};

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
        Noun::Completion { shell, fixed } => Ok(out.write_all(&complete::script(shell, fixed)?)?),
        Noun::Map(verb) => map::run(verb, &pins(&place)?, json, out),
    }
}
