//! The standard network: hosts on one bridge, each a namespace with one interface `eth0`, and
//! optionally a router.
//!
//! Addresses follow from a host's number `n`: `10.77.0.n`, `fd77::n` (n in decimal digits) and
//! `02:77:00:00:00:nn` (n in hexadecimal).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};

use crate::{
    netns::Namespace,
    tools,
    xdp_pass::{PassLink, PassProgram},
};

/// Number of the router on the fabric.
pub const ROUTER: u8 = 1;

/// A host on the fabric.
#[derive(Debug)]
pub struct Host {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its name among people.
    pub label: String,
    /// Its number, from which its addresses follow.
    pub number: u8,
    subnet: Subnet,
}

/// A /24 and a /64 that hosts are numbered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subnet {
    /// 10.77.0.0/24 and fd77::/64: the bridge.
    Fabric,
    /// 10.78.0.0/24 and fd78::/64: beyond the router.
    Outside,
}

impl Subnet {
    /// The IPv4 address of a number.
    pub fn v4(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, if self == Self::Fabric { 77 } else { 78 }, 0, number)
    }

    /// The IPv6 address of a number: its decimal digits are the last group.
    pub fn v6(self, number: u8) -> Ipv6Addr {
        let digits =
            u16::from_str_radix(&number.to_string(), 16).expect("three decimal digits are hexadecimal digits too");
        Ipv6Addr::new(
            if self == Self::Fabric { 0xfd77 } else { 0xfd78 },
            0,
            0,
            0,
            0,
            0,
            0,
            digits,
        )
    }

    fn mac(self, number: u8) -> String {
        format!(
            "02:{}:00:00:00:{number:02x}",
            if self == Self::Fabric { 77 } else { 78 }
        )
    }
}

impl Host {
    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.subnet.v4(self.number).into()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.subnet.v6(self.number).into()
    }

    /// Its address of the same family as another one.
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4() } else { self.v6() }
    }

    /// The hardware address that `eth0` began with.
    pub fn mac(&self) -> String {
        self.subnet.mac(self.number)
    }

    /// Gives it one more address on `eth0`, alone in its prefix, such as a service's virtual
    /// address.
    ///
    /// # Errors
    ///
    /// When it has that address already.
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        match address {
            IpAddr::V4(v4) => self.namespace.ip(&format!("address add {v4}/32 dev eth0")),
            IpAddr::V6(v6) => self.namespace.ip(&format!("address add {v6}/128 dev eth0 nodad")),
        }
    }

    /// Runs a script of sh(1) on it, such as the set-up of a worker: it sees the host's network and
    /// everybody's files, and ends at the first command that fails. Answers with what it printed.
    ///
    /// # Errors
    ///
    /// When a command of it fails; the message has its standard error.
    pub fn run_script(&self, script: &str) -> Result<String> {
        tools::output(self.namespace.command("sh").args(["-euc", script]))
            .with_context(|| format!("a script fails on host {}", self.label))
    }

    fn create(label: &str, number: u8, subnet: Subnet) -> Result<Self> {
        let namespace = Namespace::new(label)?;
        for (key, value) in [
            ("ipv4/ip_forward", "0"),
            ("ipv6/conf/all/forwarding", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/dad_transmits", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            // Beside the ports that the balancer takes for its flows.
            ("ipv4/ip_local_port_range", "57000 65000"),
        ] {
            namespace.sysctl(key, value)?;
        }
        Ok(Self {
            namespace,
            label: label.to_owned(),
            number,
            subnet,
        })
    }

    fn configure(&self) -> Result<()> {
        self.namespace.ip(&format!(
            "link set eth0 address {}\naddress add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad\nlink set eth0 up",
            self.mac(),
            self.v4(),
            self.v6(),
        ))?;
        disable_offloads(&self.namespace, "eth0")
    }
}

/// The bridge, and what holds the ports together.
#[derive(Debug)]
pub struct Fabric {
    namespace: Namespace,
    program: PassProgram,
    links: Mutex<Vec<PassLink>>,
    /// Whether frames whose place is not known go to everybody.
    floods: AtomicBool,
}

impl Fabric {
    /// A bridge without ports.
    ///
    /// # Errors
    ///
    /// When the machine lacks a tool, a right, or a kernel feature.
    pub fn new() -> Result<Self> {
        tools::require(&["ip", "ethtool"])?;
        let namespace = Namespace::new("fabric")?;
        namespace.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        // Without snooping, neighbour discovery floods at once instead of waiting for a querier.
        namespace.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up")?;
        for family in ["iptables", "ip6tables", "arptables"] {
            // Absent where the kernel has no bridge netfilter: then there is nothing to switch off.
            let _ = namespace.sysctl(&format!("bridge/bridge-nf-call-{family}"), "0");
        }
        Ok(Self {
            namespace,
            program: PassProgram::load()?,
            links: Mutex::default(),
            floods: AtomicBool::new(true),
        })
    }

