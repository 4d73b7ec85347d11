//! Validates `[[service.backend]]` and `[[service.fallback]]`.

use std::net::{IpAddr, SocketAddr};

use lb_common::Mode;
use toml::Spanned;

use super::{
    Backend, CheckTarget, MOST_WEIGHT, PortRange,
    address::{self, family, unicast},
    defaults,
    diagnostics::{Diagnostics, Message, Seen, Span},
    health::Checks,
    names,
    numbers::{self, number},
    raw,
    tunnel::place,
    words::Word,
};

/// The keys of the service that its backends depend on. `None`: the key is invalid.
pub(super) struct Front {
    pub(super) address: Option<IpAddr>,
    pub(super) ports: Option<PortRange>,
    pub(super) mode: Option<Mode>,
}

/// The keys of a backend or a fallback backend.
struct Given<'a> {
    table: Span,
    name: &'a raw::Given<String>,
    address: &'a raw::Given<String>,
    port: &'a raw::Given<raw::Number>,
    /// `None`: a fallback backend.
    weight: Option<&'a raw::Given<raw::Number>>,
    health: &'a raw::Given<raw::Health>,
}

/// Validates all backends of a service. Returns each with the place of its address.
pub(super) fn check(
    backends: &[Spanned<raw::Backend>],
    fallback: &[Spanned<raw::Fallback>],
    front: &Front,
    checks: &Checks<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(Span, Backend)>> {
    let ordinary = backends.iter().map(|item| Given {
        table: item.span(),
        name: &item.get_ref().name,
        address: &item.get_ref().address,
        port: &item.get_ref().port,
        weight: Some(&item.get_ref().weight),
        health: &item.get_ref().health,
    });
    let fallbacks = fallback.iter().map(|item| Given {
        table: item.span(),
        name: &item.get_ref().name,
        address: &item.get_ref().address,
        port: &item.get_ref().port,
        weight: None,
        health: &item.get_ref().health,
    });
    let mut names = Seen::default();
    let mut addresses = Seen::default();
    let mut found = Vec::with_capacity(backends.len() + fallback.len());
    for given in ordinary.chain(fallbacks) {
        let table = given.table.clone();
        let Some(backend) = diagnostics.table(table, |diagnostics| one(&given, front, checks, diagnostics)) else {
            continue;
        };
        let address_span = place(given.address, &given.table);
        let name_span = given.name.as_ref().map_or(address_span.clone(), Spanned::span);
        let is_new = addresses.is_new(diagnostics, backend.address, address_span.clone(), || {
            let problem = format!("two backends have the address {}", shown(backend.address));
            Message::new(problem, "backends that differ in address or port")
        });
        // Without `name`, two backends at one address also share the default name: one diagnostic
        // is enough.
        let is_named = is_new
            && names.is_new(diagnostics, backend.name.clone(), name_span, || {
                let problem = format!("two backends have the name \"{}\"", backend.name);
                Message::new(problem, "backends with different names")
            });
        if is_named {
            found.push((address_span, backend));
        }
    }
    (found.len() == backends.len() + fallback.len()).then_some(found)
}

fn one(given: &Given<'_>, front: &Front, checks: &Checks<'_>, diagnostics: &mut Diagnostics) -> Option<Backend> {
    let name = diagnostics.optional(given.name, None, |name| names::BACKEND.check(name).map(Some));
    let address = diagnostics.required(given.address, &given.table, "address", address::EXPECTED, |text| {
        let address = unicast(text)?;
        has_family_of_service(address, front)?;
        Ok(address)
    });
    let port = port(given.port, front, diagnostics);
    let weight = match given.weight {
        Some(weight) => diagnostics.optional(weight, defaults::WEIGHT, number("weight", 0, MOST_WEIGHT)),
        None => Some(defaults::WEIGHT),
    };
    let health = checks.of_backend(given.health, diagnostics);

    let address = SocketAddr::new(address?, port?);
    if Some(address.ip()) == front.address {
        let problem = format!("the backend {} has the address of the service", shown(address));
        diagnostics.add(
            place(given.address, &given.table),
            Message::new(problem, "the address of a worker"),
        );
        return None;
    }
    let health = if checks.are_valid() { health? } else { None };
    if let (Some(front), Some(check)) = (front.address, &health)
        && check.target == (CheckTarget::Virtual { source: None })
        && front.is_ipv4() != address.is_ipv4()
    {
        let problem = format!(
            "checks of {front} through {} need an {} source address",
            shown(address),
            family(front)
        );
        let expected = format!(
            "`source` = an {} address of this machine in the health check",
            family(front)
        );
        diagnostics.add(place(given.address, &given.table), Message::new(problem, expected));
        return None;
    }
    Some(Backend {
        name: name?.unwrap_or_else(|| shown(address)),
        address,
        fallback: given.weight.is_none(),
        weight: weight?,
        health,
    })
}

/// The port of a backend. 0: packets keep the destination port, because the service has several.
fn port(given: &raw::Given<raw::Number>, front: &Front, diagnostics: &mut Diagnostics) -> Option<u16> {
    let several = front.ports.is_some_and(|ports| ports.count() > 1);
    let Some(given) = given else {
        return front.ports.map(|ports| if several { 0 } else { ports.low });
    };
    diagnostics.value(given, |number| {
        let port = numbers::port(number)?;
        if several {
            let problem = "`port` is not allowed, because the service has several ports";
            return Err(Message::new(problem, "no `port`: packets keep the destination port"));
        }
        match (front.mode, front.ports) {
            (Some(mode), Some(ports)) if !mode.translates() && port != ports.low => Err(Message::new(
                format!("port {port} differs from the service's port {}", ports.low),
                format!(
                    "{0} or no `port`: the mode \"{1}\" does not change the port",
                    ports.low,
                    mode.word()
                ),
            )),
            _ => Ok(port),
        }
    })
}

fn has_family_of_service(backend: IpAddr, front: &Front) -> Result<(), Message> {
    let (Some(service), Some(mode)) = (front.address, front.mode) else {
        return Ok(());
    };
    if mode.encapsulates() || service.is_ipv4() == backend.is_ipv4() {
        return Ok(());
    }
    Err(Message::new(
        format!(
            "{backend} is {} and the service's address {service} is {}",
            family(backend),
            family(service)
        ),
        format!(
            "an {} address: the mode \"{}\" does not change the family",
            family(service),
            mode.word()
        ),
    ))
}

/// Address and port, or only the address if packets keep the destination port.
fn shown(address: SocketAddr) -> String {
    match address.port() {
        0 => address.ip().to_string(),
        _ => address.to_string(),
    }
}
