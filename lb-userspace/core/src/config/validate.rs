//! Turns [`raw`] values into a [`Config`]: validates each value, then how the values fit together.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{
    Config, Service, Tunnel, api, capacity_check,
    diagnostics::{Diagnostics, Entry, Message, Seen},
    node, raw, service, vrrp,
    words::Word,
};

/// Validates a whole file.
pub(super) fn validate(file: &raw::File) -> Result<Config, Vec<Entry>> {
    let mut diagnostics = Diagnostics::default();
    let config = check(file, &mut diagnostics);
    diagnostics.into_result()?;
    // A missing part without a diagnostic is a bug in this module. A vague error is better than a
    // panic.
    config.ok_or_else(|| {
        vec![Entry::new(
            0..0,
            Message::new("the file is not complete", "all required keys"),
        )]
    })
}

fn check(file: &raw::File, diagnostics: &mut Diagnostics) -> Option<Config> {
    let node = match &file.node {
        Some(raw) => node::check(raw, diagnostics),
        None => {
            let expected = "a table `[node]` with the keys `name` and `interfaces`";
            diagnostics.add(0..0, Message::new("`[node]` is missing", expected));
            None
        }
    };
    let api = api::check(file.api.as_ref(), diagnostics);
    let tunnel = node.as_ref().map(|node| node.tunnel);
    let services = services(&file.service, tunnel.as_ref(), diagnostics);
    let is_complete = services.len() == file.service.len();
    if let (Some(raw), Some(node)) = (&file.node, &node) {
        capacity_check::check(&raw.get_ref().capacity, &node.capacity, &services, diagnostics);
    }
    let names = file
        .service
        .iter()
        .filter_map(|service| service.get_ref().name.as_ref());
    // An invalid service has its own diagnostics: any quorum of its backends is accepted.
    let mut tracked: BTreeMap<_, _> = names.map(|name| (name.get_ref().as_str(), usize::MAX)).collect();
    tracked.extend(services.iter().map(|(_, service)| {
        let ordinary = service.backends.iter().filter(|backend| !backend.fallback);
        (service.name.as_str(), ordinary.count())
    }));
    let vrrp = vrrp::check(&file.vrrp, &tracked, diagnostics);
    Some(Config {
        vrrp: vrrp?,
        node: node?,
        api: api?,
        services: is_complete.then(|| services.into_iter().map(|(_, service)| service).collect())?,
    })
}

/// The valid services, each with its place.
fn services(
    raw: &[Spanned<raw::Service>],
    tunnel: Option<&Tunnel>,
    diagnostics: &mut Diagnostics,
) -> Vec<capacity_check::Placed> {
    let mut names = Seen::default();
    let mut fronts = Seen::default();
    let mut services: Vec<capacity_check::Placed> = Vec::with_capacity(raw.len());
    for item in raw {
        let Some(service) = diagnostics.table(item.span(), |diagnostics| service::check(item, tunnel, diagnostics))
        else {
            continue;
        };
        let span = |given: Option<&Spanned<String>>| given.map_or_else(|| item.span(), Spanned::span);
        names.is_new(
            diagnostics,
            service.name.clone(),
            span(item.get_ref().name.as_ref()),
            || {
                Message::new(
                    format!("two services have the name \"{}\"", service.name),
                    "services with different names",
                )
            },
        );
        let place = span(item.get_ref().address.as_ref());
        if service.ports.count() == 1 {
            let port = service.ports.low;
            fronts.is_new(diagnostics, (service.address, port, service.protocol), place, || {
                let front = std::net::SocketAddr::new(service.address, port);
                let problem = format!("two services have the address {front} ({})", service.protocol.word());
                Message::new(problem, "services that differ in address, port or protocol")
            });
        } else if let Some((other, known)) = services.iter().find(|(_, known)| overlap(known, &service)) {
            let problem = format!(
                "the ports {} overlap the ports {} of the service \"{}\"",
                service.ports, known.ports, known.name
            );
            let expected = "ranges without common ports (a service with one `port` may lie within a range)";
            let ports = item.get_ref().ports.as_ref().map_or(place, Spanned::span);
            diagnostics.add_related(
                ports,
                Message::new(problem, expected),
                other.clone(),
                "the other service",
            );
        }
        services.push((item.span(), service));
    }
    services
}

/// Whether both have several ports, and at least one in common.
fn overlap(a: &Service, b: &Service) -> bool {
    let several = a.ports.count() > 1 && b.ports.count() > 1;
    let together = a.address == b.address && a.protocol == b.protocol;
    several && together && a.ports.overlaps(b.ports)
}
