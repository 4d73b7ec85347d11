//! From [`raw`] to [`Config`]: each value by itself, then how they fit together.

use toml::Spanned;

use super::{
    Config,
    finding::{Finding, Findings, Problem, Seen},
    node, raw, room, service,
    words::Word,
};

/// Checks a whole file.
pub(super) fn validate(file: &raw::File) -> Result<Config, Vec<Finding>> {
    let mut findings = Findings::default();
    let config = check(file, &mut findings);
    findings.into_result()?;
    // What is missing without a finding would be a fault of this module; a refusal that says little beats a panic.
    config.ok_or_else(|| {
        vec![Finding::new(
            0..0,
            Problem::new("the file is not complete", "all required keys"),
        )]
    })
}

fn check(file: &raw::File, findings: &mut Findings) -> Option<Config> {
    let node = match &file.node {
        Some(raw) => node::check(raw, findings),
        None => {
            let expected = "a table `[node]` with the keys `name` and `interfaces`";
            findings.add(0..0, Problem::new("`[node]` is missing", expected));
            None
        }
    };
    let services = services(&file.service, findings);
    if let (Some(raw), Some(node)) = (&file.node, &node) {
        room::check(&raw.get_ref().capacity, &node.capacity, &services, findings);
    }
    Some(Config {
        node: node?,
        services: services.into_iter().map(|(_, service)| service).collect(),
    })
}

/// The services that are right, each with its place.
fn services(raw: &[Spanned<raw::Service>], findings: &mut Findings) -> Vec<room::Placed> {
    let mut names = Seen::default();
    let mut fronts = Seen::default();
    let mut services = Vec::with_capacity(raw.len());
    for item in raw {
        let Some(service) = service::check(item, findings) else {
            continue;
        };
        let span = |given: Option<&Spanned<String>>| given.map_or_else(|| item.span(), Spanned::span);
        names.is_new(
            findings,
            service.name.clone(),
            span(item.get_ref().name.as_ref()),
            || {
                Problem::new(
                    format!("two services have the name \"{}\"", service.name),
                    "services with different names",
                )
            },
        );
        let front = (service.address, service.port, service.protocol);
        fronts.is_new(findings, front, span(item.get_ref().address.as_ref()), || {
            let front = std::net::SocketAddr::new(service.address, service.port);
            let problem = format!("two services are at {front}, {}", service.protocol.word());
            Problem::new(problem, "services that differ in address, port or protocol")
        });
        services.push((item.span(), service));
    }
    services
}
