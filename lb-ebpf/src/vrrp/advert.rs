//! Adverts: noted at arrival, then passed to the kernel and the controller.

use lb_common::{Family, Outcome, wire::vrrp};

use super::{
    router::{self, sender},
    router_mac,
};
use crate::packet::{Packet, parsed::Parsed};

/// Notes an advert of another balancer.
#[inline(always)]
pub fn note<F: Family>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let message = packet.window::<{ vrrp::LENGTH }>(parsed.transport.offset)?;
    let priority: u8 = message.load(vrrp::PRIORITY);
    let is_advert = message.load::<u8>(vrrp::VERSION_TYPE) & 0xf == vrrp::ADVERTISEMENT;
    if !is_advert {
        return Err(Outcome::NotOurs);
    }
    let router = router::by_id(packet, parsed, message.load::<u8>(vrrp::ROUTER))?;
    if (message.load::<u8>(vrrp::VERSION_TYPE) >> 4) as u64 != router::version(router) {
        return Err(Outcome::NotOurs);
    }
    let mac = sender(packet)?;
    let from = F::widen(&parsed.key.source);
    if !router_mac::is_router(mac) {
        router::note_mac(router, mac);
    } else if priority != 0 && !router::is_heard(router, &from) {
        // The balancer's own address is not in such adverts, but in its echoes.
        router::note_mac(router, 0);
    }
    if priority != 0 {
        router::note_advert(router, &from, priority);
    }
    Err(Outcome::NotOurs)
}
