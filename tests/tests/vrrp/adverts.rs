//! Adverts that a balancer receives, valid and invalid, and what it announces on the link.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use harness::{
    floating::{self, await_roles, floating, pair, roles},
    lab::Lab,
    lbd::Lbd,
    wait::{PATIENCE, eventually},
};
use lb_core::vrrp::advert::{Advert, ChecksumCoverage, GROUP_V4, GROUP_V6, PROTOCOL};
use nix::libc;
use serde_json::Value;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const FAST: &str = "interval = \"100ms\"\n";
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Sends a message as an advert from the client, which is no balancer.
fn send(lab: &Lab, group: IpAddr, hops: u32, message: &[u8]) -> io::Result<()> {
    lab.client.namespace.run(|| {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(group, 0)),
            Type::RAW,
            Some(Protocol::from(i32::from(PROTOCOL))),
        )?;
        socket.bind_device(Some(b"eth0"))?;
        match group {
            IpAddr::V4(_) => socket.set_multicast_ttl_v4(hops)?,
            IpAddr::V6(_) => socket.set_multicast_hops_v6(hops)?,
        }
        socket.send_to(message, &SockAddr::from(SocketAddr::new(group, 0)))?;
        Ok(())
    })
}

fn refused(lbd: &Lbd<'_>) -> Vec<Value> {
    let status = lbd.lbctl(&["vrrp", "status"]).unwrap();
    let rows = status.as_array().into_iter().flatten();
    rows.map(|row| row["refused"].clone()).collect()
}

#[test]
fn adverts_that_are_wrong_are_counted_and_change_nothing() {
    let lab = floating::lab(1);
    let only = floating::balancer(&lab, 0, 100, FAST).unwrap();
    await_roles(&only, "master");
    let [v4, v6] = floating();
    let client = lab.client.v4();
    // Better than the master, if it counted.
    let right = Advert {
        version: 3,
        router: 51,
        priority: 200,
        interval: 100_000,
        addresses: vec![v4],
        password: None,
    };
    let bytes = |change: &dyn Fn(&mut Advert)| {
        let mut advert = right.clone();
        change(&mut advert);
        advert.bytes(client, GROUP_V4.into(), ChecksumCoverage::PseudoHeader)
    };
    let mut broken = bytes(&|_| {});
    broken[6] ^= 0xff;
    let mut other_type = bytes(&|_| {});
    other_type[0] = 3 << 4 | 2;
    let of_version_2 = bytes(&|advert| (advert.version, advert.interval) = (2, 1_000_000));
    for (hops, message) in [
        (254, bytes(&|_| {})),
        (255, broken),
        (255, other_type),
        (255, of_version_2),
        (255, bytes(&|advert| advert.router = 99)),
        (255, bytes(&|advert| advert.addresses.clear())),
        (255, bytes(&|_| {})[..7].to_vec()),
        (255, Vec::new()),
    ] {
        send(&lab, GROUP_V4.into(), hops, &message).unwrap();
    }
    let of_v6 = Advert {
        router: 52,
        addresses: vec![v6],
        ..right.clone()
    };
    // Its checksum counts in the sender's address, which is another one.
    let message = of_v6.bytes(
        "fe80::1".parse().unwrap(),
        GROUP_V6.into(),
        ChecksumCoverage::PseudoHeader,
    );
    send(&lab, GROUP_V6.into(), 255, &message).unwrap();
    send(&lab, GROUP_V6.into(), 1, &message).unwrap();
    let expected = [
        serde_json::json!({
            "hop_limit": 1, "checksum": 1, "type": 1, "version": 1, "router": 1, "no_addresses": 1, "short": 2
        }),
        serde_json::json!({"hop_limit": 1, "checksum": 1}),
    ];
    eventually(PATIENCE, "each is counted by its reason", || refused(&only) == expected);
    assert_eq!(roles(&only), ["master"; 2]);
    // A valid one does count.
    send(&lab, GROUP_V4.into(), 255, &bytes(&|_| {})).unwrap();
    eventually(PATIENCE, "it yields", || {
        let events = only.lbctl(&["event", "list", "--kind", "vrrp-backup"]).unwrap();
        events
            .to_string()
            .contains(&format!("yielded to {client} (priority 200)"))
    });
    assert_eq!(refused(&only), expected);
}

/// Counts, for so long, how often an address is announced on the link: by ARP requests about
/// itself, or by advertisements to all.
fn listen(lab: &Lab, address: IpAddr, length: Duration) -> JoinHandle<usize> {
    let protocol = match address {
        IpAddr::V4(_) => libc::ETH_P_ARP,
        IpAddr::V6(_) => libc::ETH_P_IPV6,
    };
    let socket = lab.client.namespace.run(|| {
        let all = i32::from((protocol as u16).to_be());
        Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(all))).unwrap()
    });
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let is_announced = move |packet: &[u8]| match address {
        IpAddr::V4(v4) => {
            packet.get(6..8) == Some(&[0, 1])
                && packet.get(14..18) == Some(&v4.octets())
                && packet.get(24..28) == Some(&v4.octets())
        }
        IpAddr::V6(v6) => {
            packet.get(24..26) == Some(&[0xff, 0x02])
                && packet.get(40) == Some(&NEIGHBOR_ADVERTISEMENT)
                && packet.get(48..64) == Some(&v6.octets())
        }
    };
    thread::spawn(move || {
        let end = Instant::now() + length;
        let mut count = 0;
        let mut packet = [0_u8; 2048];
        while Instant::now() < end {
            if let Ok(length) = io::Read::read(&mut &socket, &mut packet) {
                count += usize::from(is_announced(&packet[..length]));
            }
        }
        count
    })
}

#[test]
fn a_new_master_announces_addresses_four_times_and_then_at_the_refresh_interval() {
    for (refresh, is_refreshed) in [("1m", false), ("1s", true)] {
        let lab = floating::lab(2);
        let [mut first, mut second] = pair(&lab, &format!("{FAST}refresh = \"1m\"\n"));
        second
            .reconfigure(|config| config.node_keys = config.node_keys.replace("1m", refresh))
            .unwrap();
        second.lbctl(&["reload"]).unwrap();
        let heard = floating().map(|address| listen(&lab, address, Duration::from_secs(10)));
        first.terminate().unwrap();
        await_roles(&second, "master");
        // At once, and after 50, 250 and 1000 ms.
        for count in heard.map(|heard| heard.join().unwrap()) {
            assert!(if is_refreshed { count > 4 } else { count == 4 }, "{refresh}: {count}");
        }
    }
}
