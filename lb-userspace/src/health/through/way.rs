//! The way of a check to one worker.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use lb_common::Mode;

use lb_core::config::BackendId;
use lb_core::config::{Backend, Service};

/// The first byte of stand-ins for IPv4. RFC 1112, section 4: these addresses are reserved, and nobody has one.
const STAND_IN_V4: u8 = 240;
/// The first words of stand-ins for IPv6. RFC 6666: "packets to this prefix are discarded"; here they come no further than
/// to a device of our own.
const STAND_IN_V6: u16 = 0x0100;
/// How many stand-ins there are of each family.
const STAND_INS: u32 = 1 << 24;

/// The way of a check to one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What the worker is asked as.
    pub virtual_address: IpAddr,
    /// The worker.
    pub worker: IpAddr,
    /// How packets get there.
    pub mode: Mode,
    /// Where its tunnel begins, and the port that it ends at.
    pub tunnel: Option<(IpAddr, u16)>,
    /// The device that they are sent into.
    pub device: String,
    /// Where checks come from; `None`: where packets to the worker do.
    pub source: Option<IpAddr>,
}

impl Way {
    /// The way to a backend of a service.
    pub(crate) fn to(device: &str, service: &Service, backend: &Backend, source: Option<IpAddr>) -> Self {
        let worker = backend.address.ip();
        Self {
            virtual_address: service.address,
            worker,
            mode: service.mode,
            tunnel: service
                .tunnel
                .source(worker)
                .map(|source| (first(source), service.tunnel.gue_port)),
            device: device.to_owned(),
            source,
        }
    }
}

/// The address that a check of this target is connected to, in place of one of this family; `turn` tells those apart
/// that would have the same.
pub(crate) fn stand_in(id: &BackendId, like: IpAddr, turn: u32) -> IpAddr {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let number = (hasher.finish() as u32).wrapping_add(turn) % STAND_INS;
    let [_, high, middle, low] = number.to_be_bytes();
    match like {
        IpAddr::V4(_) => Ipv4Addr::new(STAND_IN_V4, high, middle, low).into(),
        IpAddr::V6(_) => {
            let words = [u16::from(high), u16::from_be_bytes([middle, low])];
            Ipv6Addr::new(STAND_IN_V6, 0, 0, 0, 0, 0, words[0], words[1]).into()
        }
    }
}

/// The name of the device of a node: within the 15 bytes that the kernel takes, and its own among nodes of one kernel.
pub fn device(node: &str) -> String {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    format!("lbd{:08x}", hasher.finish() as u32)
}

/// The prefixes of all stand-ins, with their lengths.
pub(super) const STAND_IN_PREFIXES: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(STAND_IN_V4, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::new(STAND_IN_V6, 0, 0, 0, 0, 0, 0, 0)), 104),
];

fn first(prefix: IpNet) -> IpAddr {
    prefix.network()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_lie_within_their_prefixes_and_stay_the_same() {
        for name in 0..1000 {
            let id = BackendId {
                service: "web".to_owned(),
                backend: format!("w{name}"),
            };
            for (like, (prefix, length)) in ["192.0.2.1", "2001:db8::1"].into_iter().zip(STAND_IN_PREFIXES) {
                let like = like.parse().unwrap();
                let found = stand_in(&id, like, 0);
                assert!(IpNet::new(prefix, length).unwrap().contains(&found), "{found}");
                assert_eq!(found, stand_in(&id, like, 0));
                assert_ne!(found, stand_in(&id, like, 1));
            }
        }
    }
}
