//! Next hops from every state that the kernel can report.

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

/// The VLAN identifiers in the order of the frame: the outer one first.
fn frame_order(tags: Tags) -> Vec<u16> {
    let tags: Vec<u16> = tags
        .0
        .to_ne_bytes()
        .chunks_exact(2)
        .map(|tag| u16::from_be_bytes([tag[0], tag[1]]))
        .collect();
    tags.into_iter().filter(|tag| *tag != 0).collect()
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
                let tags = frame_order(hop.tags);
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
