//! `lbctl vrrp`

use std::io::Write;

use hyper::Method;

use crate::{
    api::VrrpStatus,
    cli::{
        args::VrrpVerb,
        client::{Client, escape},
        error::CliError,
        output::print_json,
        render,
    },
};

pub(super) async fn run(verb: VrrpVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let (name, word) = match verb {
        VrrpVerb::Status => {
            let routers: Vec<VrrpStatus> = client.get("/v1/vrrp").await?;
            if json {
                return print_json(&routers, out);
            }
            return Ok(write!(out, "{}", render::vrrp(&routers))?);
        }
        VrrpVerb::Release { name } => (name, "release"),
        VrrpVerb::Take { name } => (name, "take"),
        VrrpVerb::Maintain { name } => (name, "maintain"),
        VrrpVerb::Resume { name } => (name, "resume"),
    };
    let path = format!("/v1/vrrp/{}/{word}", escape(&name));
    let () = client.send(Method::POST, &path).await?;
    if json {
        return print_json(&(), out);
    }
    Ok(())
}
