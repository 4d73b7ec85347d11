//! Lookup: is this address one of ours, and is this packet for a service of ours?

use lb_common::{AddressClass, FlowKey, Outcome, Service, ServiceKey, address_class};

use crate::{
    family::Stages,
    maps::{ADDRESS_CLASSES, SERVICES},
};

/// What an address may be.
#[inline(always)]
pub fn class<A: AsRef<[u32]>>(address: &A) -> AddressClass {
    let (word, shift) = address_class::place(address.as_ref());
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let word = ADDRESS_CLASSES
        .get(word)
        .map_or(0, |word| unsafe { core::ptr::read_volatile(word) });
    AddressClass((word >> shift) as u8)
}

/// The service that packets of a 5-tuple are addressed to, and its index; [`Outcome::NotOurs`] where there is none. `class`
/// is that of the destination.
#[inline(always)]
pub fn service<F: Stages>(key: &FlowKey<F>, class: AddressClass) -> Result<(u32, &'static Service), Outcome> {
    let port = key.ports.destination();
    let at = ServiceKey {
        address: key.destination,
        port,
        protocol: key.protocol,
        reserved: 0,
    };
    let index = match F::service(&at) {
        Some(index) => index,
        None if class.has(AddressClass::RANGES) => {
            F::service_of_range(&key.destination, key.protocol, port).ok_or(Outcome::NotOurs)?
        }
        None => return Err(Outcome::NotOurs),
    };
    let service = SERVICES.get(index).ok_or(Outcome::Inconsistent)?;
    Ok((index, service))
}
