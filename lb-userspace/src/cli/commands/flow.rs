//! `lbctl flow`

use std::io::Write;

use hyper::Method;

use super::print_json;
use crate::{
    admin::model::{FLUSH_ALL, FlowCount, FlowPage, Flushed, MAX_FLOW_LIMIT},
    cli::{
        CliError,
        args::{FlowChoice, FlowFlush, FlowVerb},
        client::{Client, escape},
        render,
    },
};

pub(super) async fn run(verb: FlowVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        FlowVerb::List(list) => {
            let page = flows(client, &list.choice, list.limit).await?;
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
        FlowVerb::Flush(FlowFlush { choice, all }) => {
            if choice == FlowChoice::default() && !all {
                return Err(CliError::Usage(
                    "nothing says which flows: expected --service, --backend or --client, or --all".to_owned(),
                ));
            }
            let all = all.then(|| format!("{FLUSH_ALL}=true"));
            let path = format!("/v1/flows{}", query(&choice, all));
            let flushed: Flushed = client.send(Method::DELETE, &path).await?;
            if json {
                return print_json(&flushed, out);
            }
            writeln!(out, "{} ended", render::number(flushed.ended, "flow"))?;
            if flushed.kept > 0 {
                writeln!(
                    out,
                    "{} stayed, because their packets came too fast: try again",
                    flushed.kept
                )?;
            }
            Ok(())
        }
    }
}

/// The flows that were chosen, in as many answers as it takes.
async fn flows(client: &Client, choice: &FlowChoice, limit: usize) -> Result<FlowPage, CliError> {
    let mut all = FlowPage::default();
    loop {
        let next = (limit - all.flows.len()).min(MAX_FLOW_LIMIT);
        let after = all.cursor.map(|cursor| format!("&after={}", escape(&cursor)));
        let more = format!("limit={next}{}", after.unwrap_or_default());
        let page: FlowPage = client.get(&format!("/v1/flows{}", query(choice, Some(more)))).await?;
        all.flows.extend(page.flows);
        all.cursor = page.cursor;
        if all.cursor.is_none() || all.flows.len() >= limit {
            return Ok(all);
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
