//! Lookup: what the addresses of a packet can be, and which service it is for.

use lb_common::{AddressClass, FlowKey, Outcome, Service, ServiceKey, address_class};

use crate::{
    bpf::maps::{ADDRESS_CLASSES, SERVICES, settings},
    family::{Headers, Tables},
    packet::{Packet, frame::Link, parsed::Parsed},
};

/// Reads the IP header. Most packets that are not for this balancer get [`Outcome::NotOurs`] here.
///
/// An ICMP packet can be an error that a router sends to a client of `dnat`. It passes without a
/// class.
#[inline(always)]
pub fn read<F: Headers>(packet: &Packet, link: &Link, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    F::parse_ip(packet, link.l3, parsed)?;
    parsed.tags = link.tags;
    parsed.class = class(&parsed.key.destination);
    if !parsed.class.has(AddressClass::VIRTUAL | AddressClass::SOURCE) {
        parsed.class = AddressClass(class(&parsed.key.source).0 & AddressClass::WORKER);
        let may_be_error = parsed.key.protocol == F::ICMP && parsed.transport.fragment == 0;
        if !parsed.class.has(AddressClass::WORKER) && !may_be_error {
            return Err(Outcome::NotOurs);
        }
    }
    Ok(())
}

/// Adds whether the packet can come from a worker, which [`read`] leaves out for a destination that
/// can be ours. The address of a client can have the same hash as one of ours.
#[inline(always)]
pub fn read_source<F: Headers>(parsed: &mut Parsed<F>) {
    parsed.class.0 |= class(&parsed.key.source).0 & AddressClass::WORKER;
}

/// Whether a packet can be a worker's reply. NAT sources are often virtual addresses too: then only
/// the port decides.
#[inline(always)]
pub fn may_be_reply<F: Headers>(parsed: &Parsed<F>) -> bool {
    let class = parsed.class;
    if class.has(AddressClass::WORKER) {
        return true;
    }
    if !class.has(AddressClass::SOURCE) {
        return false;
    }
    let port = parsed.key.ports.destination().host();
    settings().is_some_and(|settings| settings.nat_port_low <= port && port <= settings.nat_port_high)
}

/// What an address can be.
#[inline(always)]
fn class<A: AsRef<[u32]>>(address: &A) -> AddressClass {
    let (word, shift) = address_class::place(address.as_ref());
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let word = ADDRESS_CLASSES
        .get(word)
        .map_or(0, |word| unsafe { core::ptr::read_volatile(word) });
    AddressClass((word >> shift) as u8)
}

/// The service of a 5-tuple's destination, and its index; [`Outcome::NotOurs`] where there is none.
/// `class` is that of the destination.
#[inline(always)]
pub fn service<F: Tables>(key: &FlowKey<F>, class: AddressClass) -> Result<(u32, &'static Service), Outcome> {
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
