//! `lbctl explain`

use std::io::Write;

use crate::{
    cli::{
        args::ExplainArguments,
        client::{Client, escape},
        error::CliError,
        output::print_json,
        render,
    },
    dataplane::explain::Explanation,
};

pub(super) async fn run(
    packet: ExplainArguments,
    client: &Client,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    if packet.client.is_ipv4() != packet.virtual_address.is_ipv4() {
        return Err(CliError::Usage(format!(
            "{} and {} are of different families; expected both IPv4 or both IPv6",
            packet.client, packet.virtual_address
        )));
    }
    let path = format!(
        "/v1/explain?protocol={}&client={}&address={}",
        escape(&packet.protocol),
        escape(&packet.client.to_string()),
        escape(&packet.virtual_address.to_string())
    );
    let explanation: Explanation = client.get(&path).await?;
    if json {
        return print_json(&explanation, out);
    }
    Ok(write!(out, "{}", render::explanation(&explanation))?)
}
