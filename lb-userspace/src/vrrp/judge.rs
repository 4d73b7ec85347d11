//! Which adverts count. Pure.

use std::net::IpAddr;

use super::{
    socket::Received,
    wire::{Advert, Covered, HOPS, Refused},
};
use crate::config::Vrrp;

/// Whether what came counts, and what it says. `own` is where this balancer's adverts come from.
pub(super) fn judge(received: &Received, own: IpAddr, config: &Vrrp) -> Result<(Advert, Covered), Refused> {
    if received.hops != HOPS {
        return Err(Refused::Hops);
    }
    if received.source == own {
        return Err(Refused::Own);
    }
    let destination = received.destination.unwrap_or(own);
    let (advert, covered) = Advert::parse(&received.message, received.source, destination)?;
    if advert.router != config.router {
        return Err(Refused::Router);
    }
    if advert.version != config.version {
        return Err(Refused::Version);
    }
    if !config.peers.is_empty() && !config.peers.contains(&received.source) {
        return Err(Refused::Stranger);
    }
    if advert.version == 2 && advert.password != config.password {
        return Err(Refused::Password);
    }
    // Whoever says that adverts come all the time would be missed at once.
    let is_other = advert.version == 2 && advert.interval != config.rules().interval;
    if is_other || advert.interval == 0 {
        return Err(Refused::Interval);
    }
    Ok((advert, covered))
}
