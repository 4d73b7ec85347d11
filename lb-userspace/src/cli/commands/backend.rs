//! `lbctl backend`

use std::io::Write;

use crate::{
    api::BackendStatus,
    cli::{
        args::BackendVerb,
        client::{Client, escape},
        error::CliError,
        output::print_json,
        render,
    },
};

pub(super) async fn run(verb: BackendVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let service = match verb {
        BackendVerb::List { service } => service,
        verb => return super::overrides::run(verb, client, json, out).await,
    };
    let query = service
        .map(|name| format!("?service={}", escape(&name)))
        .unwrap_or_default();
    let backends: Vec<BackendStatus> = client.get(&format!("/v1/backends{query}")).await?;
    if json {
        return print_json(&backends, out);
    }
    Ok(write!(out, "{}", render::backends(&backends))?)
}
