//! `lbctl node`

use std::io::Write;

use super::print_json;
use crate::{
    admin::model::NodeStatus,
    cli::{CliError, args::NodeVerb, client::Client, render},
};

pub(super) async fn run(verb: NodeVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let NodeVerb::Status = verb;
    let status: NodeStatus = client.get("/v1/node").await?;
    if json {
        return print_json(&status, out);
    }
    Ok(write!(out, "{}", render::node(&status))?)
}
