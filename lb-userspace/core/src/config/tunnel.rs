//! Validates `[node.tunnel]`, and the tunnel keys of services.

use ipnet::IpNet;
use lb_common::Mode;
use toml::Spanned;

use super::{
    Backend, Tunnel,
    address::family,
    diagnostics::{Diagnostics, Message, Span},
    numbers, prefix, raw,
    words::Word,
};

/// Validates `[node.tunnel]`.
pub(super) fn node(raw: &raw::Tunnel, diagnostics: &mut Diagnostics) -> Option<Tunnel> {
    let default = Tunnel::default();
    let v4 = |prefix| match prefix {
        IpNet::V4(v4) => Some(v4),
        IpNet::V6(_) => None,
    };
    let v6 = |prefix| match prefix {
        IpNet::V6(v6) => Some(v6),
        IpNet::V4(_) => None,
    };
    let source_v4 = diagnostics.optional(&raw.source_v4, default.source_v4, |text| {
        prefix::source_of(text, "IPv4", v4).map(Some)
    });
    let source_v6 = diagnostics.optional(&raw.source_v6, default.source_v6, |text| {
        prefix::source_of(text, "IPv6", v6).map(Some)
    });
    let gue_port = diagnostics.optional(&raw.gue_port, default.gue_port, numbers::port);
    Some(Tunnel {
        source_v4: source_v4?,
        source_v6: source_v6?,
        gue_port: gue_port?,
    })
}

/// The tunnel settings of a service. Keys that it does not set come from `[node.tunnel]`.
pub(super) fn service(
    raw: &raw::Service,
    mode: Option<Mode>,
    node: &Tunnel,
    diagnostics: &mut Diagnostics,
) -> Option<Tunnel> {
    refuse(
        &raw.tunnel_source,
        "tunnel_source",
        &[Mode::Ipip, Mode::Gue],
        mode,
        diagnostics,
    );
    refuse(&raw.gue_port, "gue_port", &[Mode::Gue], mode, diagnostics);
    let source = diagnostics.optional(&raw.tunnel_source, None, |text| prefix::source(text).map(Some));
    let gue_port = diagnostics.optional(&raw.gue_port, node.gue_port, numbers::port);
    let mut tunnel = Tunnel {
        gue_port: gue_port?,
        ..*node
    };
    match source? {
        Some(IpNet::V4(v4)) => tunnel.source_v4 = Some(v4),
        Some(IpNet::V6(v6)) => tunnel.source_v6 = Some(v6),
        None => {}
    }
    Some(tunnel)
}

/// Refuses a key in a mode that does not have it. Returns whether it was refused.
pub(super) fn refuse<T>(
    given: &raw::Given<T>,
    key: &str,
    modes: &[Mode],
    mode: Option<Mode>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let (Some(given), Some(mode)) = (given, mode) else {
        return false;
    };
    if modes.contains(&mode) {
        return false;
    }
    diagnostics.add(given.span(), not_in(key, modes, mode));
    true
}

/// The message for a key in a mode that does not have it. `modes` have it.
pub(super) fn not_in(key: &str, modes: &[Mode], mode: Mode) -> Message {
    let words: Vec<_> = modes.iter().map(|mode| format!("\"{}\"", mode.word())).collect();
    Message::new(
        format!("`{key}` has no meaning in the mode \"{}\"", mode.word()),
        format!("no `{key}`, or `mode` = {}", words.join(" or ")),
    )
}

/// Refuses backends of a tunnel mode for whose family no source address is configured.
pub(super) fn check_sources(mode: Mode, tunnel: &Tunnel, backends: &[(Span, Backend)], diagnostics: &mut Diagnostics) {
    if !mode.encapsulates() {
        return;
    }
    for (span, backend) in backends {
        let worker = backend.address.ip();
        if tunnel.source(worker).is_none() {
            let key = if worker.is_ipv4() { "source_v4" } else { "source_v6" };
            let problem = format!("no {} source address for the tunnel to this backend", family(worker));
            let expected = format!(
                "`{key}` in `[node.tunnel]`, or an {} `tunnel_source` of the service",
                family(worker)
            );
            diagnostics.add(span.clone(), Message::new(problem, expected));
        }
    }
}

/// The place of a value, or of its table if it is not given.
pub(super) fn place<T>(given: &raw::Given<T>, table: &Span) -> Span {
    given.as_ref().map_or_else(|| table.clone(), Spanned::span)
}
