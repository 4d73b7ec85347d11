//! `lbctl explain`

use std::io::Write;

use super::print_json;
use crate::{
    cli::{
        CliError,
        args::ExplainArguments,
        client::{Client, escape},
        render,
    },
    dataplane::explain::{Certainty, Explanation, Verdict},
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
    writeln!(out, "{}\n", render::sentence(&sentence(&explanation)))?;
    const STAGES: &[render::Column<'_>] = &[("stage", false), ("what it finds", false)];
    let stages = explanation.stages.iter();
    let rows = stages.map(|stage| vec![stage.stage.clone(), stage.finding.clone()]);
    write!(out, "{}", render::prose(STAGES, rows))?;
    if explanation.candidates.is_empty() {
        return Ok(());
    }
    const CANDIDATES: &[render::Column<'_>] = &[
        ("candidate", false),
        ("address", false),
        ("weight", true),
        ("slots", true),
        ("flows", true),
    ];
    let rows = explanation.candidates.iter().map(|candidate| {
        vec![
            candidate.backend.clone(),
            candidate.address.to_string(),
            candidate.weight.to_string(),
            candidate.slots.to_string(),
            candidate.flows.to_string(),
        ]
    });
    Ok(write!(out, "\n{}", render::table(CANDIDATES, rows))?)
}

fn sentence(explanation: &Explanation) -> String {
    let service = explanation.service.as_deref().unwrap_or("no service");
    let backend = match (&explanation.backend, explanation.worker) {
        (Some(name), Some(worker)) if !name.is_empty() => format!("{service}/{name} ({worker})"),
        (_, Some(worker)) => format!("{worker} of {service}"),
        (_, None) => format!("any of the candidates of {service}"),
    };
    let when = match explanation.certainty {
        Some(Certainty::IfNext) => ", if no other flow comes first",
        Some(Certainty::Drawn) => ", which is drawn",
        Some(Certainty::Always) | None => "",
    };
    match explanation.verdict {
        Verdict::HasFlow => format!("it has a flow to {backend}"),
        Verdict::WouldBegin => format!("it would begin a flow to {backend}{when}"),
        Verdict::Untracked => format!("it goes to {backend}, without a flow"),
        Verdict::IsReply => format!("it is a worker's answer of {service}"),
        Verdict::Refused => format!(
            "it goes to no backend: {}",
            explanation.outcome.as_deref().unwrap_or("no reason")
        ),
    }
}
