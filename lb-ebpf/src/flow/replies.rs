//! The replies of a flow: addresses and ports of its worker's packets.

use lb_common::{
    Backend, Be16, Family, FlowKey, Mode, Ports,
    flow_table::{Binding, Hit, Layout},
    service::MAX_SOURCES,
    wire::{tcp, udp},
};

use super::backend::mode;
use crate::bpf::maps::SERVICES;

/// The port on which a worker takes packets of a flow.
#[inline(always)]
pub fn worker_port(backend: &Backend, ports: Ports) -> Be16 {
    let port = backend.status.port();
    // A service with a port range keeps the packet's port.
    if port.memory() == 0 { ports.destination() } else { port }
}

/// The destination of a worker's replies: a NAT source of the service, or in `dnat` the client.
#[inline(always)]
pub fn destination<'a, F: Family>(backend: &Backend, binding: Binding, client: &'a F::Address) -> &'a F::Address {
    if !matches!(mode(backend), Mode::Dnat)
        && let Some(service) = SERVICES.get(backend.service)
    {
        return F::view(&service.sources[binding.source() as usize & (MAX_SOURCES - 1)]);
    }
    client
}

/// Whether a worker's packet is a reply of the flow of this entry. The destination port is compared
/// already.
#[inline(always)]
pub fn is_reply<F: Layout>(key: &FlowKey<F>, hit: &Hit<F>, backend: &Backend) -> bool {
    *F::view(&backend.address) == key.source
        && worker_port(backend, hit.ports) == key.ports.source()
        && *destination::<F>(backend, hit.binding, &hit.address) == key.destination
}

/// Writes the 5-tuple of a worker's replies.
#[inline(always)]
pub fn put_key<F: Family>(
    key: &mut FlowKey<F>,
    backend: &Backend,
    binding: Binding,
    client: &F::Address,
    ports: Ports,
    is_udp: bool,
) {
    key.source = *F::view(&backend.address);
    key.destination = *destination::<F>(backend, binding, client);
    key.ports = Ports::new(worker_port(backend, ports), binding.port());
    key.protocol = if is_udp { udp::PROTOCOL } else { tcp::PROTOCOL };
    key.reserved = [0; 3];
}
