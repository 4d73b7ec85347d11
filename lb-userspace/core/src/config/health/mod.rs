//! Validates `[service.health]`, and the keys that backends have in its place.

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

/// The keys of a service that its health check depends on. `None`: the key is not valid.
#[derive(Clone, Copy)]
pub(super) struct ServiceContext {
    pub(super) address: Option<IpAddr>,
    pub(super) mode: Option<Mode>,
    pub(super) ports: Option<PortRange>,
    pub(super) protocol: Option<Protocol>,
}

/// The health check of a service, and of its backends.
pub(super) struct Checks<'a> {
    given: Option<&'a Spanned<raw::Health>>,
    service: ServiceContext,
    /// The check of backends without keys of their own. The outer `None`: it is not valid. The
    /// inner one: there is no check.
    common: Option<Option<Arc<HealthCheck>>>,
}

impl<'a> Checks<'a> {
    /// Validates `[service.health]`.
    pub(super) fn of_service(
        given: Option<&'a Spanned<raw::Health>>,
        service: ServiceContext,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let common = match given {
            None => Some(None),
            Some(given) => check(given, service, diagnostics).map(|check| Some(Arc::new(check))),
        };
        Self { given, service, common }
    }

    /// Whether the keys of the service are valid.
    pub(super) fn are_valid(&self) -> bool {
        self.common.is_some()
    }

    /// The check of a backend. `own` are the keys that it has in place of those of its service.
    pub(super) fn of_backend(
        &self,
        own: &raw::Given<raw::Health>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Option<Arc<HealthCheck>>> {
        let Some(own) = own else { return self.common.clone() };
        if !is_for_one_backend(own.get_ref(), diagnostics) {
            return None;
        }
        // Errors in the service's keys are already reported there.
        self.common.as_ref()?;
        let merged = Spanned::new(own.span(), merge(own.get_ref(), self.given.map(Spanned::get_ref)));
        check(&merged, self.service, diagnostics).map(|check| Some(Arc::new(check)))
    }
}

/// Refuses keys that apply to all backends of a service. Returns whether none was given.
fn is_for_one_backend(own: &raw::Health, diagnostics: &mut Diagnostics) -> bool {
    let keys = [
        ("panic_threshold", own.panic_threshold.as_ref().map(Spanned::span)),
        ("passive", own.passive.as_ref().map(Spanned::span)),
    ];
    let mut is_valid = true;
    for (key, span) in keys {
        if let Some(span) = span {
            is_valid = false;
            let problem = format!("`{key}` applies to all backends of a service");
            diagnostics.add(span, Message::new(problem, format!("`{key}` in `[service.health]`")));
        }
    }
    is_valid
}

/// The keys of a backend, completed by those of its service. A check of another type takes over
/// only the keys of all types.
fn merge(own: &raw::Health, service: Option<&raw::Health>) -> raw::Health {
    let mut merged = own.clone();
    let Some(service) = service else { return merged };
    let word = |raw: &raw::Health| raw.kind.as_ref().map(|kind| kind.get_ref().clone());
    if own.kind.is_none() || word(own) == word(service) {
        kind::inherit(&mut merged, service);
        // Without verification, `ca_file` is not allowed.
        if own.ca_file.is_none() && own.verify.as_ref().is_some_and(|verify| !verify.get_ref()) {
            merged.ca_file = None;
        }
    }
    let raw::Health { kind, .. } = service;
    merged.kind = merged.kind.or_else(|| kind.clone());
    timing::inherit(&mut merged, service);
    merged
}

/// Validates a whole table of health keys.
fn check(raw: &Spanned<raw::Health>, service: ServiceContext, diagnostics: &mut Diagnostics) -> Option<HealthCheck> {
    diagnostics.table(raw.span(), |diagnostics| keys(raw, service, diagnostics))
}

fn keys(raw: &Spanned<raw::Health>, service: ServiceContext, diagnostics: &mut Diagnostics) -> Option<HealthCheck> {
    let table = raw.span();
    let raw = raw.get_ref();

    let kind = diagnostics.required(&raw.kind, &table, "type", kind::EXPECTED, |word| {
        words::choice::<Kind>(word)
    });
    let probe = match kind {
        Some(kind) => {
            kind::refuse_foreign(raw, kind, diagnostics);
            probe(raw, kind, &table, service, diagnostics)
        }
        None => None,
    };
    let port = diagnostics.optional(&raw.port, None, |port| numbers::port(port).map(Some));
    let target = target::target(raw, service, diagnostics);
    let timing = timing::timing(raw, diagnostics);
    let rules = timing::rules(raw, diagnostics);
    let (probe, port) = (probe?, port?);
    if probe.has_port() && port.is_none() && service.ports.is_some_and(|ports| ports.count() > 1) {
        let expected = "the port to check, because the service has several ports";
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

/// Validates the keys of one type of check.
fn probe(
    raw: &raw::Health,
    kind: Kind,
    table: &super::diagnostics::Span,
    service: ServiceContext,
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
        Kind::Dns => datagram::dns(raw, table, service.protocol, diagnostics).map(Probe::Dns),
        Kind::Icmp => Some(Probe::Icmp),
        Kind::Command => {
            command::command((&raw.argv, &raw.environment, &raw.user), table, diagnostics).map(Probe::Command)
        }
    }
}
