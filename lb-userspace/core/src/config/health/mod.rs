//! Checks of `[service.health]` and of what backends have in its place.

pub(super) mod command;
mod datagram;
mod http;
mod kind;
pub(super) mod model;
mod target;
#[cfg(test)]
mod tests;
mod timing;
mod tls;

use std::{net::IpAddr, sync::Arc};

use lb_common::Mode;

use toml::Spanned;

use super::{
    HealthCheck, HttpProbe, PortRange, Probe, Protocol,
    diagnostics::{Diagnostics, Message},
    numbers, raw, words,
};
use kind::Kind;

/// What the check of a service or of a backend has to fit to.
#[derive(Clone, Copy)]
pub(super) struct Front {
    pub(super) address: Option<IpAddr>,
    pub(super) mode: Option<Mode>,
    pub(super) ports: Option<PortRange>,
    pub(super) protocol: Option<Protocol>,
}

/// The checks of a service.
pub(super) struct Checks<'a> {
    given: Option<&'a Spanned<raw::Health>>,
    front: Front,
    /// What backends have that say nothing else; `None`: it is wrong.
    common: Option<Option<Arc<HealthCheck>>>,
}

impl<'a> Checks<'a> {
    /// Checks `[service.health]`.
    pub(super) fn of_service(
        given: Option<&'a Spanned<raw::Health>>,
        front: Front,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let common = match given {
            None => Some(None),
            Some(given) => check(given, front, diagnostics).map(|check| Some(Arc::new(check))),
        };
        Self { given, front, common }
    }

    /// Whether nothing is wrong with the keys of the service.
    pub(super) fn are_right(&self) -> bool {
        self.common.is_some()
    }

    /// How a backend is checked; `own` is what it has in place of the keys of its service.
    pub(super) fn of_backend(
        &self,
        own: &raw::Given<raw::Health>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Option<Arc<HealthCheck>>> {
        let Some(own) = own else { return self.common.clone() };
        if !is_of_one_backend(own.get_ref(), diagnostics) {
            return None;
        }
        // What is wrong with the service's keys was told where they are.
        self.common.as_ref()?;
        let merged = Spanned::new(own.span(), merge(own.get_ref(), self.given.map(Spanned::get_ref)));
        check(&merged, self.front, diagnostics).map(|check| Some(Arc::new(check)))
    }
}

/// Refuses keys that are about all backends of a service.
fn is_of_one_backend(own: &raw::Health, diagnostics: &mut Diagnostics) -> bool {
    let keys = [
        ("panic_threshold", own.panic_threshold.as_ref().map(Spanned::span)),
        ("passive", own.passive.as_ref().map(Spanned::span)),
    ];
    let mut is_right = true;
    for (key, span) in keys {
        if let Some(span) = span {
            is_right = false;
            let problem = format!("`{key}` is about all backends of a service");
            diagnostics.add(span, Message::new(problem, format!("`{key}` in `[service.health]`")));
        }
    }
    is_right
}

/// The keys of a backend, and of its service those that it does not have. Another type of check takes over only keys that
/// belong to all types.
fn merge(own: &raw::Health, service: Option<&raw::Health>) -> raw::Health {
    let mut merged = own.clone();
    let Some(service) = service else { return merged };
    let word = |raw: &raw::Health| raw.kind.as_ref().map(|kind| kind.get_ref().clone());
    if own.kind.is_none() || word(own) == word(service) {
        kind::inherit(&mut merged, service);
        // Whoever does not verify needs nobody to trust.
        if own.ca_file.is_none() && own.verify.as_ref().is_some_and(|verify| !verify.get_ref()) {
            merged.ca_file = None;
        }
    }
    let raw::Health { kind, .. } = service;
    merged.kind = merged.kind.or_else(|| kind.clone());
    timing::inherit(&mut merged, service);
    merged
}

fn check(raw: &Spanned<raw::Health>, front: Front, diagnostics: &mut Diagnostics) -> Option<HealthCheck> {
    diagnostics.table(raw.span(), |diagnostics| keys(raw, front, diagnostics))
}

fn keys(raw: &Spanned<raw::Health>, front: Front, diagnostics: &mut Diagnostics) -> Option<HealthCheck> {
    let table = raw.span();
    let raw = raw.get_ref();

    let kind = diagnostics.required(&raw.kind, &table, "type", kind::EXPECTED, |word| {
        words::choice::<Kind>(word)
    });
    let probe = match kind {
        Some(kind) => {
            kind::refuse_foreign(raw, kind, diagnostics);
            probe(raw, kind, &table, front, diagnostics)
        }
        None => None,
    };
    let port = diagnostics.optional(&raw.port, None, |port| numbers::port(port).map(Some));
    let target = target::target(raw, front, diagnostics);
    let timing = timing::timing(raw, diagnostics);
    let rules = timing::rules(raw, diagnostics);
    let (probe, port) = (probe?, port?);
    if probe.has_port() && port.is_none() && front.ports.is_some_and(|ports| ports.count() > 1) {
        let expected = "the port to check, since backends of a service with several ports have none of their own";
        diagnostics.missing(&table, "port", expected);
        return None;
    }
    Some(HealthCheck {
        probe,
        target: target?,
        port,
        timing: timing?,
        rules: rules?,
    })
}

fn probe(
    raw: &raw::Health,
    kind: Kind,
    table: &super::diagnostics::Span,
    front: Front,
    diagnostics: &mut Diagnostics,
) -> Option<Probe> {
    match kind {
        Kind::Tcp => Some(Probe::Tcp),
        Kind::Http => http::http(raw, diagnostics).map(Probe::Http),
        Kind::Https => {
            let tls = tls::client(raw, diagnostics);
            let probe = http::http(raw, diagnostics)?;
            Some(Probe::Http(HttpProbe {
                tls: Some(tls?),
                ..probe
            }))
        }
        Kind::Grpc => http::grpc(raw, diagnostics).map(Probe::Grpc),
        Kind::Udp => datagram::udp(raw, table, diagnostics).map(Probe::Udp),
        Kind::Dns => datagram::dns(raw, table, front.protocol, diagnostics).map(Probe::Dns),
        Kind::Icmp => Some(Probe::Icmp),
        Kind::Command => {
            command::command((&raw.argv, &raw.environment, &raw.user), table, diagnostics).map(Probe::Command)
        }
    }
}
