//! What the admin API says: its JSON as types.
//!
//! Choices are words, the same as in the configuration file, so that an older `lbctl` can show what a newer `lbd` says.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::SystemTime,
};

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// How many flows are listed if nobody says how many.
pub const DEFAULT_FLOW_LIMIT: usize = 100;

/// How many flows one answer can have.
pub const MAX_FLOW_LIMIT: usize = 100_000;

/// How many events are told if nobody says how many.
pub const DEFAULT_EVENT_LIMIT: usize = 100;

/// How many events can be asked for at once: all that are kept.
pub const MAX_EVENT_LIMIT: usize = 10_000;

/// For how many seconds an answer about events can wait for one.
pub const MAX_EVENT_WAIT: u64 = 60;

/// The parameter that lets all flows be ended.
pub const FLUSH_ALL: &str = "all";

/// A moment as the API writes it: RFC 3339 in UTC, to the millisecond.
pub fn timestamp(moment: SystemTime) -> String {
    // Only a clock that is thousands of years off is not a moment, or not one that can be rounded.
    let moment = Timestamp::try_from(moment).and_then(|moment| moment.round(Unit::Millisecond));
    format!("{:.3}", moment.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The balancer itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name.
    pub name: String,
    /// Version of `lbd`.
    pub version: String,
    /// Process of the controller.
    pub pid: u32,
    /// When the controller started, see [`timestamp`].
    pub started_at: String,
    /// How long ago that was.
    pub uptime_seconds: u64,
    /// Configuration file.
    pub config_path: PathBuf,
    /// Version of the layout of the maps.
    pub map_abi: u32,
    /// Interfaces of the configuration.
    pub interfaces: Vec<InterfaceStatus>,
    /// How many services there are of each condition, see [`ServiceStatus::condition`].
    #[serde(default)]
    pub services: BTreeMap<String, u64>,
    /// Packets by outcome, since the maps were created.
    pub outcomes: BTreeMap<String, u64>,
    /// How full the flow tables are.
    pub flows: FlowTables,
    /// What came of bringing the maps to the desired state.
    pub reconcile: ReconcileStatus,
    /// What an operator should know, in sentences.
    pub warnings: Vec<String>,
}

/// An interface of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// Index; 0 where there is no such interface.
    pub ifindex: u32,
    /// How the program is attached: `native`, `generic`, or `none` where it is not.
    pub xdp_mode: String,
    /// How the configuration wants it: `auto`, `native` or `generic`.
    pub wanted_mode: String,
    /// What keeps packets from the program, or slows them; `null`: nothing.
    pub problem: Option<String>,
}

/// How full the flow tables are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowTables {
    /// IPv4.
    pub v4: FlowTable,
    /// IPv6.
    pub v6: FlowTable,
}

/// How full a flow table is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowTable {
    /// Entries in use; a flow in `nat` mode has two.
    pub entries: u64,
    /// Entries that there is room for.
    pub capacity: u64,
}

/// What came of bringing the maps to the desired state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReconcileStatus {
    /// How often the maps were compared with the desired state.
    pub runs: u64,
    /// When something was written to them last, see [`timestamp`].
    pub last_change: Option<String>,
    /// What went wrong in the last run.
    pub last_error: Option<String>,
}

/// Something that a virtual router depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackStatus {
    /// What it is.
    pub what: String,
    /// Whether it is up.
    pub up: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// What it adds to the priority: negative while it is down, positive while it is up. Without one, down is a fault.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<i16>,
}

/// A virtual router that this balancer takes part in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VrrpStatus {
    /// Name.
    pub name: String,
    /// Interface.
    pub interface: String,
    /// Number of the virtual router.
    pub router_id: u8,
    /// Version: 2 or 3.
    pub version: u8,
    /// The addresses that move.
    pub addresses: Vec<String>,
    /// `master`, `backup`, or `fault` where it takes no part.
    pub role: String,
    /// Since when, see [`timestamp`].
    pub since: String,
    /// Why.
    pub cause: String,
    /// The group that it moves with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// Own priority by the configuration.
    pub priority: u8,
    /// Own priority as it is now.
    pub effective_priority: u8,
    /// Whether it stays backup until an operator says otherwise.
    pub maintained: bool,
    /// From one advert to the next, in milliseconds.
    pub interval_ms: u64,
    /// The master that is heard; `null`: none.
    pub master: Option<IpAddr>,
    /// Its priority.
    pub master_priority: Option<u8>,
    /// Whether that master's adverts are missing, and only its packet path says that it is there.
    pub graced: bool,
    /// How often the master's packet path was asked whether it goes on.
    pub asked: u64,
    /// How often it answered.
    pub answered: u64,
    /// What it depends on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tracks: Vec<TrackStatus>,
    /// Adverts sent.
    pub sent: u64,
    /// Adverts that came and were right.
    pub received: u64,
    /// What came and was not, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Name.
    pub name: String,
    /// Virtual address.
    pub address: IpAddr,
    /// Port; of several the first.
    pub port: u16,
    /// Last port; `port` again where there is one.
    pub last_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Forwarding mode.
    pub mode: String,
    /// How a backend is chosen.
    pub scheduler: String,
    /// What happens to the flows of a backend that is down.
    pub on_backend_down: String,
    /// Who takes its new flows: `healthy`, its backends; `panic`, all of them, because too few are well; `fallback`, the fallback,
    /// because no other is up; `no-backend`, nobody; `unknown`, nobody was checked yet.
    #[serde(default)]
    pub condition: String,
    /// Backends that take new flows.
    pub backends_up: u64,
    /// All its backends.
    pub backends_total: u64,
    /// Established flows.
    pub active: u64,
    /// Flows that are not established yet.
    pub embryonic: u64,
    /// All flows there ever were, since the maps were created.
    pub total: u64,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Name of its service.
    pub service: String,
    /// Name, unique in the service.
    pub name: String,
    /// Address and port; port 0: the one that the client chose.
    pub address: SocketAddr,
    /// Whether it takes new flows only while no other backend of the service does.
    pub fallback: bool,
    /// Share of new flows relative to the other backends, as it is now.
    pub weight: u32,
    /// The same as the configuration has it.
    pub configured_weight: u32,
    /// `up`, `draining`, `down` or `unknown`.
    pub state: String,
    /// Why it is in this state.
    pub cause: String,
    /// What an operator decided beside the configuration; `null`: nothing.
    #[serde(rename = "override")]
    pub overridden: Option<OverrideStatus>,
    /// What the health check found; `null`: it is not checked.
    pub health: Option<HealthStatus>,
    /// Where packets to it are sent; `null`: that is not known yet.
    pub next_hop: Option<NextHopStatus>,
    /// Why there is no next hop.
    pub next_hop_problem: Option<String>,
    /// Established flows.
    pub active: u64,
    /// Flows that are not established yet.
    pub embryonic: u64,
    /// All flows that it ever was given, since its entry in the maps was created; so with the numbers below.
    pub total: u64,
    /// Packets sent to it.
    pub to_worker_packets: u64,
    /// Bytes sent to it.
    pub to_worker_bytes: u64,
    /// Packets from it, sent to clients.
    pub to_client_packets: u64,
    /// Bytes from it, sent to clients.
    pub to_client_bytes: u64,
}

