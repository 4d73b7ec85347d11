//! How workers are set up to end the tunnels of a balancer: scripts, run on a worker, that then
//! takes what is tunnelled to it and answers the client directly.
//!
//! The tunnels are ended by modules of the kernel. Where it has none of them these tests are
//! counted as skipped; the kernels of `cargo xtask test-kernel` have them.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use harness::{
    kernel,
    lab::{Lab, Plan, virtual_addresses},
    wait::PATIENCE,
};

/// A tunnel between the client, in the place of a balancer, and a worker.
struct Tunnel {
    /// Modules that it needs.
    modules: &'static [&'static str],
    /// Whether the virtual address, and with it what is tunnelled, is of IPv6.
    v6: bool,
    /// Run on the worker. `$VIP` is the virtual address.
    worker: &'static str,
    /// Run on the client: a device `tunnel` that encapsulates as a balancer does. `$PEER4` and
    /// `$PEER6` are the worker.
    client: &'static str,
}

const IPIP: Tunnel = Tunnel {
    modules: &["ipip"],
    v6: false,
    worker: "
modprobe ipip
ip addr add $VIP/32 dev tunl0
ip link set tunl0 up
sysctl -w net.ipv4.conf.all.rp_filter=0
sysctl -w net.ipv4.conf.tunl0.rp_filter=0",
    client: "ip link add tunnel type ipip remote $PEER4 local $OWN4",
};

const IPV6_IN_IPV4: Tunnel = Tunnel {
    modules: &["sit"],
    v6: true,
    worker: "
modprobe sit
ip addr add $VIP/128 dev sit0
ip link set sit0 up",
    client: "ip link add tunnel type sit remote $PEER4 local $OWN4",
};

const IPV6_IN_IPV6: Tunnel = Tunnel {
    modules: &["ip6_tunnel"],
    v6: true,
    worker: "
modprobe ip6_tunnel
ip addr add $VIP/128 dev ip6tnl0
ip link set ip6tnl0 up",
    client: "ip link add tunnel type ip6tnl mode ip6ip6 encaplimit none remote $PEER6 local $OWN6",
};

const IPV4_IN_IPV6: Tunnel = Tunnel {
    modules: &["ip6_tunnel"],
    v6: false,
    worker: "
modprobe ip6_tunnel
ip link add ip4in6 type ip6tnl mode ipip6 remote :: local $OWN6
ip addr add $VIP/32 dev ip4in6
ip link set ip4in6 up
sysctl -w net.ipv4.conf.all.rp_filter=0
sysctl -w net.ipv4.conf.ip4in6.rp_filter=0",
    client: "ip link add tunnel type ip6tnl mode ipip6 encaplimit none remote $PEER6 local $OWN6",
};

const GUE: Tunnel = Tunnel {
    modules: &["fou", "ipip"],
    v6: false,
    worker: "
modprobe fou
ip fou add port 6080 gue
ip link add name gue1 type ipip remote any local $OWN4 encap gue encap-sport auto encap-dport 6080
ip addr add $VIP/32 dev gue1
ip link set gue1 up
sysctl -w net.ipv4.conf.all.rp_filter=0
sysctl -w net.ipv4.conf.gue1.rp_filter=0",
    client: "
modprobe fou
ip link add tunnel type ipip remote $PEER4 local $OWN4 encap gue encap-sport auto encap-dport 6080",
};

impl Tunnel {
    /// Sends a datagram to the virtual address through the tunnel. It must arrive as the client
    /// sent it, and its answer come back without the tunnel.
    fn carries(&self) {
        if kernel::lacks(self.modules) {
            return;
        }
        let lab = Lab::build(Plan {
            balancers: 0,
            workers: 1,
            routed: false,
        })
        .unwrap();
        let (client, worker) = (&lab.client, &lab.workers[0]);
        let vip: IpAddr = virtual_addresses(0)[usize::from(self.v6)];
        let (own, target) = (client.address_like(vip), SocketAddr::new(vip, 5353));
        let names = |host: &harness::topology::Host, peer: &harness::topology::Host| {
            format!(
                "VIP={vip} OWN4={} OWN6={} PEER4={} PEER6={}\n",
                host.v4(),
                host.v6(),
                peer.v4(),
                peer.v6()
            )
        };
        worker.run_script(&(names(worker, client) + self.worker)).unwrap();
        let route = format!("\nip link set tunnel up\nip route add {vip} dev tunnel src {own}");
        client
            .run_script(&(names(client, worker) + self.client + &route))
            .unwrap();

        let socket = |namespace: &harness::netns::Namespace, address: SocketAddr| {
            let socket = namespace.run(|| UdpSocket::bind(address)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (asking, answering) = (
            socket(&client.namespace, SocketAddr::new(own, 0)),
            socket(&worker.namespace, target),
        );
        let mut bytes = [0; 64];
        asking.send_to(b"question", target).unwrap();
        let (length, source) = answering.recv_from(&mut bytes).expect("the worker takes the datagram");
        assert_eq!(
            (&bytes[..length], source),
            (&b"question"[..], asking.local_addr().unwrap())
        );
        answering.send_to(b"answer", source).unwrap();
        let (length, source) = asking.recv_from(&mut bytes).expect("the client gets the answer");
        assert_eq!((&bytes[..length], source), (&b"answer"[..], target));
    }
}

#[test]
fn a_worker_ends_tunnels_of_ipv4_in_ipv4() {
    IPIP.carries();
}

#[test]
fn a_worker_ends_tunnels_of_ipv6_in_ipv4() {
    IPV6_IN_IPV4.carries();
}

#[test]
fn a_worker_ends_tunnels_of_ipv6_in_ipv6() {
    IPV6_IN_IPV6.carries();
}

#[test]
fn a_worker_ends_tunnels_of_ipv4_in_ipv6() {
    IPV4_IN_IPV6.carries();
}

#[test]
fn a_worker_ends_tunnels_of_gue() {
    GUE.carries();
}
