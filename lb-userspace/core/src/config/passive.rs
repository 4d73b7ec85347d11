//! Validates `passive` in `[service.health]`.

use lb_common::Mode;

use super::{
    Protocol,
    diagnostics::{Diagnostics, Message},
    raw, tunnel,
};

/// Whether the service has passive checks. They need TCP, and a mode in which replies pass the
/// balancer.
pub(super) fn check(
    raw: &raw::Service,
    mode: Option<Mode>,
    protocol: Option<Protocol>,
    diagnostics: &mut Diagnostics,
) -> Option<bool> {
    let Some(health) = &raw.health else { return Some(false) };
    let Some(given) = &health.get_ref().passive else {
        return Some(mode?.translates() && protocol? == Protocol::Tcp);
    };
    if !*given.get_ref() {
        return Some(false);
    }
    if !mode?.translates() {
        diagnostics.add(given.span(), tunnel::not_in("passive", &[Mode::Nat, Mode::Dnat], mode?));
        return None;
    }
    if protocol? != Protocol::Tcp {
        let problem = "`passive` needs TCP, and the service is UDP";
        let expected = "no `passive`, or `protocol` = \"tcp\"";
        diagnostics.add(given.span(), Message::new(problem, expected));
        return None;
    }
    Some(true)
}
