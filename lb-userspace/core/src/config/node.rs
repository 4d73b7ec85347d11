//! Validates `[node]`.

use std::path::PathBuf;

use toml::Spanned;

use super::{
    Capacity, Node, PacketLog, PortRange, XdpMode, defaults,
    diagnostics::Diagnostics,
    names,
    numbers::{self, number},
    raw, tunnel, words,
};

const MOST_INTERFACES: usize = 16;
const LEAST_CAPACITY: u32 = 16;
const MOST_CAPACITY: u32 = 1 << 26;

/// Validates `[node]`.
pub(super) fn check(raw: &Spanned<raw::Node>, diagnostics: &mut Diagnostics) -> Option<Node> {
    let table = raw.span();
    let raw = raw.get_ref();

    let name = diagnostics.required(&raw.name, &table, "name", "a name for this balancer", |name| {
        names::NODE.check(name)
    });
    let interfaces = match &raw.interfaces {
        Some(given) => diagnostics.list(given, MOST_INTERFACES, "interfaces", |name| names::interface(name)),
        None => {
            diagnostics.missing(&table, "interfaces", "the interfaces to attach to, such as [\"eth0\"]");
            None
        }
    };
    // Only used for defaults. Without a name there is already an error.
    let known = name.as_deref().unwrap_or_default();
    let xdp_mode = diagnostics.optional(&raw.xdp_mode, XdpMode::default(), |word| words::choice(word));
    let state_dir = diagnostics.optional(&raw.state_dir, defaults::state_dir(known), |path| names::absolute(path));
    let bpffs = diagnostics.optional(&raw.bpffs, PathBuf::from(defaults::BPFFS), |path| names::absolute(path));
    let socket = diagnostics.optional(&raw.socket, defaults::socket(known), |path| names::socket(path));
    let packet_log = diagnostics.optional(&raw.packet_log, PacketLog::default(), |word| words::choice(word));
    let nat_ports = diagnostics.optional(&raw.nat_ports, PortRange::default(), |text| numbers::nat_ports(text));
    let tunnel = tunnel::node(&raw.tunnel, diagnostics);
    let capacity = capacity(&raw.capacity, diagnostics);

    Some(Node {
        name: name?,
        interfaces: interfaces?,
        xdp_mode: xdp_mode?,
        state_dir: state_dir?,
        bpffs: bpffs?,
        socket: socket?,
        packet_log: packet_log?,
        nat_ports: nat_ports?,
        tunnel: tunnel?,
        capacity: capacity?,
    })
}

fn capacity(raw: &raw::Capacity, diagnostics: &mut Diagnostics) -> Option<Capacity> {
    let default = Capacity::default();
    let mut entries = |given: &_, default| {
        diagnostics.optional(given, default, number("a capacity of", LEAST_CAPACITY, MOST_CAPACITY))
    };
    let flows_v4 = entries(&raw.flows_v4, default.flows_v4);
    let flows_v6 = entries(&raw.flows_v6, default.flows_v6);
    let services = entries(&raw.services, default.services);
    let backends = entries(&raw.backends, default.backends);
    let ring_slots = entries(&raw.ring_slots, default.ring_slots);
    Some(Capacity {
        flows_v4: flows_v4?,
        flows_v6: flows_v6?,
        services: services?,
        backends: backends?,
        ring_slots: ring_slots?,
    })
}
