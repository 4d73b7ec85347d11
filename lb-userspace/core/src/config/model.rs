//! The validated configuration: what comes out of [`super`], and all that the rest of the program sees of it.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_common::{Mode, OnBackendDown, Scheduler};
use serde::{Deserialize, Serialize};

pub use super::{
    health::model::{
        CheckTarget, CommandProbe, DnsProbe, Flaps, GrpcProbe, HealthCheck, HttpProbe, Initial, Pattern, Probe, Rules,
        Timing, TlsClient, UdpProbe,
    },
    ports::PortRange,
    vrrp::model::{CommandTrack, Hook, Track, Tracked, Vrrp},
};

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This balancer.
    pub node: Node,
    /// Who may use the admin API, and where it listens besides its socket.
    pub api: Api,
    /// What it balances, in the order of the file.
    pub services: Vec<Service>,
    /// Virtual routers that it takes part in, in the order of the file.
    pub vrrp: Vec<Vrrp>,
}

/// Who may use the admin API, and where it listens besides its socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// Group whose members may read through the socket, by name or number; `None`: the group of the process.
    pub read_group: Option<String>,
    /// Group whose members may change things through the socket too, by name or number.
    pub admin_group: Option<String>,
    /// The TCP listener.
    pub listen: Option<Listen>,
}

/// The TCP listener of the admin API: at least one token is there, and TLS, unless the file says it need not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// File with the token of those who may read.
    pub read_token: Option<PathBuf>,
    /// File with the token of those who may change things too.
    pub admin_token: Option<PathBuf>,
    /// Certificate and key.
    pub tls: Option<Tls>,
}

/// Who one is in TLS, as files in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The certificate and those that lead to its root.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// This balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name, unique among the balancers of one kernel: part of the pin path and of default paths.
    pub name: String,
    /// Interfaces to attach to; not empty, no duplicates.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub xdp_mode: XdpMode,
    /// Folder for what must survive a restart.
    pub state_dir: PathBuf,
    /// Mount point of a BPF file system, below which maps and links are pinned.
    pub bpffs: PathBuf,
    /// Path of the admin socket.
    pub socket: PathBuf,
    /// What the XDP program logs of packets.
    pub packet_log: PacketLog,
    /// Source ports that `nat` uses towards workers.
    pub nat_ports: PortRange,
    /// What tunnels of `ipip` and `gue` begin with, where a service does not say otherwise.
    pub tunnel: Tunnel,
    /// Sizes of the maps.
    pub capacity: Capacity,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// In the driver if it can, else generic.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic receive path.
    Generic,
}

/// What the XDP program logs of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PacketLog {
    /// Nothing; the program is loaded without the logging code.
    #[default]
    Off,
    /// New and ended flows.
    Debug,
    /// Every packet of a service.
    Trace,
}

/// Where tunnels begin and what port they end at.
///
/// The source address of an outer packet is taken from a prefix: the host bits are filled from the flow, so that workers
/// spread the flows of one balancer over their receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Outer source addresses towards workers with IPv4 addresses: /8 to /32, without host bits; /32 does not spread.
    pub source_v4: Option<Ipv4Net>,
    /// Outer source addresses towards workers with IPv6 addresses: /96 to /128, without host bits; /128 does not spread.
    pub source_v6: Option<Ipv6Net>,
    /// UDP port that workers take `gue` on.
    pub gue_port: u16,
}

impl Tunnel {
    /// The prefix that outer source addresses towards `worker` are taken from.
    pub fn source(&self, worker: IpAddr) -> Option<IpNet> {
        match worker {
            IpAddr::V4(_) => self.source_v4.map(IpNet::V4),
            IpAddr::V6(_) => self.source_v6.map(IpNet::V6),
        }
    }
}

/// Sizes of the maps, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// IPv4 flows.
    pub flows_v4: u32,
    /// IPv6 flows.
    pub flows_v6: u32,
    /// Services.
    pub services: u32,
    /// Backends of all services together.
    pub backends: u32,
    /// Ring slots of all services together, twice what is in use at once.
    pub ring_slots: u32,
}

