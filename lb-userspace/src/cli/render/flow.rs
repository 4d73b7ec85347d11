//! `lbctl flow`

use super::table::{Column, table};
use crate::api::{FlowCount, FlowPage, FlowStatus};

/// Number of flows by phase and by service.
pub(in crate::cli) fn flow_count(count: &FlowCount) -> String {
    let service = |name: &String| match name.as_str() {
        "" => "not configured any more".to_owned(),
        name => format!("service {name}"),
    };
    let phases = count.phases.iter().map(|(phase, flows)| (phase.clone(), flows));
    let services = count.services.iter().map(|(name, flows)| (service(name), flows));
    let all = [("all".to_owned(), &count.total)].into_iter();
    let rows = all.chain(phases).chain(services);
    table(
        &[("flows", false), ("number", true)],
        rows.map(|(what, flows)| vec![what, flows.to_string()]),
    )
}

pub(in crate::cli) fn flows(page: &FlowPage) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("protocol", false),
        ("client", false),
        ("virtual address", false),
        ("NAT source", false),
        ("backend", false),
        ("service", false),
        ("phase", false),
        ("idle", true),
    ];
    let rows = page.flows.iter().map(|flow| {
        vec![
            flow.protocol.clone(),
            flow.client.to_string(),
            flow.virtual_address.to_string(),
            flow.source.to_string(),
            backend(flow),
            flow.service.clone(),
            flow.phase.clone(),
            format!("{:.1} s", flow.idle_ms as f64 / 1000.0),
        ]
    });
    table(COLUMNS, rows)
}

/// The name of the backend, or its address if the configuration does not name it any more.
fn backend(flow: &FlowStatus) -> String {
    match flow.backend_name.as_str() {
        "" => flow.backend.to_string(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::flows;
    use crate::api::{FlowPage, samples};

    #[test]
    fn a_flow_shows_the_name_of_its_backend_or_else_the_address() {
        let mut page = FlowPage {
            flows: samples::flows(),
            cursor: None,
        };
        page.flows[1].backend_name.clear();
        let text = flows(&page);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains(" NAT source ") && lines[1].contains(" w1 "), "{text}");
        assert!(lines[2].contains(" 198.51.100.2:8080 "), "{text}");
    }
}
