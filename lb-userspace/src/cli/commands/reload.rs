//! `lbctl reload`

use std::io::Write;

use hyper::Method;
use lb_core::reload::Report;

use crate::cli::{args::ReloadArguments, client::Client, error::CliError, output::print_json, render};

pub(super) async fn run(
    how: ReloadArguments,
    client: &Client,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let path = format!("/v1/reload?dry_run={}", how.dry_run);
    let report: Report = client.send(Method::POST, &path).await?;
    if json {
        return print_json(&report, out);
    }
    Ok(write!(out, "{}", render::report(&report))?)
}
