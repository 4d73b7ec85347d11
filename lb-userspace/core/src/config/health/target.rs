//! The keys `target` and `source`: the address that a check asks, and the one that it comes from.

use crate::config::{
    address::{family, unicast},
    diagnostics::{Diagnostics, Message},
    raw,
    tunnel::not_in,
    words::{self, Word},
};
use lb_common::Mode;

use super::{ServiceContext, model::CheckTarget};

/// The values of `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetKind {
    Backend,
    Virtual,
}

impl Word for TargetKind {
    const WHAT: &'static str = "target of health checks";
    const WORDS: &'static [(&'static str, Self)] = &[("backend", Self::Backend), ("virtual", Self::Virtual)];
}

/// Validates `target` and `source`.
pub(super) fn target(raw: &raw::Health, service: ServiceContext, diagnostics: &mut Diagnostics) -> Option<CheckTarget> {
    let kind = diagnostics.optional(&raw.target, TargetKind::Backend, |word| words::choice(word));
    let source = diagnostics.optional(&raw.source, None, |text| {
        let source = unicast(text)?;
        match service.address {
            Some(address) if address.is_ipv4() != source.is_ipv4() => Err(Message::new(
                format!(
                    "{source} is {} and the service's address {address} is {}",
                    family(source),
                    family(address)
                ),
                format!("an {} address of this machine", family(address)),
            )),
            _ => Ok(Some(source)),
        }
    });
    let (kind, source) = (kind?, source?);
    match kind {
        TargetKind::Backend => {
            if let Some(given) = &raw.source {
                let problem = "`source` has no meaning without `target` = \"virtual\"";
                diagnostics.add(
                    given.span(),
                    Message::new(problem, "no `source`, or `target` = \"virtual\""),
                );
                return None;
            }
            Some(CheckTarget::Backend)
        }
        TargetKind::Virtual => {
            let mode = service.mode?;
            if let (Some(given), true) = (&raw.target, mode.translates()) {
                let problem = not_in("target = \"virtual\"", &[Mode::Dsr, Mode::Ipip, Mode::Gue], mode);
                diagnostics.add(given.span(), problem);
                return None;
            }
            Some(CheckTarget::Virtual { source })
        }
    }
}