/// What an operator decided about a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideStatus {
    /// `drain` or `disable`; `null`: neither.
    pub intent: Option<String>,
    /// Since when, see [`timestamp`].
    pub since: Option<String>,
    /// When the flows of a drain end at the latest, see [`timestamp`]; `null`: never.
    pub deadline: Option<String>,
    /// How long that is from now.
    pub seconds_left: Option<u64>,
    /// In place of the weight of the configuration.
    pub weight: Option<u32>,
}

/// What the health check of a backend found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// `up`, `down` or `unknown`.
    pub verdict: String,
    /// Since when, see [`timestamp`].
    pub since: String,
    /// Why, or what the last check said.
    pub cause: String,
    /// Why it is suspect, so that one failed check takes it down; `null`: it is not.
    #[serde(default)]
    pub suspect: Option<String>,
    /// How far checks that speak against the verdict have come; `null`: there are none.
    #[serde(default)]
    pub progress: Option<String>,
    /// What was wrong with the last check; `null`: nothing.
    #[serde(default)]
    pub last_failure: Option<String>,
    /// Checks since the controller started.
    pub checks: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How long the last one took, in milliseconds; `null`: there was none yet.
    pub last_duration_ms: Option<f64>,
}

/// Where packets to a backend are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextHopStatus {
    /// Interface.
    pub interface: String,
    /// Ethernet address, such as `02:00:00:00:00:01`.
    pub mac: String,
}

/// Some flows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowPage {
    /// The flows, in no order.
    pub flows: Vec<FlowStatus>,
    /// Where to go on, for `after` of the next request; `null`: there are no more.
    pub cursor: Option<String>,
}

/// How many flows there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCount {
    /// All that were asked for.
    pub total: u64,
    /// By phase.
    pub phases: BTreeMap<String, u64>,
    /// By name of the service; an empty one for services that are no longer in the configuration.
    pub services: BTreeMap<String, u64>,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowStatus {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The client.
    pub client: SocketAddr,
    /// What the client connected to.
    pub virtual_address: SocketAddr,
    /// Where packets to the backend come from: the NAT binding.
    pub source: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// Name of the service; empty if it is no longer in the configuration.
    pub service: String,
    /// Name of the backend; empty if it is no longer in the configuration.
    pub backend_name: String,
    /// How far the connection has come, such as `established`.
    pub phase: String,
    /// How long ago the last packet was, in milliseconds.
    pub idle_ms: u64,
}

/// What became of flows that were to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// Flows that were ended.
    pub ended: u64,
    /// Flows that stayed, because their packets came too fast.
    pub kept: u64,
}

/// Which flows are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Name of the service.
    pub service: Option<String>,
    /// Name of the backend, or its `address:port`.
    pub backend: Option<String>,
    /// Address of the client.
    pub client: Option<IpAddr>,
}

impl FlowFilter {
    /// Whether the flow is wanted.
    pub fn admits(&self, flow: &FlowStatus) -> bool {
        let service = self.service.as_ref().is_none_or(|name| *name == flow.service);
        let client = self.client.is_none_or(|client| client == flow.client.ip());
        let backend = self.backend.as_ref().is_none_or(|backend| {
            *backend == flow.backend_name || backend.parse().is_ok_and(|address: SocketAddr| address == flow.backend)
        });
        service && client && backend
    }
}

impl fmt::Display for FlowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.map(|client| client.to_string());
        let parts = [
            ("service", &self.service),
            ("backend", &self.backend),
            ("client", &client),
        ];
        let named: Vec<String> = parts
            .into_iter()
            .filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)))
            .collect();
        if named.is_empty() {
            f.write_str("all services")
        } else {
            f.write_str(&named.join(", "))
        }
    }
}
