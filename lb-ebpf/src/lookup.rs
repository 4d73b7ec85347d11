//! Lookup: is this packet for a service of ours?

use lb_common::{Outcome, Service, ServiceKey};

use crate::{family::Stages, maps::SERVICES, parse::Parsed};

/// The service that a packet is addressed to, and its index; [`Outcome::NotOurs`] where there is none.
#[inline(always)]
pub fn service<F: Stages>(parsed: &Parsed<F>) -> Result<(u32, &'static Service), Outcome> {
    let key = ServiceKey {
        address: parsed.key.destination,
        port: parsed.key.destination_port,
        protocol: parsed.key.protocol,
        reserved: 0,
    };
    let index = F::service(&key).ok_or(Outcome::NotOurs)?;
    let service = SERVICES.get(index).ok_or(Outcome::Inconsistent)?;
    Ok((index, service))
}
