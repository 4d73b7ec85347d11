//! Allow and deny lists of services: the maps `GUARDS_*`.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::{Family, GuardKey, V4, V6, family::address};

use lb_core::reconcile::{GuardVerdict, Guarded};

use super::{DataplaneError, Tables};

/// Bits of a key before the address: the index of the service.
const BEFORE_ADDRESS: u32 = 32;

impl Tables {
    /// All entries of the lists.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn guards(&self) -> Result<Vec<(Guarded, GuardVerdict)>, DataplaneError> {
        let mut found = Vec::new();
        self.collect_guards::<V4>(&mut found)?;
        self.collect_guards::<V6>(&mut found)?;
        Ok(found)
    }

    fn collect_guards<F: Family>(&self, found: &mut Vec<(Guarded, GuardVerdict)>) -> Result<(), DataplaneError> {
        let guards = self.guard_tables.of::<F>();
        guards.for_each(|key: &GuardKey<F>, verdict: &u32| {
            let bits = key.prefix.saturating_sub(BEFORE_ADDRESS) as u8;
            let sources = address::from_words(F::NUMBER, F::widen(&key.address))
                .and_then(|address| IpNet::new(address, bits).ok());
            if let Some(sources) = sources {
                let service = u32::from_be(key.service);
                found.push((Guarded { service, sources }, GuardVerdict::from_number(*verdict)));
            }
        })
    }

    /// Sets what a service does with a source prefix.
    ///
    /// # Errors
    ///
    /// When the map is full or cannot be written.
    pub fn set_guard(&mut self, guarded: Guarded, verdict: GuardVerdict) -> Result<(), DataplaneError> {
        let tables = &self.guard_tables;
        match guarded.sources.addr() {
            IpAddr::V4(_) => tables.of::<V4>().put(&key::<V4>(guarded), &verdict.number()),
            IpAddr::V6(_) => tables.of::<V6>().put(&key::<V6>(guarded), &verdict.number()),
        }
    }

    /// Removes a source prefix from the lists of a service. It is no error if it was not in them.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn remove_guard(&mut self, guarded: Guarded) -> Result<(), DataplaneError> {
        match guarded.sources.addr() {
            IpAddr::V4(_) => self.guard_tables.of::<V4>().remove(&key::<V4>(guarded)),
            IpAddr::V6(_) => self.guard_tables.of::<V6>().remove(&key::<V6>(guarded)),
        }
    }
}

fn key<F: Family>(guarded: Guarded) -> GuardKey<F> {
    GuardKey {
        prefix: BEFORE_ADDRESS + u32::from(guarded.sources.prefix_len()),
        service: guarded.service.to_be(),
        address: F::narrow(&address::to_words(guarded.sources.network())),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::Abi;

    use super::*;

    #[test]
    fn the_key_of_a_guard_counts_the_bits_of_service_and_address() {
        let guarded = Guarded {
            service: 0x0102,
            sources: "10.1.0.0/16".parse().unwrap(),
        };
        let key = key::<V4>(guarded);
        assert_eq!(key.prefix, 48);
        assert_eq!(key.as_bytes()[4..], [0, 0, 1, 2, 10, 1, 0, 0]);
    }
}
