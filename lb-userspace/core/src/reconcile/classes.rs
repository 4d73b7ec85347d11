//! Address classes: what the table of classes must hold, as a pure function of the desired state.

use std::collections::BTreeMap;

use lb_common::{AddressClass, Mode, address_class::place, family::address};

use super::Desired;

/// Words of the table that are not zero, by index.
pub type Classes = BTreeMap<u32, u64>;

/// The table for a desired state. Addresses that collide share a byte, with the bits of both.
pub fn classes(desired: &Desired) -> Classes {
    let mut table = Classes::new();
    for service in &desired.services {
        let ranges = if service.is_ranged() { AddressClass::RANGES } else { 0 };
        add(&mut table, service.at.address, AddressClass::VIRTUAL | ranges);
        if service.mode == Mode::Nat {
            for source in &service.sources {
                add(&mut table, *source, AddressClass::SOURCE);
            }
        }
        if service.mode == Mode::Dnat {
            for backend in &service.backends {
                add(&mut table, backend.address.ip(), AddressClass::WORKER);
            }
        }
    }
    // The packet path must see the packets that these addresses refuse.
    for address in &desired.refusing {
        add(&mut table, *address, AddressClass::VIRTUAL);
    }
    table
}

fn add(table: &mut Classes, address: std::net::IpAddr, bits: u8) {
    let (word, shift) = place_of(address);
    *table.entry(word).or_default() |= u64::from(bits) << shift;
}

/// The class of an address in a table.
#[cfg(test)]
pub(super) fn bits(table: &Classes, address: std::net::IpAddr) -> AddressClass {
    let (word, shift) = place_of(address);
    AddressClass((table.get(&word).copied().unwrap_or(0) >> shift) as u8)
}

/// The position of an address's class: index of the word, and the shift in bits.
pub fn place_of(address: std::net::IpAddr) -> (u32, u32) {
    let words = address::to_words(address);
    place(&words[..if address.is_ipv4() { 1 } else { words.len() }])
}
