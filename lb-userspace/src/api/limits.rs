//! Limits and defaults that the server enforces and `lbctl` knows.

/// Flows in one response when the request names no limit.
pub const DEFAULT_FLOW_LIMIT: usize = 100;

/// Most flows in one response.
pub const MAX_FLOW_LIMIT: usize = 100_000;

/// Events in one response when the request says nothing about a start.
pub const DEFAULT_EVENT_LIMIT: usize = 100;

/// Most events in one response. The daemon keeps as many, so one request can have all of them.
pub const MAX_EVENT_LIMIT: usize = 10_000;

/// Longest time that a request can wait for an event, in seconds.
pub const MAX_EVENT_WAIT: u64 = 60;
