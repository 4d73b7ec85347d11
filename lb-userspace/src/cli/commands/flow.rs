//! `lbctl flow`

use std::io::Write;

use hyper::Method;

use lb_core::text::number;

use crate::{
    api::{FlowCount, FlowPage, Flushed, limits::MAX_FLOW_LIMIT},
    cli::{
        args::{BackendName, FlowChoice, FlowFlush, FlowList, FlowVerb},
        client::{Client, escape},
        error::CliError,
        output::{MORE, note, print_json},
        render,
    },
};

pub(super) async fn run(verb: FlowVerb, client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        FlowVerb::List(FlowList { choice, limit, cursor }) => {
            let page = flows(client, &choice.split()?, limit, cursor).await?;
            if json {
                return print_json(&page, out);
            }
            write!(out, "{}", render::flows(&page))?;
            if page.cursor.is_some() {
                note(MORE, json, out)
            } else {
                Ok(())
            }
        }
        FlowVerb::Count(choice) => {
            let path = format!("/v1/flows/count{}", query(&choice.split()?, None));
            let count: FlowCount = client.get(&path).await?;
            if json {
                return print_json(&count, out);
            }
            Ok(write!(out, "{}", render::flow_count(&count))?)
        }
        FlowVerb::Flush(FlowFlush { choice, all }) => {
            if choice == FlowChoice::default() && !all {
                return Err(CliError::Usage(
                    "no flows are chosen: use --service, --backend or --client, or --all for all flows".to_owned(),
                ));
            }
            let all = all.then(|| "all=true".to_owned());
            let path = format!("/v1/flows{}", query(&choice.split()?, all));
            let flushed: Flushed = client.send(Method::DELETE, &path).await?;
            if json {
                return print_json(&flushed, out);
            }
            writeln!(out, "{} ended", number(flushed.ended, "flow"))?;
            if flushed.kept > 0 {
                let kept = number(flushed.kept, "flow");
                writeln!(out, "{kept} changed while they were to be ended, and stay: try again")?;
            }
            Ok(())
        }
    }
}

/// The chosen flows. Asks several times where one response cannot have them all.
async fn flows(client: &Client, choice: &FlowChoice, limit: usize, cursor: Option<u64>) -> Result<FlowPage, CliError> {
    let mut all = FlowPage {
        flows: Vec::new(),
        cursor: cursor.map(|cursor| cursor.to_string()),
    };
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

impl FlowChoice {
    /// Splits a backend that is named as SERVICE/BACKEND into service and backend.
    fn split(self) -> Result<Self, CliError> {
        let Some(name) = self.backend.as_deref().filter(|name| name.contains('/')) else {
            return Ok(self);
        };
        let wrong = |expected| CliError::Usage(format!("--backend is \"{name}\"; {expected}"));
        let BackendName { service, backend } = name.parse().map_err(wrong)?;
        if let Some(other) = self.service.filter(|other| *other != service) {
            return Err(wrong(format!("expected a backend of {other}, as --service says")));
        }
        Ok(Self {
            service: Some(service),
            backend: Some(backend),
            ..self
        })
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
