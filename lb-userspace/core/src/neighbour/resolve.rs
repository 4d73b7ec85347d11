//! Resolves next hops from links, routes and neighbours. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::{NextHop, Tags};

use super::{NextHopState, NextHops};

/// Largest number of VLAN tags of a frame.
const MOST_TAGS: usize = 2;

/// A link-layer address.
pub type Mac = [u8; 6];

/// Interface index and address of a neighbour.
pub type NeighbourKey = (u32, IpAddr);

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its own address; `None`: it is not an Ethernet interface.
    pub address: Option<Mac>,
    /// Whether it can send.
    pub condition: LinkCondition,
    /// Size of the largest IP packet, in bytes; 0: the kernel does not report it.
    pub mtu: u32,
    /// The VLAN that it is; `None`: it is no VLAN.
    pub vlan: Option<Vlan>,
}

/// What makes an interface a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN identifier, in the host's byte order.
    pub id: u16,
    /// Index of the interface that tagged frames leave by; 0: it is in another network namespace.
    pub parent: u32,
    /// Whether its tags are 802.1ad (provider), not 802.1Q (customer).
    pub provider: bool,
}

/// Whether an interface can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkCondition {
    /// It is up and has a carrier.
    Up,
    /// It is set down.
    Down,
    /// It is up without a carrier.
    NoCarrier,
}

/// The kernel's answer to a route query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through an interface, and through a router if there is a gateway.
    Via {
        /// Index of the interface.
        ifindex: u32,
        /// The router; `None`: the target is on the link.
        gateway: Option<IpAddr>,
    },
    /// No route by which frames can be sent. The text says why.
    None(String),
}

/// An entry of the kernel's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// The address is known, and was confirmed recently or needs no confirmation.
    Fresh(Mac),
    /// The address is known, but was not confirmed for a while.
    Stale(Mac),
    /// The kernel is resolving it.
    Resolving,
    /// The kernel tried to resolve it and got no reply.
    Failed,
}

/// What the kernel reports about everything on the path to the targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Routes by target.
    pub routes: BTreeMap<IpAddr, Route>,
    /// Interfaces by index.
    pub links: BTreeMap<u32, Link>,
    /// Entries of the neighbour table.
    pub neighbours: BTreeMap<NeighbourKey, Neighbour>,
}

impl Snapshot {
    /// The interfaces of the routes, and their parent interfaces if they are VLANs.
    pub fn wanted_links(&self) -> BTreeSet<u32> {
        let mut wanted = BTreeSet::new();
        for (ifindex, _) in self.wanted_neighbours() {
            let mut next = Some(ifindex);
            for _ in 0..=MOST_TAGS {
                let Some(ifindex) = next else { break };
                wanted.insert(ifindex);
                let vlan = self.links.get(&ifindex).and_then(|link| link.vlan);
                next = vlan.map(|vlan| vlan.parent).filter(|parent| *parent != 0);
            }
        }
        wanted
    }

    /// The neighbours that packets go to: routers, and targets on a link.
    pub fn wanted_neighbours(&self) -> BTreeSet<NeighbourKey> {
        let key = |(target, route): (&IpAddr, &Route)| match route {
            Route::Via { ifindex, gateway } => Some((*ifindex, gateway.unwrap_or(*target))),
            Route::None(_) => None,
        };
        self.routes.iter().filter_map(key).collect()
    }

    /// The neighbours that the kernel must resolve or confirm, if frames can be sent to them now.
    pub fn to_refresh(&self) -> BTreeMap<NeighbourKey, Urgency> {
        let sends = |key: &NeighbourKey| self.links.get(&key.0).is_some_and(|link| usable(link).is_ok());
        let urgency = |key: NeighbourKey| match self.neighbours.get(&key) {
            Some(Neighbour::Fresh(_)) => None,
            Some(Neighbour::Stale(_)) => Some((key, Urgency::Confirm)),
            Some(Neighbour::Resolving | Neighbour::Failed) | None => Some((key, Urgency::Resolve)),
        };
        self.wanted_neighbours()
            .into_iter()
            .filter(sends)
            .filter_map(urgency)
            .collect()
    }

    /// The state of every target.
    pub fn resolve(&self) -> NextHops {
        self.routes
            .iter()
            .map(|(target, route)| (*target, self.state(*target, route)))
            .collect()
    }

