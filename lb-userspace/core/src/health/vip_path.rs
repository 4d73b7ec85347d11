//! The path of a check that asks a virtual address through one worker, and the placeholder address
//! of that path.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_common::Mode;

use crate::config::{Backend, BackendId, Service};

/// The first byte of IPv4 placeholders. RFC 1112, section 4, reserves these addresses, so no host
/// has one.
const PLACEHOLDER_V4: u8 = 240;
/// The first word of IPv6 placeholders. RFC 6666: "packets to this prefix are discarded". Packets
/// to placeholders get no further than the tun device.
const PLACEHOLDER_V6: u16 = 0x0100;
/// The number of placeholders of each family.
const PLACEHOLDERS: u32 = 1 << 24;

/// The prefixes that contain all placeholders, with their lengths in bits.
pub const PLACEHOLDER_PREFIXES: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(PLACEHOLDER_V4, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::new(PLACEHOLDER_V6, 0, 0, 0, 0, 0, 0, 0)), 104),
];

/// The path of a check to the virtual address through one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipPath {
    /// The virtual address that the worker is asked at.
    pub virtual_address: IpAddr,
    /// The worker's own address.
    pub worker: IpAddr,
    /// The forwarding mode of the service.
    pub mode: Mode,
    /// Source address of the tunnel and, for GUE, its UDP destination port. `None`: no tunnel.
    pub tunnel: Option<(IpAddr, u16)>,
    /// Name of the tun device that takes the check's packets.
    pub device: String,
    /// Source address of the check. `None`: the source address that this machine uses towards the
    /// worker.
    pub source: Option<IpAddr>,
}

impl VipPath {
    /// The path to a backend of a service.
    pub fn to(device: &str, service: &Service, backend: &Backend, source: Option<IpAddr>) -> Self {
        let worker = backend.address.ip();
        let tunnel = service.tunnel.source(worker);
        Self {
            virtual_address: service.address,
            worker,
            mode: service.mode,
            tunnel: tunnel.map(|prefix| (prefix.network(), service.tunnel.gue_port)),
            device: device.to_owned(),
            source,
        }
    }
}

/// The placeholder address of a target, of the same family as `like`. `attempt` counts from 0; a
/// higher one gives another address, for a caller that finds one in use.
pub fn placeholder(id: &BackendId, like: IpAddr, attempt: u32) -> IpAddr {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let number = (hasher.finish() as u32).wrapping_add(attempt) % PLACEHOLDERS;
    let [_, high, middle, low] = number.to_be_bytes();
    match like {
        IpAddr::V4(_) => Ipv4Addr::new(PLACEHOLDER_V4, high, middle, low).into(),
        IpAddr::V6(_) => {
            let words = [u16::from(high), u16::from_be_bytes([middle, low])];
            Ipv6Addr::new(PLACEHOLDER_V6, 0, 0, 0, 0, 0, words[0], words[1]).into()
        }
    }
}

/// The name of a node's tun device. It fits the kernel's limit of 15 bytes, and differs between
/// nodes on one kernel.
pub fn device_name(node: &str) -> String {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    format!("lbd{:08x}", hasher.finish() as u32)
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    #[test]
    fn placeholders_are_stable_and_within_their_prefixes() {
        for name in 0..1000 {
            let id = BackendId {
                service: "web".to_owned(),
                backend: format!("w{name}"),
            };
            for (like, (prefix, length)) in ["192.0.2.1", "2001:db8::1"].into_iter().zip(PLACEHOLDER_PREFIXES) {
                let like = like.parse().unwrap();
                let found = placeholder(&id, like, 0);
                assert!(IpNet::new(prefix, length).unwrap().contains(&found), "{found}");
                assert_eq!(found, placeholder(&id, like, 0));
                assert_ne!(found, placeholder(&id, like, 1));
            }
        }
    }
}
