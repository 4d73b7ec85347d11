//! `lbctl flow`

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::values;
use crate::api::limits::DEFAULT_FLOW_LIMIT;

/// Verbs of `flow`.
#[derive(Debug, Subcommand)]
pub enum FlowVerb {
    /// Show flows.
    List(FlowList),
    /// Count flows by phase and by service.
    Count(FlowChoice),
    /// End flows. Connections in `nat` and `dnat` mode are reset at once.
    Flush(FlowFlush),
}

/// Which flows to show.
#[derive(Debug, Args)]
pub struct FlowList {
    /// Which flows.
    #[command(flatten)]
    pub choice: FlowChoice,
    /// Most flows to show.
    #[arg(long, default_value_t = DEFAULT_FLOW_LIMIT, value_parser = values::at_least_one)]
    pub limit: usize,
    /// Continue at the `cursor` of an earlier JSON response.
    #[arg(long)]
    pub cursor: Option<u64>,
}

/// Which flows to end.
#[derive(Debug, Args)]
pub struct FlowFlush {
    /// Which flows.
    #[command(flatten)]
    pub choice: FlowChoice,
    /// End all flows; required if no other option chooses some.
    #[arg(long)]
    pub all: bool,
}

/// Which flows a command is about.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct FlowChoice {
    /// Only flows of this service.
    #[arg(long)]
    pub service: Option<String>,
    /// Only flows of this backend: SERVICE/BACKEND, the name of a backend, or ADDRESS:PORT.
    #[arg(long)]
    pub backend: Option<String>,
    /// Only flows of the client with this address.
    #[arg(long, value_parser = values::address)]
    pub client: Option<IpAddr>,
}
