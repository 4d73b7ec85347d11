//! Converts netlink messages to the types of [`lb_core::neighbour::resolve`], and back. Pure.

use std::{io, net::IpAddr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
};

use lb_core::neighbour::resolve::{Link, LinkCondition, Mac, Neighbour, NeighbourKey, Route, Vlan};

/// What must be queried again after a message of a multicast group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recheck {
    /// One neighbour.
    Neighbour(NeighbourKey),
    /// Any route, link or neighbour.
    Everything,
}

/// Reads a message of a multicast group; `None`: it does not concern the targets.
pub fn recheck(message: &RouteNetlinkMessage) -> Option<Recheck> {
    match message {
        // The group also reports the forwarding tables of bridges, which have no IP address.
        RouteNetlinkMessage::NewNeighbour(message) | RouteNetlinkMessage::DelNeighbour(message) => {
            neighbour_key(message).map(Recheck::Neighbour)
        }
        _ => Some(Recheck::Everything),
    }
}

/// A query for the route to an address.
pub fn ask_route(target: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(target);
    message.header.destination_prefix_length = if target.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(target.into()));
    RouteNetlinkMessage::GetRoute(message)
}

/// A query for an interface.
pub fn ask_link(ifindex: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    RouteNetlinkMessage::GetLink(message)
}

/// A query for an entry of the neighbour table.
pub fn ask_neighbour(key: NeighbourKey) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNeighbour(neighbour_message(key))
}

/// A message that says that a neighbour is about to be used: the kernel resolves or confirms it if
/// needed.
pub fn refresh(key: NeighbourKey) -> RouteNetlinkMessage {
    let mut message = neighbour_message(key);
    message.header.flags = NeighbourFlags::Use;
    RouteNetlinkMessage::NewNeighbour(message)
}

/// Reads the answer to [`ask_route`].
pub fn route(message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Route::None("local address".to_owned()),
        RouteType::Broadcast => return Route::None("broadcast address".to_owned()),
        RouteType::Multicast => return Route::None("multicast address".to_owned()),
        other => return Route::None(format!("no route: expected type unicast, found {other:?}")),
    }
    let mut interface = None;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) | RouteAttribute::Via(RouteVia::Inet(address)) => {
                gateway = Some(IpAddr::from(*address));
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) | RouteAttribute::Via(RouteVia::Inet6(address)) => {
                gateway = Some(IpAddr::from(*address));
            }
            // Frames that bypass the kernel would miss the outer header.
            RouteAttribute::EncapType(_) => return Route::None("the route encapsulates packets".to_owned()),
            _ => {}
        }
    }
    match interface {
        Some(ifindex) => Route::Via { ifindex, gateway },
        None => Route::None("no route: it names no interface".to_owned()),
    }
}

/// Reads the errno that the kernel returns instead of a route.
pub fn route_refused(errno: i32) -> Route {
    use nix::errno::Errno;
    Route::None(match Errno::from_raw(errno) {
        Errno::ENETUNREACH | Errno::ESRCH => "no route".to_owned(),
        Errno::EHOSTUNREACH => "no route: the routing table says unreachable".to_owned(),
        Errno::EACCES => "no route: the routing table says prohibit".to_owned(),
        Errno::EINVAL => "no route: the routing table says blackhole".to_owned(),
        _ => format!("no route: {}", io::Error::from_raw_os_error(errno)),
    })
}

/// Reads an interface.
pub fn link(message: &LinkMessage) -> Link {
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let flags = message.header.flags;
    let mut link = Link {
        name: format!("#{}", message.header.index),
        address: None,
        condition: match (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::LowerUp)) {
            (false, _) => LinkCondition::Down,
            (true, false) => LinkCondition::NoCarrier,
            (true, true) => LinkCondition::Up,
        },
        mtu: 0,
        vlan: None,
    };
    let (mut below, mut elsewhere, mut vlan) = (0, false, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => below = *index,
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(info) => vlan = vlan_tag(info),
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) if is_ethernet => link.address = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    link.vlan = vlan.map(|(id, provider)| Vlan {
        id,
        provider,
        parent: if elsewhere { 0 } else { below },
    });
    link
}

/// The VLAN identifier, and whether the tags are 802.1ad; `None`: the interface is no VLAN.
fn vlan_tag(info: &[LinkInfo]) -> Option<(u16, bool)> {
    if !info.contains(&LinkInfo::Kind(InfoKind::Vlan)) {
        return None;
    }
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    });
    let data = data?;
    let id = data.iter().find_map(|data| match data {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    });
    let provider = data.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad));
    id.map(|id| (id, provider))
}

/// Reads an entry of the neighbour table; `None`: it holds nothing usable.
pub fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    match (message.header.state, mac) {
        (NeighbourState::Stale, Some(mac)) => Some(Neighbour::Stale(mac)),
        (
            NeighbourState::Reachable
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp,
            Some(mac),
        ) => Some(Neighbour::Fresh(mac)),
        (NeighbourState::Incomplete, _) => Some(Neighbour::Resolving),
        (NeighbourState::Failed, _) => Some(Neighbour::Failed),
        _ => None,
    }
}