/// The protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => lb_common::wire::tcp::PROTOCOL,
            Self::Udp => lb_common::wire::udp::PROTOCOL,
        }
    }

    /// The word that files and commands use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Virtual address, port and protocol that clients connect to, and the backends behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name, unique in the file.
    pub name: String,
    /// Virtual address.
    pub address: IpAddr,
    /// Ports; with more than one, backends are reached at the port that the client chose.
    pub ports: PortRange,
    /// Protocol.
    pub protocol: Protocol,
    /// Forwarding mode.
    pub mode: Mode,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// How many leading bits of the client's address `source-hash` looks at.
    pub source_prefix: u8,
    /// For how long the share of a backend that returns grows; zero: it has its full share at once.
    pub slow_start: Duration,
    /// Source addresses of packets to workers in `nat` mode: one to four, of the family of `address`. Empty in other modes.
    pub sources: Vec<IpAddr>,
    /// `nat`: whether workers get the client's address and port in a TCP option.
    pub toa: bool,
    /// What its tunnels begin with, in `ipip` and `gue`.
    pub tunnel: Tunnel,
    /// Who may begin flows, and how many.
    pub guard: Guard,
    /// What happens to the flows of a backend that is down.
    pub on_backend_down: OnBackendDown,
    /// How long the flows of a backend go on that a reload removes; zero: they end with it.
    pub drain_timeout: Duration,
    /// When a silent flow ends.
    pub timeouts: Timeouts,
    /// How many percent of the ordinary backends have to be up; while they are fewer, health is not heeded and all of them
    /// take packets. 0: never.
    pub panic_threshold: u32,
    /// Whether a backend is checked at once when the packet path sees it refuse SYNs or leave them unanswered. Only with a
    /// health check, in TCP services of `nat` and `dnat`.
    pub passive: bool,
    /// The backends and the fallback ones: unique by address and port, and by name.
    pub backends: Vec<Backend>,
}

/// Who may begin flows of a service, and how many. Flows that have begun are never judged again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Sources that may begin flows; empty: all may but those of `deny`. Of all prefixes that match the longest decides.
    pub allow: Vec<IpNet>,
    /// Sources that may not begin flows; no prefix is in both lists.
    pub deny: Vec<IpNet>,
    /// Most flows at a time, opening and established; 0: no limit.
    pub connection_limit: u32,
    /// New flows a second that one source may begin; 0: no limit.
    pub source_rate: u32,
    /// How many flows a source may begin at once before the rate counts.
    pub source_burst: u32,
    /// New flows a second above which they are spread by hash and not tracked; 0: never. Always 0 in `nat` and `dnat`.
    pub flood_rate: u32,
}

/// Largest weight of a backend, wherever it is given.
pub const MOST_WEIGHT: u32 = 1000;

/// One worker's address and port behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Name, unique in its service; by default `address:port`.
    pub name: String,
    /// Address and port; port 0: the port that the client chose, in services with several.
    pub address: SocketAddr,
    /// Whether it takes new flows only while no other backend does.
    pub fallback: bool,
    /// Share of new flows relative to the other backends: 1 to [`MOST_WEIGHT`]. 0: takes no new flows, keeps the old ones.
    pub weight: u32,
    /// How it is checked; `None`: it counts as up.
    pub health: Option<Arc<HealthCheck>>,
}

/// After how much silence a flow ends, by how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// TCP: handshake not complete. UDP: not answered.
    pub opening: Duration,
    /// TCP: established.
    pub established: Duration,
    /// TCP: one side has closed.
    pub closing: Duration,
    /// TCP: both sides have closed, the worker first; as long as a worker keeps TIME-WAIT.
    pub time_wait: Duration,
    /// TCP: both sides have closed, the client first, or one has reset.
    pub closed: Duration,
    /// UDP: answered.
    pub udp: Duration,
}
