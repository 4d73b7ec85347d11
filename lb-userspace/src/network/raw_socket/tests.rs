//! Raw sockets and challenges against real kernels, in private network namespaces.

use std::{
    io::{self, Read},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use lb_common::{
    Be16, Family, FlowKey, Ports, V4, V6,
    checksum::full,
    family::address,
    wire::{eth, ipv4, ipv6, tcp, udp},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Sender, challenge};
use crate::network::netns::Netns;

/// Long enough for a loaded machine; nothing here needs it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A balancer and a client or worker on one link.
fn pair() -> (Netns, Netns) {
    let (balancer, other) = (Netns::new(), Netns::new());
    balancer.connect(
        ("up0", "10.6.0.1/24 2001:db8:6::1/64"),
        &other,
        ("eth0", "10.6.0.2/24 2001:db8:6::2/64"),
    );
    // Addresses that only packets of the balancer have, such as a virtual address or a NAT source.
    other.ip("route add 192.0.2.0/24 via 10.6.0.1");
    other.ip("route add 2001:db8:ffff::/64 via 2001:db8:6::1");
    (balancer, other)
}

/// A UDP datagram from a source that the balancer does not have, with its checksum.
fn datagram(source: &str, destination: &str, port: u16, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let length = (udp::LENGTH + payload.len()) as u16;
    let octets = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let addresses = [octets(source), octets(destination)].concat();
    let mut body = [
        &7777_u16.to_be_bytes()[..],
        &port.to_be_bytes(),
        &length.to_be_bytes(),
        &[0, 0],
        payload,
    ]
    .concat();
    let pseudo = [&addresses[..], &[0, udp::PROTOCOL], &length.to_be_bytes(), &body].concat();
    body[udp::CHECKSUM..][..2].copy_from_slice(&full(&pseudo, 0).to_ne_bytes());
    let mut packet = if source.is_ipv4() {
        let total = (ipv4::LENGTH as u16 + length).to_be_bytes();
        vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, udp::PROTOCOL, 0, 0]
    } else {
        let length = length.to_be_bytes();
        vec![0x60, 0, 0, 0, length[0], length[1], udp::PROTOCOL, 64]
    };
    packet.extend(addresses);
    packet.extend(body);
    packet
}

#[test]
fn packets_from_a_foreign_source_arrive_unchanged() {
    let (balancer, other) = pair();
    let sender = balancer.run(Sender::new).expect("raw sockets can be opened");
    for (family, source, destination) in [(4, "192.0.2.9", "10.6.0.2"), (6, "2001:db8:ffff::9", "2001:db8:6::2")] {
        let receiver = other.run(|| UdpSocket::bind((destination, 0))).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = receiver.local_addr().unwrap().port();
        // With bytes after the packet, as in a fixed-size record.
        let bytes = [datagram(source, destination, port, b"ready"), vec![0xee; 40]].concat();
        sender.send(family, &bytes).unwrap();
        let mut buffer = [0; 100];
        let (length, from) = receiver
            .recv_from(&mut buffer)
            .expect("the datagram arrives, with a valid checksum");
        assert_eq!(&buffer[..length], b"ready");
        assert_eq!(from, SocketAddr::new(source.parse().unwrap(), 7777));
    }
}

#[test]
fn a_packet_waits_in_the_kernel_until_its_neighbour_is_resolved() {
    let (balancer, other) = pair();
    balancer.ip("neighbour flush dev up0");
    let sender = balancer.run(Sender::new).unwrap();
    let receiver = other.run(|| UdpSocket::bind("10.6.0.2:0")).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    sender
        .send(
            4,
            &datagram("192.0.2.9", "10.6.0.2", receiver.local_addr().unwrap().port(), b"first"),
        )
        .unwrap();
    let mut buffer = [0; 100];
    assert_eq!(receiver.recv(&mut buffer).unwrap(), 5);
}

#[test]
fn packets_with_wrong_lengths_or_families_are_refused() {
    let sender = Netns::new().run(Sender::new).unwrap();
    let v4 = datagram("192.0.2.9", "10.6.0.2", 9, b"12345678");
    let v6 = datagram("2001:db8:ffff::9", "2001:db8:6::2", 9, b"12345678");
    let with = |packet: &[u8], offset: usize, value: u8| {
        let mut changed = packet.to_vec();
        changed[offset] = value;
        changed
    };
    let table = [
        ("empty", 4, vec![]),
        ("empty", 6, vec![]),
        ("shorter than a header", 4, v4[..19].to_vec()),
        ("shorter than a header", 6, v6[..39].to_vec()),
        ("cut", 4, v4[..v4.len() - 1].to_vec()),
        ("cut", 6, v6[..v6.len() - 1].to_vec()),
        ("other version", 4, v6.clone()),
        ("other version", 6, v4.clone()),
        ("header length below the least", 4, with(&v4, ipv4::VERSION_IHL, 0x44)),
        (
            "total length below the header's",
            4,
            with(&v4, ipv4::TOTAL_LENGTH + 1, 19),
        ),
        ("no such family", 5, v4.clone()),
    ];
    for (what, family, packet) in table {
        let error = sender.send(family, &packet).expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{what}: {error}");
    }
    let error = sender
        .send(4, &v4)
        .expect_err("there is no route in an empty namespace");
    assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
}

