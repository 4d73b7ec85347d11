//! Checks of `[node.tunnel]` and of what services say of their tunnels.

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

/// Checks `[node.tunnel]`.
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

/// The tunnels of a service: the node's, but for what the service says otherwise.
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

/// Notes a key that is given in a mode that it does not belong to.
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

/// That `key` belongs to other modes.
pub(super) fn not_in(key: &str, modes: &[Mode], mode: Mode) -> Message {
    let words: Vec<_> = modes.iter().map(|mode| format!("\"{}\"", mode.word())).collect();
    Message::new(
        format!("`{key}` has no meaning in the mode \"{}\"", mode.word()),
        format!("no `{key}`, or `mode` = {}", words.join(" or ")),
    )
}

/// Notes backends of a tunnel mode that no source address is there for.
pub(super) fn check_sources(mode: Mode, tunnel: &Tunnel, backends: &[(Span, Backend)], diagnostics: &mut Diagnostics) {
    if !mode.encapsulates() {
        return;
    }
    for (span, backend) in backends {
        let worker = backend.address.ip();
        if tunnel.source(worker).is_none() {
            let key = if worker.is_ipv4() { "source_v4" } else { "source_v6" };
            let problem = format!(
                "no tunnel can begin here: there is no {} source address for it",
                family(worker)
            );
            let expected = format!(
                "`{key}` in `[node.tunnel]`, or an {} `tunnel_source` of the service",
                family(worker)
            );
            diagnostics.add(span.clone(), Message::new(problem, expected));
        }
    }
}

/// The place of a value, or of the table where it is not given.
pub(super) fn place<T>(given: &raw::Given<T>, table: &Span) -> Span {
    given.as_ref().map_or_else(|| table.clone(), Spanned::span)
}
