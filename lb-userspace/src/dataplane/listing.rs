//! What leads packets to services: one port each in `SERVICES_*`, blocks of ports in `PORT_RANGES_*`.

use std::net::IpAddr;

use lb_common::{Be16, Family, PortRangeKey, ServiceKey, V4, V6, family::address};

use super::{DataplaneError, Tables};
use crate::config;

/// Address, port and protocol of a service; of several ports the first.
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

/// An entry that leads packets to a service. Where a port has both kinds, packets follow that of the single port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listing {
    /// A port.
    Port(VirtualAddress),
    /// The ports that have the leading bits of this one.
    Block {
        /// The first of them.
        first: VirtualAddress,
        /// How many leading bits: 0 to 16.
        bits: u8,
    },
}

impl Listing {
    /// What leads to the service at the ports from that of `at` to `last_port`: for more than one port, as few blocks as
    /// can be.
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

impl Tables {
    /// What leads packets to services, with the indexes of these.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn listings(&self) -> Result<Vec<(Listing, u32)>, DataplaneError> {
        let mut found = Vec::new();
        self.collect_listings::<V4>(&mut found)?;
        self.collect_listings::<V6>(&mut found)?;
        Ok(found)
    }

    fn collect_listings<F: Family>(&self, found: &mut Vec<(Listing, u32)>) -> Result<(), DataplaneError> {
        let at = |words: &F::Address, port: Be16, protocol| VirtualAddress {
            // An entry of this family holds an address of this family.
            address: address::from_words(F::NUMBER, F::widen(words)).unwrap_or(IpAddr::V4(0.into())),
            port: port.host(),
            protocol,
        };
        let by_port = self.services_by_port.of::<F>();
        by_port.for_each(|key: &ServiceKey<F>, index: &u32| {
            found.push((Listing::Port(at(&key.address, key.port, key.protocol)), *index));
        })?;
        let by_block = self.services_by_block.of::<F>();
        by_block.for_each(|key: &PortRangeKey<F>, index: &u32| {
            let first = at(&key.address, key.port, key.protocol);
            let bits = key.prefix.saturating_sub(before_port::<F>()).min(u16::BITS) as u8;
            found.push((Listing::Block { first, bits }, *index));
        })
    }

    /// Lets packets find the service at `index`. An entry that led to another leads to this one at once.
    ///
    /// # Errors
    ///
    /// When the map is full or cannot be written.
    pub fn list(&mut self, listing: Listing, index: u32) -> Result<(), DataplaneError> {
        match listing.first().address {
            IpAddr::V4(_) => self.put_listing::<V4>(listing, index),
            IpAddr::V6(_) => self.put_listing::<V6>(listing, index),
        }
    }

    /// Lets packets find the service no more. It is no error when they did not.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn unlist(&mut self, listing: Listing) -> Result<(), DataplaneError> {
        match listing.first().address {
            IpAddr::V4(_) => self.remove_listing::<V4>(listing),
            IpAddr::V6(_) => self.remove_listing::<V6>(listing),
        }
    }

    fn put_listing<F: Family>(&self, listing: Listing, index: u32) -> Result<(), DataplaneError> {
        match listing {
            Listing::Port(at) => self.services_by_port.of::<F>().put(&port_key::<F>(at), &index),
            Listing::Block { first, bits } => {
                let key = block_key::<F>(first, bits);
                self.services_by_block.of::<F>().put(&key, &index)
            }
        }
    }

    fn remove_listing<F: Family>(&self, listing: Listing) -> Result<(), DataplaneError> {
        match listing {
            Listing::Port(at) => self.services_by_port.of::<F>().remove(&port_key::<F>(at)),
            Listing::Block { first, bits } => self.services_by_block.of::<F>().remove(&block_key::<F>(first, bits)),
        }
    }
}

/// Bits of a block's key that stand before the port: address, protocol, and one byte that is zero.
const fn before_port<F: Family>() -> u32 {
    F::WORDS as u32 * 32 + 16
}

fn port_key<F: Family>(at: VirtualAddress) -> ServiceKey<F> {
    ServiceKey {
        address: F::narrow(&address::to_words(at.address)),
        port: Be16::from_host(at.port),
        protocol: at.protocol,
        reserved: 0,
    }
}

fn block_key<F: Family>(first: VirtualAddress, bits: u8) -> PortRangeKey<F> {
    PortRangeKey {
        prefix: before_port::<F>() + u32::from(bits),
        address: F::narrow(&address::to_words(first.address)),
        protocol: first.protocol,
        reserved: 0,
        port: Be16::from_host(first.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::abi::Abi;

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

    #[test]
    fn the_key_of_a_block_counts_the_bits_from_the_address_on() {
        let key = block_key::<V4>(at(8064), 11);
        assert_eq!(key.prefix, 32 + 8 + 8 + 11);
        assert_eq!(key.as_bytes()[4..], [192, 0, 2, 1, 6, 0, 0x1f, 0x80]);
        let v6 = VirtualAddress {
            address: "2001:db8::1".parse().unwrap(),
            ..at(8064)
        };
        assert_eq!(block_key::<V6>(v6, 11).prefix, 128 + 8 + 8 + 11);
    }
}
