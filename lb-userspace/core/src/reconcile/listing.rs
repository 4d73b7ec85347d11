//! Listings: the map entries that lead packets to a service, for a single port or a block of ports.

use std::net::IpAddr;

use crate::config;

/// Address, port and protocol of a service; for several ports, the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualAddress {
    /// Virtual address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl From<&config::Service> for VirtualAddress {
    fn from(service: &config::Service) -> Self {
        Self {
            address: service.address,
            port: service.ports.low,
            protocol: service.protocol.number(),
        }
    }
}

/// An entry that leads packets to a service. For a port with both kinds, the single port counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listing {
    /// A single port.
    Port(VirtualAddress),
    /// The ports that share the leading bits of `first`.
    Block {
        /// The first port.
        first: VirtualAddress,
        /// Number of leading bits: 0 to 16.
        bits: u8,
    },
}

impl Listing {
    /// The listings for the ports from `at` to `last_port`: a single port, or as few blocks as
    /// possible.
    pub fn of(at: VirtualAddress, last_port: u16) -> Vec<Self> {
        if last_port <= at.port {
            return vec![Self::Port(at)];
        }
        let ports = config::PortRange {
            low: at.port,
            high: last_port,
        };
        let block = |(port, bits)| Self::Block {
            first: VirtualAddress { port, ..at },
            bits,
        };
        ports.blocks().into_iter().map(block).collect()
    }

    /// Address, protocol and first port.
    pub fn first(self) -> VirtualAddress {
        match self {
            Self::Port(at) => at,
            Self::Block { first, .. } => first,
        }
    }

    /// The last port.
    pub fn last_port(self) -> u16 {
        match self {
            Self::Port(at) => at.port,
            Self::Block { first, bits } => first.port | u16::MAX.checked_shr(u32::from(bits)).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> VirtualAddress {
        VirtualAddress {
            address: "192.0.2.1".parse().unwrap(),
            port,
            protocol: 6,
        }
    }

    #[test]
    fn a_single_port_is_listed_by_itself_and_several_by_blocks() {
        assert_eq!(Listing::of(at(80), 80), [Listing::Port(at(80))]);
        let ports: Vec<_> = Listing::of(at(8000), 8099)
            .into_iter()
            .map(|listing| (listing.first().port, listing.last_port()))
            .collect();
        assert_eq!(ports, [(8000, 8063), (8064, 8095), (8096, 8099)]);
    }
}
