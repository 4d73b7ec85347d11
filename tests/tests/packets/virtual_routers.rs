//! Packet tables of virtual routers: adverts, questions, requests for addresses, frames to a
//! link-layer address that moves, and segments that are sent on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use harness::{
    fixture::{self, LOOPBACK, TCP, one, tcp},
    packet::{ACK, Packet, SYN},
    program::Program,
    testrun::{PASS, TRANSMIT},
};
use lb_common::{
    Mode, Outcome, VirtualRouter,
    router::{RouterKey, echo, mac},
};
use lb_core::vrrp::advert::{Advert, ChecksumCoverage, GROUP_V4, GROUP_V6, PROTOCOL};
use lb_userspace::dataplane::{Registered, Routers, lease_clock};

const NUMBER: u8 = 51;
/// The interface's own link-layer address: where [`Packet`]s go.
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const THIRD: [u8; 6] = [2, 0, 0, 0, 0, 8];
const LEASE: Duration = Duration::from_secs(60);

/// A service at an address of a virtual router, and what the packet path knows of that.
struct Scene {
    program: Program,
    routers: Routers,
    index: u32,
    v6: bool,
}

impl Scene {
    fn new(v6: bool, mode: Mode) -> Self {
        let program = Program::with(one(mode, v6, TCP));
        let routers = program.routers();
        let key = RouterKey {
            interface: LOOPBACK,
            tags: 0,
            router: NUMBER.into(),
            family: family(v6).into(),
        };
        let addresses = BTreeSet::from([fixture::virtual_address(mode, v6)]);
        let entry = Registered {
            refuses: false,
            own_mac: OWN,
            version: 3,
        };
        let (index, _) = routers.register(key, &addresses, &entry).unwrap();
        Self {
            program,
            routers,
            index,
            v6,
        }
    }

    fn renew(&self) {
        self.routers.renew(self.index, lease_clock().unwrap(), LEASE, LEASE);
    }

    fn entry(&self) -> VirtualRouter {
        self.routers.read(self.index).unwrap()
    }

    /// An advert of another balancer, whose frame comes from there.
    fn advert(&mut self, from: IpAddr, sender: [u8; 6], priority: u8) {
        self.advert_of(3, from, sender, priority);
    }

    fn advert_of(&mut self, version: u8, from: IpAddr, sender: [u8; 6], priority: u8) {
        let group = if self.v6 {
            IpAddr::from(GROUP_V6)
        } else {
            GROUP_V4.into()
        };
        let advert = Advert {
            version,
            router: NUMBER,
            priority,
            interval: 1_000_000,
            addresses: vec![fixture::virtual_address(Mode::Nat, self.v6)],
            password: None,
        };
        let mut packet = Packet::udp(SocketAddr::new(from, 0), SocketAddr::new(group, 0), &[]);
        (packet.source_mac, packet.ttl) = (sender, 255);
        let frame = packet.carrying(PROTOCOL, &advert.bytes(from, group, ChecksumCoverage::PseudoHeader));
        let (run, outcomes) = self.program.run_bytes(&frame);
        assert_eq!((run.action, outcomes), (PASS, vec![Outcome::NotOurs.name()]));
    }

    /// A question or an answer from a balancer to this one.
    fn echo(&self, kind: u8, from: IpAddr, sender: [u8; 6]) -> Packet {
        let mut payload = [0; echo::LENGTH];
        payload[..4].copy_from_slice(&echo::MAGIC.to_be_bytes());
        payload[echo::KIND] = kind;
        payload[echo::ROUTER] = NUMBER;
        payload[echo::FAMILY] = family(self.v6);
        let [asks, answers] = [40_000, echo::PORT];
        let own = other_balancer(self.v6, 2);
        let (source, destination) = match kind {
            echo::PROBE => (SocketAddr::new(from, asks), SocketAddr::new(own, answers)),
            _ => (SocketAddr::new(from, answers), SocketAddr::new(own, asks)),
        };
        let mut packet = Packet::udp(source, destination, &payload);
        (packet.source_mac, packet.ttl) = (sender, 255);
        packet
    }
}

fn family(v6: bool) -> u8 {
    if v6 { 6 } else { 4 }
}

fn router_mac(v6: bool) -> [u8; 6] {
    mac::of(family(v6), NUMBER)
}

fn other_balancer(v6: bool, number: u8) -> IpAddr {
    if v6 {
        IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(number)])
    } else {
        [10, 77, 0, 200 + number].into()
    }
}

#[test]
fn questions_are_turned_around_with_what_is_known_of_the_lease() {
    for v6 in [false, true] {
        let mut scene = Scene::new(v6, Mode::Nat);
        for holds in [0, 1] {
            if holds == 1 {
                scene.renew();
            }
            let question = scene.echo(echo::PROBE, other_balancer(v6, 9), OTHER);
            let answer = scene.program.send(&question, Outcome::EchoAnswered);
            let answer = Packet::parse(&answer).unwrap();
            assert_eq!((answer.source_mac, answer.destination_mac), (OWN, OTHER));
            assert_eq!(
                (answer.source, answer.destination),
                (question.destination, question.source)
            );
            assert_eq!(
                (answer.payload[echo::KIND], answer.payload[echo::HOLDS]),
                (echo::ANSWER, holds)
            );
        }
        // What crossed a router is not answered.
        let far = Packet {
            ttl: 254,
            ..scene.echo(echo::PROBE, other_balancer(v6, 9), OTHER)
        };
        scene.program.send(&far, Outcome::NotOurs);
    }
}

