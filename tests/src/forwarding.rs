//! Forwarding modes: labs whose workers are set up for one mode, as docs/operations.md describes.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::{
    config::Service,
    decap::{Decapsulator, Tunnel},
    lab::{Lab, Plan, virtual_addresses},
    topology::Host,
};

/// Outer source addresses of tunnels, of each family. Nobody has a route to them, for nobody
/// answers them.
const TUNNEL_SOURCES: [&str; 2] = ["198.18.0.0/24", "2001:db8:ffff::/112"];

/// A forwarding mode, and the path to its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Addresses and ports of both sides are translated.
    Nat,
    /// The destination is translated; the workers' default route is the balancer.
    Dnat,
    /// Only the frame changes; workers hold the virtual address.
    Dsr,
    /// A tunnel to workers, which hold the virtual address.
    Tunnel {
        /// Of which kind.
        tunnel: Tunnel,
        /// Whether the workers are addressed by the family that the virtual address is not of.
        crossed: bool,
    },
}

impl Forwarding {
    /// A lab whose workers are ready for it. What unpacks tunnels there is to be held as long as
    /// traffic flows.
    ///
    /// # Errors
    ///
    /// When the machine lacks a tool, a right, or a kernel feature.
    pub fn lab(self) -> Result<(Lab, Vec<Decapsulator>)> {
        let lab = Lab::build(Plan {
            // Workers that have the client on their link would answer it past the balancer.
            routed: self == Self::Dnat,
            ..Plan::default()
        })?;
        let mut decapsulators = Vec::new();
        for worker in &lab.workers {
            match self {
                Self::Nat => {}
                Self::Dnat => answer_through(worker, &lab.balancers[0])?,
                Self::Dsr => hold_virtual_addresses(worker)?,
                Self::Tunnel { tunnel, .. } => {
                    hold_virtual_addresses(worker)?;
                    // "Clients are not routed by the tunnel; the stricter of the two counts."
                    worker.namespace.sysctl("ipv4/conf/all/rp_filter", "0")?;
                    worker.namespace.sysctl("ipv4/conf/default/rp_filter", "0")?;
                    worker.namespace.sysctl("ipv4/conf/eth0/rp_filter", "0")?;
                    decapsulators.push(Decapsulator::start(worker, tunnel)?);
                }
            }
        }
        Ok((lab, decapsulators))
    }

    /// A service of this mode whose backends are all workers of the lab, at the service's own port.
    pub fn service(self, lab: &Lab, name: &str, protocol: &'static str, address: SocketAddr) -> Service {
        let port = address.port();
        let service = Service::http(lab, name, address.ip())
            .ports(port, port)
            .protocol(protocol)
            .mode(self.word());
        let Self::Tunnel { crossed, .. } = self else {
            return service;
        };
        let outer_v6 = address.is_ipv6() != crossed;
        let like = if outer_v6 { lab.client.v6() } else { lab.client.v4() };
        let source = TUNNEL_SOURCES[usize::from(outer_v6)];
        service
            .workers_like(lab, like)
            .keys(&format!("tunnel_source = \"{source}\"\n"))
    }

    /// The address that a worker's server answers from: its own where the balancer puts the virtual
    /// one back.
    pub fn answering(self, worker: &Host, service: IpAddr) -> IpAddr {
        match self {
            Self::Nat | Self::Dnat => worker.address_like(service),
            Self::Dsr | Self::Tunnel { .. } => service,
        }
    }

    /// By how many bytes packets to a virtual address of this family grow on their path to workers.
    pub fn overhead(self, service: IpAddr) -> usize {
        let Self::Tunnel { tunnel, crossed } = self else {
            return 0;
        };
        let outer = if service.is_ipv6() == crossed { 20 } else { 40 };
        outer + if tunnel == Tunnel::Gue { 8 } else { 0 }
    }

    /// Its word in configurations.
    fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dnat => "dnat",
            Self::Dsr => "dsr",
            Self::Tunnel {
                tunnel: Tunnel::Ipip, ..
            } => "ipip",
            Self::Tunnel {
                tunnel: Tunnel::Gue, ..
            } => "gue",
        }
    }
}

fn answer_through(worker: &Host, balancer: &Host) -> Result<()> {
    worker.namespace.ip(&format!(
        "route replace default via {} dev eth0\nroute replace default via {} dev eth0",
        balancer.v4(),
        balancer.v6()
    ))
}

fn hold_virtual_addresses(worker: &Host) -> Result<()> {
    // Before the address, or the worker may take it over.
    worker.namespace.sysctl("ipv4/conf/all/arp_ignore", "1")?;
    worker.namespace.sysctl("ipv4/conf/all/arp_announce", "2")?;
    let [v4, v6] = virtual_addresses(0);
    worker.namespace.ip(&format!(
        "address add {v4}/32 dev lo\naddress add {v6}/128 dev lo nodad"
    ))
}
