//! Events as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Number of the event. The first one after the start of `lbd` is 1, and no number is left out.
    pub number: u64,
    /// Time, as RFC 3339 in UTC, to the millisecond.
    pub at: String,
    /// Kind of event, such as `backend-down`; docs/lbctl.md lists all kinds. A newer `lbd` may know
    /// more.
    pub kind: String,
    /// Name of the service that changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// Name of the backend that changed; it belongs to `service`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<String>,
    /// Name of the virtual router that changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vrrp: Option<String>,
    /// Name of the interface that changed, or that the virtual router uses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
    /// Cause of the change, or a description of it.
    pub cause: String,
}

/// Some events, and the place where the next request continues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// The place after the last event: the value of `after` in the next request.
    pub cursor: String,
    /// Reason why events are missing before the first one; `null` if none is missing.
    #[schema(required)]
    pub gap: Option<String>,
}
