//! `lbctl node`

use std::io::Write;

use crate::{
    api::NodeStatus,
    cli::{args::NodeVerb, client::Client, error::CliError, output::print_json, render},
};

pub(super) async fn run(verb: NodeVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let NodeVerb::Status = verb;
    let status: NodeStatus = client.get("/v1/node").await?;
    if json {
        return print_json(&status, out);
    }
    Ok(write!(out, "{}", render::node(&status))?)
}