    /// Connects a new host to the bridge; the bridge's port runs a trivial native XDP program.
    ///
    /// # Errors
    ///
    /// When the number is taken, or the kernel refuses.
    pub fn add_host(&mut self, label: &str, number: u8) -> Result<Host> {
        let host = Host::create(label, number, Subnet::Fabric)?;
        self.connect(&host)?;
        Ok(host)
    }

    /// Takes a host's network card out.
    ///
    /// # Errors
    ///
    /// When the host is not on this bridge.
    pub fn remove_card(&self, host: &Host) -> Result<()> {
        host.namespace.ip("link delete eth0")
    }

    /// Gives a host without a network card one, with the addresses that it began with.
    ///
    /// # Errors
    ///
    /// When it has one.
    pub fn connect(&self, host: &Host) -> Result<()> {
        let port = port_of(host);
        self.namespace.ip(&format!(
            "link add {port} type veth peer name eth0 netns {}\nlink set {port} master br0\nlink set {port} up",
            host.namespace.name()
        ))?;
        disable_offloads(&self.namespace, &port)?;
        host.configure()
            .with_context(|| format!("cannot configure host {}", host.label))?;
        let link = self.program.attach(&self.namespace, &port)?;
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        Ok(())
    }

    /// Lets frames whose place is not known go nowhere, instead of to everybody.
    ///
    /// # Errors
    ///
    /// When the bridge has no such switch.
    pub fn stop_flooding(&self) -> Result<()> {
        let ports = self.namespace.run(|| -> nix::Result<BTreeSet<String>> {
            let names = nix::ifaddrs::getifaddrs()?.map(|found| found.interface_name);
            Ok(names.filter(|name| name != "lo" && name != "br0").collect())
        })?;
        self.floods.store(false, Ordering::Relaxed);
        ports.iter().try_for_each(|port| self.flood(port))
    }

    /// Cuts a host off silently, or lets it be heard again: the link stays, and nothing passes.
    ///
    /// # Errors
    ///
    /// When the host is not on this bridge.
    pub fn set_silent(&self, host: &Host, silent: bool) -> Result<()> {
        let port = port_of(host);
        if silent {
            return self.namespace.ip(&format!("link set {port} nomaster"));
        }
        self.namespace.ip(&format!("link set {port} master br0"))?;
        self.flood(&port)
    }

    /// Sets whether a port that is new takes frames for others.
    fn flood(&self, port: &str) -> Result<()> {
        let switch = if self.floods.load(Ordering::Relaxed) {
            "on"
        } else {
            "off"
        };
        self.namespace
            .ip(&format!("link set {port} type bridge_slave flood {switch}"))
    }

    /// Cuts or mends a host's cable: it keeps running, and its interface has no carrier meanwhile.
    ///
    /// # Errors
    ///
    /// When the host is not on this bridge.
    pub fn set_cable(&self, host: &Host, connected: bool) -> Result<()> {
        let state = if connected { "up" } else { "down" };
        self.namespace.ip(&format!("link set {} {state}", port_of(host)))
    }
}

/// A router between the fabric and the outside, where one host is the only one.
#[derive(Debug)]
pub struct Router {
    host: Host,
}

impl Router {
    /// Puts a router on the fabric and a new host behind it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn with_client(fabric: &mut Fabric, label: &str, number: u8) -> Result<(Self, Host)> {
        let host = fabric.add_host("router", ROUTER)?;
        let client = Host::create(label, number, Subnet::Outside)?;
        host.namespace.ip(&format!(
            "link add outside type veth peer name eth0 netns {}\n\
             address add {}/24 dev outside\naddress add {}/64 dev outside nodad\nlink set outside up",
            client.namespace.name(),
            Subnet::Outside.v4(ROUTER),
            Subnet::Outside.v6(ROUTER),
        ))?;
        host.namespace.sysctl("ipv4/ip_forward", "1")?;
        host.namespace.sysctl("ipv6/conf/all/forwarding", "1")?;
        disable_offloads(&host.namespace, "outside")?;
        client.configure()?;
        default_route(&client)?;
        Ok((Self { host }, client))
    }

    /// Lets a host of the fabric answer to the outside through this router.
    ///
    /// # Errors
    ///
    /// When the host has a default route already.
    pub fn serve(&self, host: &Host) -> Result<()> {
        default_route(host)
    }

    /// The router itself.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

fn default_route(host: &Host) -> Result<()> {
    let (v4, v6) = (host.subnet.v4(ROUTER), host.subnet.v6(ROUTER));
    host.namespace.ip(&format!(
        "route add default via {v4} dev eth0\nroute add default via {v6} dev eth0"
    ))
}

/// Name of the bridge's port towards a host.
fn port_of(host: &Host) -> String {
    format!("port{}", host.number)
}

/// Lets packets be on the veth what they would be on a wire: complete checksums, no frame above the
/// MTU.
fn disable_offloads(namespace: &Namespace, interface: &str) -> Result<()> {
    let features = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    tools::output(namespace.command("ethtool").args(["-K", interface]).args(features)).map(drop)
}
