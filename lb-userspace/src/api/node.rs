//! The balancer itself as JSON.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The balancer itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Name of the node, from the configuration.
    pub name: String,
    /// Version of `lbd`.
    pub version: String,
    /// Process id of `lbd`.
    pub pid: u32,
    /// Time when `lbd` started, as RFC 3339 in UTC.
    pub started_at: String,
    /// Time since then, in seconds.
    pub uptime_seconds: u64,
    /// Path of the configuration file.
    #[schema(value_type = String)]
    pub config_path: PathBuf,
    /// Version of the layout of the BPF maps.
    pub map_abi: u32,
    /// The interfaces that the configuration names.
    pub interfaces: Vec<InterfaceStatus>,
    /// Number of services in each condition; see `condition` of a service.
    #[serde(default)]
    #[schema(required)]
    pub services: BTreeMap<String, u64>,
    /// Packets by outcome, counted since the maps were created.
    pub outcomes: BTreeMap<String, u64>,
    /// Fill level of the flow tables.
    pub flows: FlowTables,
    /// Result of keeping the maps in sync with the configuration.
    pub reconcile: ReconcileStatus,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
}

/// An interface that the configuration names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStatus {
    /// Name of the interface.
    pub name: String,
    /// Index in the kernel; 0 if the interface does not exist.
    pub ifindex: u32,
    /// How the XDP program is attached: `native`, `generic`, or `none` if it is not attached.
    pub xdp_mode: String,
    /// How the configuration asks for it: `auto`, `native` or `generic`.
    pub wanted_mode: String,
    /// What keeps packets from the program or makes it slow; `null` if nothing does.
    #[schema(required)]
    pub problem: Option<String>,
}

/// Fill level of the flow tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowTables {
    /// The table of IPv4 flows.
    pub v4: FlowTable,
    /// The table of IPv6 flows.
    pub v6: FlowTable,
}

/// Fill level of one flow table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowTable {
    /// Entries in use. A flow in `nat` mode uses two.
    pub entries: u64,
    /// Entries that fit into the table.
    pub capacity: u64,
}

/// Result of keeping the maps in sync with the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReconcileStatus {
    /// How often the maps were compared with the desired state since `lbd` started.
    pub runs: u64,
    /// Time of the last write to the maps, as RFC 3339 in UTC; `null` if there was none.
    #[schema(required)]
    pub last_change: Option<String>,
    /// Error of the last run; `null` if it succeeded.
    #[schema(required)]
    pub last_error: Option<String>,
}
