//! The validated configuration, which the rest of the program uses.

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
    /// Access to the admin API.
    pub api: Api,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
    /// The virtual routers, in the order of the file.
    pub vrrp: Vec<Vrrp>,
}

/// Access to the admin API, and its TCP listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// Group that may read through the socket, by name or number. `None`: the group of the process.
    pub read_group: Option<String>,
    /// Group that may also change state through the socket, by name or number. `None`: no group.
    pub admin_group: Option<String>,
    /// The TCP listener. `None`: only the socket.
    pub listen: Option<Listen>,
}

/// The TCP listener of the admin API. Has at least one token. Has TLS, except on loopback or if the
/// file allows plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; the port is not 0.
    pub address: SocketAddr,
    /// File with the token for reading.
    pub read_token: Option<PathBuf>,
    /// File with the token for reading and changing.
    pub admin_token: Option<PathBuf>,
    /// Certificate and key. `None`: no TLS.
    pub tls: Option<Tls>,
}

/// A TLS identity, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// This balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name, unique among the balancers of one kernel, 1 to 32 characters. Part of the pin path and
    /// of default paths.
    pub name: String,
    /// Interfaces to attach to: 1 to 16, all different.
    pub interfaces: Vec<String>,
    /// How the program is attached.
    pub xdp_mode: XdpMode,
    /// Folder for what survives a restart.
    pub state_dir: PathBuf,
    /// Mount point of the BPF file system where maps and links are pinned.
    pub bpffs: PathBuf,
    /// Path of the admin socket.
    pub socket: PathBuf,
    /// What the XDP program logs about packets.
    pub packet_log: PacketLog,
    /// Source ports towards workers in `nat`: at least 1024 ports, from 1024 on.
    pub nat_ports: PortRange,
    /// Tunnel settings of services that do not set their own.
    pub tunnel: Tunnel,
    /// Sizes of the maps.
    pub capacity: Capacity,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// In the driver if possible, else generic.
    #[default]
    Auto,
    /// Only in the driver.
    Native,
    /// In the kernel's generic receive path.
    Generic,
}

/// What the XDP program logs about packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PacketLog {
    /// Nothing. The program is loaded without logging code.
    #[default]
    Off,
    /// New and ended flows.
    Debug,
    /// Every packet of a service.
    Trace,
}

/// Outer source addresses and port of tunnels.
///
/// The source address of an outer packet comes from a prefix. Its host bits are filled from the
/// flow, so that workers spread flows over their receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Outer sources towards workers with IPv4 addresses: /8 to /32, without host bits. /32 does
    /// not spread.
    pub source_v4: Option<Ipv4Net>,
    /// Outer sources towards workers with IPv6 addresses: /96 to /128, without host bits. /128 does
    /// not spread.
    pub source_v6: Option<Ipv6Net>,
    /// UDP port on which workers receive `gue`, 1 to 65535.
    pub gue_port: u16,
}

impl Tunnel {
    /// The prefix of outer source addresses towards `worker`.
    pub fn source(&self, worker: IpAddr) -> Option<IpNet> {
        match worker {
            IpAddr::V4(_) => self.source_v4.map(IpNet::V4),
            IpAddr::V6(_) => self.source_v6.map(IpNet::V6),
        }
    }
}

/// Sizes of the maps, in entries, 16 to 67108864 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// IPv4 flow entries.
    pub flows_v4: u32,
    /// IPv6 flow entries.
    pub flows_v6: u32,
    /// Services.
    pub services: u32,
    /// Backends of all services together.
    pub backends: u32,
    /// Ring slots of all services together: twice the number in use.
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

    /// The word in files and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A virtual address, port and protocol, and the backends behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name, unique in the file.
    pub name: String,
    /// Virtual address.
    pub address: IpAddr,
    /// Ports. With a range, the destination port is kept.
    pub ports: PortRange,
    /// Protocol.
    pub protocol: Protocol,
    /// Forwarding mode.
    pub mode: Mode,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// Number of leading bits of the client's address that `source-hash` uses: 1 to 32 or 128.
    pub source_prefix: u8,
    /// How long the share of a backend grows after it came up, up to 1 h. Zero: full share at once.
    pub slow_start: Duration,
    /// Source addresses towards workers in `nat`: 1 to 4, of the family of `address`. Empty in
    /// other modes.
    pub sources: Vec<IpAddr>,
    /// Whether workers get the client's address and port in a TCP option. Only in `nat`.
    pub toa: bool,
    /// Tunnel settings, for `ipip` and `gue`.
    pub tunnel: Tunnel,
    /// Who may begin flows, and how many.
    pub guard: Guard,
    /// What happens to flows of a dead backend.
    pub on_backend_down: OnBackendDown,
    /// How long flows of a backend continue after a reload removed it, up to 168 h. Zero: they end
    /// at once.
    pub drain_timeout: Duration,
    /// How long a flow may be silent.
    pub timeouts: Timeouts,
    /// Percent of the backends without fallbacks, 0 to 100. While fewer are healthy, health is
    /// ignored and all of them take flows. 0: never.
    pub panic_threshold: u32,
    /// Whether failed SYNs of clients trigger a check of the backend. Only with a health check, in
    /// TCP services of `nat` and `dnat`.
    pub passive: bool,
    /// Backends, then fallback backends: unique by address and port, and by name.
    pub backends: Vec<Backend>,
}

/// Who may begin flows of a service, and how many. Existing flows are not checked again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Clients that may begin flows, at most 4096 prefixes. Empty: all but those of `deny`. The
    /// longest match decides.
    pub allow: Vec<IpNet>,
    /// Clients that may not begin flows, at most 4096 prefixes. No prefix is in both lists.
    pub deny: Vec<IpNet>,
    /// Most flows at a time, opening and established, up to 2^30. 0: no limit.
    pub connection_limit: u32,
    /// Most new flows per second of one client, up to 100 million. 0: no limit.
    pub source_rate: u32,
    /// New flows that a client may begin at once before `source_rate` applies, up to 100 million.
    pub source_burst: u32,
    /// New flows per second above which new flows are spread by hash without a flow entry. 0:
    /// never. Always 0 in `nat` and `dnat`.
    pub flood_rate: u32,
}

/// Largest weight of a backend, in the file and as an override.
pub const MOST_WEIGHT: u32 = 1000;

/// One worker's address and port behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Name, unique in its service; by default `address:port`.
    pub name: String,
    /// Address and port. Port 0: the destination port is kept, in services with several ports.
    pub address: SocketAddr,
    /// Whether it takes new flows only while no other backend is up.
    pub fallback: bool,
    /// Share of new flows relative to the other backends, up to [`MOST_WEIGHT`]. 0: no new flows;
    /// old flows continue.
    pub weight: u32,
    /// Health check. `None`: counts as up.
    pub health: Option<Arc<HealthCheck>>,
}

/// How long a flow may be silent before it ends, by its phase. 1 s to 168 h each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// TCP: the handshake is not complete. UDP: no reply yet.
    pub opening: Duration,
    /// TCP: established.
    pub established: Duration,
    /// TCP: one side has closed.
    pub closing: Duration,
    /// TCP: both sides have closed, the worker first. As long as the worker keeps TIME-WAIT.
    pub time_wait: Duration,
    /// TCP: both sides have closed, the client first; or one side has sent RST.
    pub closed: Duration,
    /// UDP: a reply was seen.
    pub udp: Duration,
}
