//! Listings: the map entries that lead packets to services. `SERVICES_*` has single ports,
//! `PORT_RANGES_*` has blocks of ports.

use std::net::IpAddr;

use lb_common::{Be16, Family, PortRangeKey, ServiceKey, V4, V6, family::address};

use lb_core::reconcile::{Listing, VirtualAddress};

use super::{DataplaneError, Tables};

impl Tables {
    /// All listings, with the index of their service.
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

    /// Adds a listing for the service at `index`. A listing that leads to another service is
    /// changed in one write.
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

    /// Removes a listing. It is no error if it does not exist.
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

/// Bits of a block's key before the port: address, protocol, and a zero byte.
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