#[test]
fn frames_to_the_virtual_router_are_for_its_master_alone() {
    for (v6, mode) in [
        (false, Mode::Nat),
        (true, Mode::Nat),
        (false, Mode::Dsr),
        (true, Mode::Dsr),
    ] {
        let mut scene = Scene::new(v6, mode);
        let syn = Packet {
            destination_mac: router_mac(v6),
            ..tcp(mode, v6, 40_000, SYN)
        };
        scene.program.send(&syn, Outcome::NotMaster);
        // Those of a virtual router that nothing is known of are like others.
        let mut foreign = syn.clone();
        foreign.destination_mac[5] = NUMBER + 1;
        foreign.source.set_port(40_001);
        scene.program.send(&foreign, Outcome::Forwarded);
        scene.renew();
        scene.program.send(&syn, Outcome::Forwarded);
        // A former master takes them until the next master has sent from there.
        scene.routers.relay(scene.index, lease_clock().unwrap(), Some(LEASE));
        scene.routers.end_lease(scene.index);
        let late = Packet {
            source: fixture::client(v6, 40_002),
            ..syn.clone()
        };
        scene.program.send(&late, Outcome::Forwarded);
        scene.advert(other_balancer(v6, 9), router_mac(v6), 0);
        scene.advert(other_balancer(v6, 9), router_mac(v6), 100);
        scene.program.send(
            &Packet {
                source: fixture::client(v6, 40_003),
                ..syn
            },
            Outcome::NotMaster,
        );
    }
}

#[test]
fn answers_come_from_the_interface_s_own_address() {
    for v6 in [false, true] {
        let mut scene = Scene::new(v6, Mode::Nat);
        scene.renew();
        let syn = Packet {
            destination_mac: router_mac(v6),
            ..tcp(Mode::Nat, v6, 40_000, SYN)
        };
        let to_worker = scene.program.forward(&syn);
        let answer = Packet::tcp(to_worker.destination, to_worker.source, SYN | ACK);
        let back = scene.program.forward(&answer);
        assert_eq!((back.source_mac, back.destination_mac), (OWN, syn.source_mac));
        // What follows takes the fast path, and the client hop stays as it is.
        let ack = Packet {
            destination_mac: router_mac(v6),
            ..tcp(Mode::Nat, v6, 40_000, ACK)
        };
        scene.program.forward(&ack);
        assert_eq!(scene.program.forward(&answer).source_mac, OWN);
        // Another neighbour is another client hop.
        let moved = Packet {
            source_mac: THIRD,
            ..ack
        };
        scene.program.forward(&moved);
        assert_eq!(scene.program.forward(&answer).destination_mac, THIRD);
    }
}

#[test]
fn link_layer_addresses_of_peers_are_learnt_where_adverts_do_not_show_them() {
    for v6 in [false, true] {
        let mut scene = Scene::new(v6, Mode::Nat);
        let [other, third] = [9, 8].map(|number| other_balancer(v6, number));
        scene.advert(other, OTHER, 100);
        assert_eq!(scene.entry().heard_mac, mac::word(OTHER), "from adverts");
        if !v6 {
            let before = scene.entry();
            scene.advert_of(2, third, THIRD, 200);
            assert_eq!(scene.entry(), before, "adverts of another version say nothing");
        }
        scene.advert(third, router_mac(v6), 100);
        assert_eq!(scene.entry().heard_mac, 0, "nobody is taken for another one");
        // A balancer other than the one that was heard changes nothing.
        let question = scene.echo(echo::PROBE, other, OTHER);
        scene.program.send(&question, Outcome::EchoAnswered);
        assert_eq!(scene.entry().heard_mac, 0);
        let question = scene.echo(echo::PROBE, third, THIRD);
        scene.program.send(&question, Outcome::EchoAnswered);
        assert_eq!(scene.entry().heard_mac, mac::word(THIRD), "from requests");
        scene.advert(third, router_mac(v6), 100);
        scene.advert(third, router_mac(v6), 0);
        assert_eq!(scene.entry().heard_mac, mac::word(THIRD), "and that stays");
        scene.advert(other, router_mac(v6), 100);
        let answer = scene.echo(echo::ANSWER, other, OTHER);
        scene.program.send(&answer, Outcome::NotOurs);
        assert_eq!(scene.entry().heard_mac, mac::word(OTHER), "from replies");
    }
}

#[test]
fn strange_segments_go_to_the_former_master_from_the_interface_s_own_address() {
    for v6 in [false, true] {
        let mut scene = Scene::new(v6, Mode::Nat);
        let other = other_balancer(v6, 9);
        scene.renew();
        scene.advert(other, router_mac(v6), 100);
        let strange = Packet {
            destination_mac: router_mac(v6),
            ..tcp(Mode::Nat, v6, 40_000, ACK)
        };
        scene.routers.relay(scene.index, lease_clock().unwrap(), Some(LEASE));
        // Not while the address of that one is unknown.
        scene.program.send(&strange, Outcome::ResetNoFlow);
        let answer = scene.echo(echo::ANSWER, other, OTHER);
        scene.program.send(&answer, Outcome::NotOurs);
        let (run, outcomes) = scene.program.run_bytes(&strange.bytes());
        assert_eq!((run.action, outcomes), (TRANSMIT, vec![Outcome::Relayed.name()]));
        let sent = Packet::parse(&run.bytes).unwrap();
        assert_eq!((sent.source_mac, sent.destination_mac), (OWN, OTHER));
        assert_eq!((sent.source, sent.destination), (strange.source, strange.destination));
        // What that one sends on is not sent back.
        let relayed = Packet {
            source_mac: OTHER,
            destination_mac: OWN,
            ..strange
        };
        scene.program.send(&relayed, Outcome::ResetNoFlow);
    }
}
