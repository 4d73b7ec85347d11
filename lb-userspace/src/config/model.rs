//! The validated configuration: what comes out of [`super`], and all that the rest of the program sees of it.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use lb_common::{Mode, OnBackendDown, Scheduler};
use serde::{Deserialize, Serialize};

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This balancer.
    pub node: Node,
    /// What it balances, in the order of the file.
    pub services: Vec<Service>,
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

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortRange {
    /// First port.
    pub low: u16,
    /// Last port, not below `low`.
    pub high: u16,
}

impl PortRange {
    /// Number of ports.
    pub fn count(self) -> u32 {
        u32::from(self.high) - u32::from(self.low) + 1
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
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Forwarding mode.
    pub mode: Mode,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// Source addresses of packets to workers in `nat` mode: one to four, of the family of `address`.
    pub sources: Vec<IpAddr>,
    /// What happens to the flows of a backend that is down.
    pub on_backend_down: OnBackendDown,
    /// When a silent flow ends.
    pub timeouts: Timeouts,
    /// How backends are checked; `None`: they count as up.
    pub health: Option<HealthCheck>,
    /// The backends: unique by address and port, and by name.
    pub backends: Vec<Backend>,
}

/// One worker's address and port behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Name, unique in its service; by default `address:port`.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// Share of new flows relative to the other backends: 1 to 1000. 0: takes no new flows, keeps the old ones.
    pub weight: u32,
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

/// How the backends of a service are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Port to ask; `None`: the backend's own.
    pub port: Option<u16>,
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// How long a check may take; not longer than `interval`.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp,
    /// An HTTP/1.1 request is answered with an expected status.
    Http(HttpProbe),
}

/// An HTTP health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Method, such as `GET`.
    pub method: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Host header; `None`: the backend's address and port.
    pub host: Option<String>,
    /// Inclusive ranges of status codes that count as success.
    pub status: Vec<(u16, u16)>,
}
