//! `lbctl service`

use std::io::Write;

use crate::{
    api::{BackendStatus, ServiceStatus},
    cli::{
        args::ServiceVerb,
        client::{Client, escape},
        error::CliError,
        output::print_json,
        render,
    },
};

pub(super) async fn run(verb: ServiceVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        ServiceVerb::List => {
            let services: Vec<ServiceStatus> = client.get("/v1/services").await?;
            if json {
                print_json(&services, out)
            } else {
                Ok(write!(out, "{}", render::services(&services))?)
            }
        }
        ServiceVerb::Show { name } => {
            let service: ServiceStatus = client.get(&format!("/v1/services/{}", escape(&name))).await?;
            if json {
                return print_json(&service, out);
            }
            let backends: Vec<BackendStatus> = client.get(&format!("/v1/backends?service={}", escape(&name))).await?;
            Ok(write!(
                out,
                "{}\n{}",
                render::services(&[service]),
                render::backends(&backends)
            )?)
        }
    }
}
