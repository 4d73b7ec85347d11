//! `lbctl flow`

use std::io::Write;

use super::print_json;
use crate::{
    admin::model::FlowPage,
    cli::{
        CliError,
        args::{FlowList, FlowVerb},
        client::{Client, escape},
        render,
    },
};

pub(super) async fn run(verb: FlowVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let FlowVerb::List(list) = verb;
    let page: FlowPage = client.get(&format!("/v1/flows{}", query(&list))).await?;
    if json {
        return print_json(&page, out);
    }
    Ok(write!(out, "{}", render::flows(&page))?)
}

fn query(list: &FlowList) -> String {
    let parts = [
        list.service.as_deref().map(|name| format!("service={}", escape(name))),
        list.backend.as_deref().map(|name| format!("backend={}", escape(name))),
        list.client
            .map(|client| format!("client={}", escape(&client.to_string()))),
        list.limit.map(|limit| format!("limit={limit}")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("?{}", parts.join("&"))
    }
}
