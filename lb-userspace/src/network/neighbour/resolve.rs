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
    pub name: String,
    /// Its own address; `None`: it is not an Ethernet interface.
    pub address: Option<Mac>,
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
    Up,
    Down,
    NoCarrier,
}

/// The kernel's answer to a route query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through an interface, and through a router if there is a gateway.
    Via { ifindex: u32, gateway: Option<IpAddr> },
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
    pub routes: BTreeMap<IpAddr, Route>,
    pub links: BTreeMap<u32, Link>,
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
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const PEER: Mac = [2, 0, 0, 0, 0, 2];
    const TARGET: &str = "10.0.0.9";
    const ROUTER: &str = "10.0.0.1";
    const ROUTER_V6: &str = "fe80::1";

    fn link(condition: LinkCondition, address: Option<Mac>) -> Link {
        Link {
            name: "eth0".to_owned(),
            address,
            condition,
            mtu: 1500,
            vlan: None,
        }
    }

    fn vlan(id: u16, parent: u32, mtu: u32) -> Link {
        Link {
            name: format!("eth0.{id}"),
            mtu,
            vlan: Some(Vlan {
                id,
                parent,
                provider: false,
            }),
            ..link(LinkCondition::Up, Some(OWN))
        }
    }

    fn provider_vlan(id: u16, parent: u32, mtu: u32) -> Link {
        Link {
            vlan: Some(Vlan {
                id,
                parent,
                provider: true,
            }),
            ..vlan(id, parent, mtu)
        }
    }

    fn via(gateway: Option<&str>) -> Route {
        Route::Via {
            ifindex: 3,
            gateway: gateway.map(|text| text.parse().unwrap()),
        }
    }

    fn snapshot(route: Route, link: Option<Link>, neighbours: &[(&str, Neighbour)]) -> Snapshot {
        Snapshot {
            routes: [(TARGET.parse().unwrap(), route)].into(),
            links: link.into_iter().map(|link| (3, link)).collect(),
            neighbours: neighbours
                .iter()
                .map(|(address, state)| ((3, address.parse().unwrap()), *state))
                .collect(),
        }
    }

    #[test]
    fn every_state_of_the_kernel_gives_a_hop_or_a_reason() {
        use LinkCondition::{Down, NoCarrier, Up};
        use Neighbour::{Failed, Fresh, Resolving, Stale};
        let up = || Some(link(Up, Some(OWN)));
        let table = [
            (via(None), up(), vec![(TARGET, Fresh(PEER))], Ok(())),
            (via(None), up(), vec![(TARGET, Stale(PEER))], Ok(())),
            (via(None), up(), vec![(TARGET, Resolving)], Err("resolving")),
            (via(None), up(), vec![(TARGET, Failed)], Err("neighbour failed")),
            (via(None), up(), vec![], Err("resolving")),
            (via(Some(ROUTER)), up(), vec![(ROUTER, Fresh(PEER))], Ok(())),
            (via(Some(ROUTER)), up(), vec![(TARGET, Fresh(PEER))], Err("resolving")),
            (via(Some(ROUTER_V6)), up(), vec![(ROUTER_V6, Fresh(PEER))], Ok(())),
            (
                via(None),
                None,
                vec![(TARGET, Fresh(PEER))],
                Err("interface 3 does not exist"),
            ),
            (
                via(None),
                Some(link(Down, Some(OWN))),
                vec![(TARGET, Fresh(PEER))],
                Err("interface eth0 is down"),
            ),
            (
                via(None),
                Some(link(NoCarrier, Some(OWN))),
                vec![],
                Err("interface eth0 has no carrier"),
            ),
            (
                via(None),
                Some(link(Up, None)),
                vec![],
                Err("interface eth0 is not Ethernet"),
            ),
            (
                Route::None("no route".to_owned()),
                up(),
                vec![(TARGET, Fresh(PEER))],
                Err("no route"),
            ),
        ];
        for (route, link, neighbours, expected) in table {
            let given = snapshot(route, link, &neighbours);
            let state = &given.resolve()[&TARGET.parse::<IpAddr>().unwrap()];
            match expected {
                Ok(()) => {
                    let hop = NextHop {
                        mtu: 1500,
                        ..NextHop::new(3, OWN, PEER)
                    };
                    assert_eq!(state.hop, Some(hop), "{given:?}");
                }
                Err(reason) => assert_eq!((state.hop, state.reason.as_str()), (None, reason), "{given:?}"),
            }
            assert_eq!(state.hop.is_some(), state.reason.is_empty(), "{given:?}");
        }
    }

    #[test]
    fn a_state_names_the_path_even_when_it_is_not_resolved() {
        let given = snapshot(via(Some(ROUTER)), Some(link(LinkCondition::Up, Some(OWN))), &[]);
        let state = &given.resolve()[&TARGET.parse::<IpAddr>().unwrap()];
        assert_eq!((state.interface.as_str(), state.ifindex), ("eth0", 3));
        assert_eq!(state.gateway, Some(ROUTER.parse().unwrap()));
    }

    #[test]
    fn frames_of_a_vlan_leave_tagged_by_its_parent_interface() {
        let down = || link(LinkCondition::Down, Some(OWN));
        let up = || link(LinkCondition::Up, Some(OWN));
        let table = [
            (vec![(3, up())], Ok((3, vec![], 1500))),
            (vec![(3, vlan(100, 2, 1496)), (2, up())], Ok((2, vec![100], 1496))),
            (
                vec![(3, vlan(200, 4, 1492)), (4, provider_vlan(100, 2, 1496)), (2, up())],
                Ok((2, vec![100, 200], 1492)),
            ),
            // The packet path cannot write other kinds of tags; the kernel sends such packets.
            (
                vec![(3, vlan(200, 4, 1500)), (4, vlan(100, 2, 1500)), (2, up())],
                Err("interface eth0.200 is a VLAN inside another, expected 802.1Q inside 802.1ad"),
            ),
            (
                vec![(3, provider_vlan(100, 2, 1500)), (2, up())],
                Err("interface eth0.100 is an 802.1ad VLAN, expected 802.1Q"),
            ),
            (
                vec![(3, vlan(100, 2, 1500)), (2, down())],
                Err("interface eth0 is down"),
            ),
            (
                vec![(3, vlan(100, 2, 1500))],
                Err("interface 2, the parent of VLAN eth0.100, does not exist"),
            ),
            (
                vec![(3, vlan(100, 0, 1500))],
                Err("interface eth0.100 is a VLAN of an interface in another namespace"),
            ),
            (
                vec![(3, vlan(3, 4, 1)), (4, vlan(2, 5, 1)), (5, vlan(1, 2, 1)), (2, up())],
                Err("interface eth0.1 is a VLAN inside two others"),
            ),
            (
                vec![(3, vlan(1, 3, 1))],
                Err("interface eth0.1 is a VLAN inside two others"),
            ),
        ];
        for (links, expected) in table {
            let mut given = snapshot(via(None), None, &[(TARGET, Neighbour::Fresh(PEER))]);
            given.links = links.into_iter().collect();
            let state = &given.resolve()[&TARGET.parse::<IpAddr>().unwrap()];
            assert_eq!(state.ifindex, 3, "the route's interface");
            match expected {
                Ok((sender, vlans, mtu)) => {
                    let hop = state.hop.unwrap_or_else(|| panic!("{given:?}: {}", state.reason));
                    // As in the frame: the outer tag first.
                    let tags: Vec<u16> = hop
                        .tags
                        .0
                        .to_ne_bytes()
                        .chunks_exact(2)
                        .map(|tag| u16::from_be_bytes([tag[0], tag[1]]))
                        .collect();
                    let tags: Vec<u16> = tags.into_iter().filter(|tag| *tag != 0).collect();
                    assert_eq!((hop.ifindex, tags, hop.mtu, hop.source()), (sender, vlans, mtu, OWN));
                }
                Err(reason) => assert_eq!((state.hop, state.reason.as_str()), (None, reason)),
            }
        }
    }

    #[test]
    fn the_parents_of_a_vlan_are_wanted_once_they_are_known() {
        let mut given = snapshot(via(None), None, &[]);
        assert_eq!(given.wanted_links(), [3].into());
        given.links.insert(3, vlan(200, 4, 1500));
        assert_eq!(given.wanted_links(), [3, 4].into());
        given.links.insert(4, vlan(100, 2, 1500));
        assert_eq!(given.wanted_links(), [2, 3, 4].into());
    }

    #[test]
    fn one_target_without_a_route_does_not_affect_another() {
        let mut given = snapshot(
            via(None),
            Some(link(LinkCondition::Up, Some(OWN))),
            &[(TARGET, Neighbour::Fresh(PEER))],
        );
        given
            .routes
            .insert("192.0.2.1".parse().unwrap(), Route::None("no route".to_owned()));
        given.routes.insert(
            "192.0.2.2".parse().unwrap(),
            Route::Via {
                ifindex: 9,
                gateway: None,
            },
        );
        let states = given.resolve();
        assert_eq!(states.len(), 3);
        assert!(states[&TARGET.parse::<IpAddr>().unwrap()].hop.is_some());
    }

    #[test]
    fn only_neighbours_that_need_it_and_can_be_reached_are_refreshed() {
        use Neighbour::{Failed, Fresh, Resolving, Stale};
        let table = [
            (Some(Fresh(PEER)), LinkCondition::Up, None),
            (Some(Stale(PEER)), LinkCondition::Up, Some(Urgency::Confirm)),
            (Some(Resolving), LinkCondition::Up, Some(Urgency::Resolve)),
            (Some(Failed), LinkCondition::Up, Some(Urgency::Resolve)),
            (None, LinkCondition::Up, Some(Urgency::Resolve)),
            (None, LinkCondition::Down, None),
            (Some(Stale(PEER)), LinkCondition::NoCarrier, None),
        ];
        for (neighbour, condition, expected) in table {
            let neighbours: Vec<_> = neighbour.map(|state| (ROUTER, state)).into_iter().collect();
            let given = snapshot(via(Some(ROUTER)), Some(link(condition, Some(OWN))), &neighbours);
            let refreshes = given.to_refresh();
            assert_eq!(
                refreshes.get(&(3, ROUTER.parse().unwrap())).copied(),
                expected,
                "{given:?}"
            );
            assert_eq!(refreshes.len(), usize::from(expected.is_some()));
        }
    }

    #[test]
    fn targets_behind_one_router_want_one_neighbour() {
        let mut given = snapshot(via(Some(ROUTER)), None, &[]);
        given.routes.insert("10.0.0.10".parse().unwrap(), via(Some(ROUTER)));
        assert_eq!(given.wanted_neighbours(), [(3, ROUTER.parse().unwrap())].into());
        assert_eq!(given.wanted_links(), [3].into());
    }

    #[test]
    fn a_neighbour_that_failed_stays_failed_until_it_answers() {
        use Neighbour::{Failed, Fresh, Resolving};
        let table = [
            (None, Resolving, Resolving),
            (Some(Failed), Resolving, Failed),
            (Some(Failed), Fresh(PEER), Fresh(PEER)),
            (Some(Fresh(PEER)), Resolving, Resolving),
            (Some(Resolving), Failed, Failed),
        ];
        for (before, now, expected) in table {
            assert_eq!(merge_state(before.as_ref(), now), expected, "{before:?} {now:?}");
        }
    }
}
