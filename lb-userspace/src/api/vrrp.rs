//! Virtual routers as JSON.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A virtual router of this balancer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VrrpStatus {
    /// Name of the virtual router.
    pub name: String,
    /// Name of the interface.
    pub interface: String,
    /// Virtual router id (VRID), 1 to 255.
    pub router_id: u8,
    /// VRRP version: 2 or 3.
    pub version: u8,
    /// Virtual addresses, with prefix lengths.
    pub addresses: Vec<String>,
    /// Role of this balancer: `master`, `backup`, `initialize` (it starts, waits or stops) or
    /// `fault`.
    pub role: String,
    /// Time when the role began, as RFC 3339 in UTC.
    pub since: String,
    /// Cause of the role.
    pub cause: String,
    /// Name of the sync group; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// Configured priority, 1 to 255.
    pub priority: u8,
    /// Priority in force: the configured one with the weights of the tracks.
    pub effective_priority: u8,
    /// Whether an operator keeps this balancer backup (`lbctl vrrp maintain`).
    pub maintained: bool,
    /// Advertisement interval, in milliseconds.
    pub interval_ms: u64,
    /// Address of the master that is heard; `null` if none is.
    #[schema(value_type = Option<String>, required)]
    pub master: Option<IpAddr>,
    /// Priority of that master.
    #[schema(required)]
    pub master_priority: Option<u8>,
    /// Whether the adverts of that master are missing while its packet path still answers echoes.
    pub graced: bool,
    /// Echoes sent to the packet path of the master.
    pub asked: u64,
    /// Echoes that it answered.
    pub answered: u64,
    /// Conditions that the virtual router depends on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tracks: Vec<TrackStatus>,
    /// Adverts sent.
    pub sent: u64,
    /// Valid adverts received.
    pub received: u64,
    /// Invalid adverts received, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// A condition that a virtual router depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrackStatus {
    /// What is tracked, such as `service web`.
    pub what: String,
    /// Whether the condition holds.
    pub up: bool,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// Change of the priority: a negative weight is added while the condition fails, a positive one
    /// while it holds. Absent: the virtual router is in fault while the condition fails.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<i16>,
}
