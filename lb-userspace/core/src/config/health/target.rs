//! Whom a check asks.

use crate::config::{
    address::{family, unicast},
    diagnostics::{Diagnostics, Message},
    raw,
    tunnel::not_in,
    words::{self, Word},
};
use lb_common::Mode;

use super::{Front, model::CheckTarget};

/// The words of `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Backend,
    Virtual,
}

impl Word for Whom {
    const WHAT: &'static str = "target of health checks";
    const WORDS: &'static [(&'static str, Self)] = &[("backend", Self::Backend), ("virtual", Self::Virtual)];
}

/// Whom a check asks.
pub(super) fn target(raw: &raw::Health, front: Front, diagnostics: &mut Diagnostics) -> Option<CheckTarget> {
    let whom = diagnostics.optional(&raw.target, Whom::Backend, |word| words::choice(word));
    let source = diagnostics.optional(&raw.source, None, |text| {
        let source = unicast(text)?;
        match front.address {
            Some(service) if service.is_ipv4() != source.is_ipv4() => Err(Message::new(
                format!(
                    "{source} is {} and the service's address {service} is {}",
                    family(source),
                    family(service)
                ),
                format!("an {} address of this machine", family(service)),
            )),
            _ => Ok(Some(source)),
        }
    });
    let (whom, source) = (whom?, source?);
    match whom {
        Whom::Backend => {
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
        Whom::Virtual => {
            let mode = front.mode?;
            if let (Some(given), true) = (&raw.target, mode.translates()) {
                let problem = not_in("target = \"virtual\"", &[Mode::Dsr, Mode::Ipip, Mode::Gue], mode);
                diagnostics.add(given.span(), problem);
                return None;
            }
            Some(CheckTarget::Virtual { source })
        }
    }
}
