//! `lbctl explain`

use super::table::{Column, prose, sentence, table};
use crate::dataplane::explain::{Candidate, Certainty, Explanation, Stage, Verdict};

pub(in crate::cli) fn explanation(explanation: &Explanation) -> String {
    let mut text = format!("{}\n\n{}", sentence(&summary(explanation)), stages(&explanation.stages));
    if !explanation.candidates.is_empty() {
        text += &format!("\n{}", candidates(&explanation.candidates));
    }
    text
}

fn stages(stages: &[Stage]) -> String {
    const COLUMNS: &[Column<'_>] = &[("stage", false), ("finding", false)];
    let row = |stage: &Stage| vec![stage.stage.clone(), stage.finding.clone()];
    prose(COLUMNS, stages.iter().map(row))
}

fn candidates(candidates: &[Candidate]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("candidate", false),
        ("address", false),
        ("weight", true),
        ("slots", true),
        ("flows", true),
    ];
    let row = |candidate: &Candidate| {
        vec![
            candidate.backend.clone(),
            candidate.address.to_string(),
            candidate.weight.to_string(),
            candidate.slots.to_string(),
            candidate.flows.to_string(),
        ]
    };
    table(COLUMNS, candidates.iter().map(row))
}

/// The answer in one sentence.
fn summary(explanation: &Explanation) -> String {
    let service = explanation.service.as_deref().unwrap_or("no service");
    let backend = match (&explanation.backend, explanation.worker) {
        (Some(name), Some(worker)) if !name.is_empty() => format!("{service}/{name} ({worker})"),
        (_, Some(worker)) => format!("{worker} of {service}"),
        (_, None) => format!("one of the candidates of {service}"),
    };
    let when = match explanation.certainty {
        Some(Certainty::IfNext) => ", if no other flow comes first",
        Some(Certainty::Drawn) => ", chosen at random",
        Some(Certainty::Always) | None => "",
    };
    match explanation.verdict {
        Verdict::HasFlow => format!("the packet belongs to a flow to {backend}"),
        Verdict::WouldBegin => format!("the packet would begin a flow to {backend}{when}"),
        Verdict::Untracked => format!("the packet goes to {backend}, without a flow"),
        Verdict::IsReply => format!("the packet is a reply of a worker of {service}"),
        Verdict::Refused => format!(
            "the packet goes to no backend: {}",
            explanation.outcome.as_deref().unwrap_or("no reason")
        ),
    }
}
