//! `lbctl flow`

use std::io::Write;

use super::print_json;
use crate::{
    admin::model::{FlowCount, FlowPage},
    cli::{
        CliError,
        args::{FlowChoice, FlowVerb},
        client::{Client, escape},
        render,
    },
};

pub(super) async fn run(verb: FlowVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        FlowVerb::List(list) => {
            let limit = list.limit.map(|limit| format!("limit={limit}"));
            let page: FlowPage = client.get(&format!("/v1/flows{}", query(&list.choice, limit))).await?;
            if json {
                return print_json(&page, out);
            }
            Ok(write!(out, "{}", render::flows(&page))?)
        }
        FlowVerb::Count(choice) => {
            let count: FlowCount = client.get(&format!("/v1/flows/count{}", query(&choice, None))).await?;
            if json {
                return print_json(&count, out);
            }
            Ok(write!(out, "{}", render::flow_count(&count))?)
        }
    }
}

fn query(choice: &FlowChoice, more: Option<String>) -> String {
    let parts = [
        choice
            .service
            .as_deref()
            .map(|name| format!("service={}", escape(name))),
        choice
            .backend
            .as_deref()
            .map(|name| format!("backend={}", escape(name))),
        choice
            .client
            .map(|client| format!("client={}", escape(&client.to_string()))),
        more,
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("?{}", parts.join("&"))
    }
}