fn neighbour_key(message: &NeighbourMessage) -> Option<NeighbourKey> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
            Some((message.header.ifindex, (*address).into()))
        }
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((message.header.ifindex, (*address).into()))
        }
        _ => None,
    })
}

fn neighbour_message((ifindex, address): NeighbourKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn states_with_an_address_count_as_resolved() {
        use NeighbourState::{Delay, Failed, Incomplete, Noarp, None as NoState, Permanent, Probe, Reachable, Stale};
        let table = [
            (Reachable, true, Some(Neighbour::Fresh(MAC))),
            (Stale, true, Some(Neighbour::Stale(MAC))),
            (Delay, true, Some(Neighbour::Fresh(MAC))),
            (Probe, true, Some(Neighbour::Fresh(MAC))),
            (Permanent, true, Some(Neighbour::Fresh(MAC))),
            (Noarp, true, Some(Neighbour::Fresh(MAC))),
            (Noarp, false, None),
            (Incomplete, false, Some(Neighbour::Resolving)),
            (Failed, false, Some(Neighbour::Failed)),
            (Failed, true, Some(Neighbour::Failed)),
            (NoState, true, None),
        ];
        for (state, has_address, expected) in table {
            let mut message = neighbour_message((1, "10.0.0.9".parse().unwrap()));
            message.header.state = state;
            if has_address {
                message
                    .attributes
                    .push(NeighbourAttribute::LinkLayerAddress(MAC.to_vec()));
            }
            assert_eq!(neighbour(&message), expected, "{state:?}");
        }
    }

    #[test]
    fn routes_without_frames_are_none() {
        let with = |kind, attributes: &[RouteAttribute]| {
            let mut message = RouteMessage::default();
            message.header.kind = kind;
            message.attributes = attributes.to_vec();
            route(&message)
        };
        let oif = RouteAttribute::Oif(4);
        let router: IpAddr = "fe80::1".parse().unwrap();
        let via = RouteAttribute::Via(router.into());
        assert_eq!(
            with(RouteType::Unicast, std::slice::from_ref(&oif)),
            Route::Via {
                ifindex: 4,
                gateway: None
            }
        );
        assert_eq!(
            with(RouteType::Unicast, &[oif.clone(), via]),
            Route::Via {
                ifindex: 4,
                gateway: Some(router)
            }
        );
        assert_eq!(
            with(RouteType::Local, std::slice::from_ref(&oif)),
            Route::None("local address".to_owned())
        );
        for (kind, attributes) in [
            (RouteType::Broadcast, vec![oif.clone()]),
            (RouteType::Multicast, vec![oif.clone()]),
            (RouteType::Unicast, vec![]),
            (
                RouteType::Unicast,
                vec![
                    oif,
                    RouteAttribute::EncapType(netlink_packet_route::route::RouteLwEnCapType::Ip),
                ],
            ),
        ] {
            assert!(
                matches!(with(kind, &attributes), Route::None(reason) if !reason.is_empty()),
                "{attributes:?}"
            );
        }
    }

    #[test]
    fn only_ethernet_links_have_an_address_to_send_from() {
        for (layer, expected) in [(LinkLayerType::Ether, Some(MAC)), (LinkLayerType::Loopback, None)] {
            let mut message = LinkMessage::default();
            message.header.link_layer_type = layer;
            message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
            message.attributes = vec![
                LinkAttribute::IfName("eth0".to_owned()),
                LinkAttribute::Address(MAC.to_vec()),
            ];
            let link = link(&message);
            assert_eq!(
                (link.name.as_str(), link.address, link.condition),
                ("eth0", expected, LinkCondition::Up)
            );
        }
    }

    #[test]
    fn a_vlan_has_its_identifier_and_its_parent() {
        let vlan = |protocol| {
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(100)])),
            ])
        };
        let customer = || vlan(VlanProtocol::Ieee8021Q);
        let expected = |parent, provider| {
            Some(Vlan {
                id: 100,
                parent,
                provider,
            })
        };
        let veth = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]);
        let table = [
            (vec![customer(), LinkAttribute::Link(2)], expected(2, false)),
            (
                vec![vlan(VlanProtocol::Ieee8021Ad), LinkAttribute::Link(2)],
                expected(2, true),
            ),
            (
                vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(0), customer()],
                expected(0, false),
            ),
            // The peer of a veth pair is a link of it too.
            (vec![veth, LinkAttribute::Link(2)], None),
        ];
        for (attributes, expected) in table {
            let mut message = LinkMessage::default();
            message.attributes = attributes;
            message.attributes.push(LinkAttribute::Mtu(1400));
            let link = link(&message);
            assert_eq!((link.vlan, link.mtu), (expected, 1400));
        }
    }

    #[test]
    fn an_event_of_a_neighbour_rechecks_only_that_one() {
        let key = (7, "2001:db8::1".parse().unwrap());
        assert_eq!(
            recheck(&RouteNetlinkMessage::NewNeighbour(neighbour_message(key))),
            Some(Recheck::Neighbour(key))
        );
        assert_eq!(
            recheck(&RouteNetlinkMessage::DelNeighbour(NeighbourMessage::default())),
            None
        );
        assert_eq!(
            recheck(&RouteNetlinkMessage::NewRoute(RouteMessage::default())),
            Some(Recheck::Everything)
        );
    }
}