    fn state(&self, target: IpAddr, route: &Route) -> NextHopState {
        let (ifindex, gateway) = match route {
            Route::Via { ifindex, gateway } => (*ifindex, *gateway),
            Route::None(reason) => {
                return NextHopState {
                    reason: reason.clone(),
                    ..NextHopState::default()
                };
            }
        };
        let mut state = NextHopState {
            gateway,
            ifindex,
            ..NextHopState::default()
        };
        let Some(link) = self.links.get(&ifindex) else {
            state.reason = format!("interface {ifindex} does not exist");
            return state;
        };
        state.interface.clone_from(&link.name);
        match self.hop(ifindex, link, gateway.unwrap_or(target)) {
            Ok(hop) => state.hop = Some(hop),
            Err(reason) => state.reason = reason,
        }
        state
    }

    /// The next hop for a neighbour on a link, or why there is none.
    fn hop(&self, ifindex: u32, link: &Link, neighbour: IpAddr) -> Result<NextHop, String> {
        let source = usable(link)?;
        let (sender, tags) = self.sender(ifindex, link)?;
        let destination = self.mac(&(ifindex, neighbour))?;
        Ok(NextHop {
            tags,
            mtu: link.mtu,
            ..NextHop::new(sender, source, destination)
        })
    }

    /// The interface that frames of a link leave by, and their tags. A VLAN has no queue: its
    /// frames are sent, tagged, by its parent interface.
    fn sender(&self, ifindex: u32, link: &Link) -> Result<(u32, Tags), String> {
        let (mut sender, mut below, mut tags) = (ifindex, link, Vec::new());
        while let Some(vlan) = below.vlan {
            let name = &below.name;
            if tags.len() == MOST_TAGS {
                return Err(format!("interface {name} is a VLAN inside two others"));
            }
            if vlan.parent == 0 {
                return Err(format!(
                    "interface {name} is a VLAN of an interface in another namespace"
                ));
            }
            let Some(parent) = self.links.get(&vlan.parent) else {
                return Err(format!(
                    "interface {}, the parent of VLAN {name}, does not exist",
                    vlan.parent
                ));
            };
            usable(parent)?;
            tags.push(vlan);
            (sender, below) = (vlan.parent, parent);
        }
        Ok((sender, frame_tags(&link.name, &tags)?))
    }

    fn mac(&self, key: &NeighbourKey) -> Result<Mac, String> {
        match self.neighbours.get(key) {
            Some(Neighbour::Fresh(mac) | Neighbour::Stale(mac)) => Ok(*mac),
            Some(Neighbour::Resolving) | None => Err(super::RESOLVING.to_owned()),
            Some(Neighbour::Failed) => Err("neighbour failed".to_owned()),
        }
    }
}

/// Why a neighbour is refreshed, which decides how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Its address is unknown.
    Resolve,
    /// Its address is known, but not confirmed.
    Confirm,
}

/// The tags of frames of an interface in these VLANs, the inner one first. The packet path writes a
/// single tag as 802.1Q and, of two, the outer one as 802.1ad.
fn frame_tags(name: &str, vlans: &[Vlan]) -> Result<Tags, String> {
    match *vlans {
        [] => Ok(Tags::NONE),
        [
            Vlan {
                id, provider: false, ..
            },
        ] => Ok(Tags::vlan(id)),
        [
            Vlan {
                id, provider: false, ..
            },
            Vlan {
                id: outer,
                provider: true,
                ..
            },
        ] => Ok(Tags(Tags::vlan(id).0 << 16 | Tags::vlan(outer).0)),
        [_] => Err(format!("interface {name} is an 802.1ad VLAN, expected 802.1Q")),
        _ => Err(format!(
            "interface {name} is a VLAN inside another, expected 802.1Q inside 802.1ad"
        )),
    }
}

/// The address that a link sends frames from, if it can send.
fn usable(link: &Link) -> Result<Mac, String> {
    let name = &link.name;
    match (link.condition, link.address) {
        (LinkCondition::Down, _) => Err(format!("interface {name} is down")),
        (LinkCondition::NoCarrier, _) => Err(format!("interface {name} has no carrier")),
        (LinkCondition::Up, None) => Err(format!("interface {name} is not Ethernet")),
        (LinkCondition::Up, Some(address)) => Ok(address),
    }
}

/// The new state of a neighbour, given the former one.
///
/// After a failure the kernel resolves again, because refreshes ask it to. A failed neighbour stays
/// failed meanwhile: otherwise its state would flap for as long as it is away.
pub fn merge_state(before: Option<&Neighbour>, now: Neighbour) -> Neighbour {
    match (before, now) {
        (Some(Neighbour::Failed), Neighbour::Resolving) => Neighbour::Failed,
        _ => now,
    }
}

#[cfg(test)]
mod tests;