#[test]
fn a_challenged_client_replies_with_the_numbers_of_its_connection() {
    let (balancer, client) = pair();
    balancer.ip("address add 192.0.2.80/32 dev lo");
    balancer.ip("address add 2001:db8:ffff::80/128 dev lo nodad");
    for timestamps in ["1", "0"] {
        client.sysctl("ipv4/tcp_timestamps", timestamps);
        challenge_one::<V4>(&balancer, &client, "192.0.2.80");
        challenge_one::<V6>(&balancer, &client, "2001:db8:ffff::80");
    }
}

fn challenge_one<F: super::ChallengeFamily>(balancer: &Netns, client: &Netns, virtual_address: &str) {
    let listener = balancer.run(|| TcpListener::bind((virtual_address, 0))).unwrap();
    let server = listener.local_addr().unwrap();
    let mut stream = client.run(|| TcpStream::connect(server)).unwrap();
    let (accepted, from) = listener.accept().unwrap();
    let key = FlowKey::<F> {
        source: F::narrow(&address::to_words(from.ip())),
        destination: F::narrow(&address::to_words(server.ip())),
        ports: Ports::new(Be16::from_host(from.port()), Be16::from_host(server.port())),
        protocol: tcp::PROTOCOL,
        ..FlowKey::ZERO
    };

    let ear = balancer.run(|| listen::<F>());
    let sender = balancer.run(Sender::new).unwrap();
    sender.send(F::NUMBER, &challenge(&key, 0)).unwrap();
    let mut reply = hear(&ear, from.port(), server.port());
    // With a probability below 0.001 the sequence number was in the client's window.
    if reply.is_none() {
        sender.send(F::NUMBER, &challenge(&key, 1)).unwrap();
        reply = hear(&ear, from.port(), server.port());
    }
    let reply = reply.expect("the client replies to a challenge");
    assert_eq!(
        reply[tcp::FLAGS] & (tcp::ACK | tcp::SYN | tcp::RST | tcp::FIN),
        tcp::ACK
    );

    // The XDP program turns the reply into an RST whose sequence number is the reply's
    // acknowledgment number.
    let acknowledgment: [u8; 4] = reply[tcp::ACKNOWLEDGMENT..][..4].try_into().unwrap();
    sender.send(F::NUMBER, &reset(&key, acknowledgment)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let error = stream.read(&mut [0; 1]).expect_err("the connection is reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    drop(accepted);
}

/// A socket that receives all incoming TCP packets with their Ethernet header.
fn listen<F: Family>() -> Socket {
    let ether_type = if F::NUMBER == 4 { eth::IPV4 } else { eth::IPV6 };
    let protocol = Protocol::from(i32::from(ether_type.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
    socket.set_read_timeout(Some(PATIENCE / 6)).unwrap();
    socket
}

/// Waits for a segment from one port to another.
fn hear(ear: &Socket, from: u16, to: u16) -> Option<Vec<u8>> {
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    let mut buffer = [MaybeUninit::uninit(); 2048];
    loop {
        let length = ear.recv(&mut buffer).ok()?;
        // SAFETY: the kernel has written that many bytes.
        let frame: Vec<u8> = buffer[..length]
            .iter()
            .map(|byte| unsafe { byte.assume_init() })
            .collect();
        let header = if frame[eth::LENGTH] >> 4 == 4 {
            ipv4::LENGTH
        } else {
            ipv6::LENGTH
        };
        let segment = frame.get(eth::LENGTH + header..)?;
        if segment.starts_with(&ports) {
            return Some(segment.to_vec());
        }
    }
}

/// A challenge turned into an RST with the given sequence number.
fn reset<F: super::ChallengeFamily>(key: &FlowKey<F>, sequence: [u8; 4]) -> Vec<u8> {
    let mut packet = challenge(key, 0);
    let segment = &mut packet[F::HEADER..];
    segment[tcp::SEQUENCE..][..4].copy_from_slice(&sequence);
    segment[tcp::ACKNOWLEDGMENT..][..4].fill(0);
    segment[tcp::FLAGS] = tcp::RST;
    segment[tcp::CHECKSUM..][..2].fill(0);
    let addresses: u64 = key
        .source
        .as_ref()
        .iter()
        .chain(key.destination.as_ref())
        .map(|word| u64::from(*word))
        .sum();
    let length = u64::from((segment.len() as u16).to_be());
    let checksum = full(
        segment,
        addresses + u64::from(u16::from(tcp::PROTOCOL).to_be()) + length,
    );
    segment[tcp::CHECKSUM..][..2].copy_from_slice(&checksum.to_ne_bytes());
    packet
}
