//! The command line of `lbctl`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

/// Shows what a load balancer does.
///
/// Exit status: 0 done; 1 failed; 2 wrong usage; 3 the daemon cannot be reached.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub noun: Noun,
}

/// Which node is meant.
#[derive(Debug, Args)]
pub struct Place {
    /// Configuration file of the node; says where its socket and its maps are.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/lbd/lbd.toml")]
    pub config: PathBuf,
    /// Admin socket of the node, instead of what the configuration says.
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Mount point of the BPF file system with the node's maps, together with --node instead of the configuration.
    #[arg(long, global = true, value_name = "PATH", requires = "node")]
    pub bpffs: Option<PathBuf>,
    /// Name of the node whose maps to read, together with --bpffs.
    #[arg(long, global = true, value_name = "NAME", requires = "bpffs")]
    pub node: Option<String>,
}

/// What a command is about.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// The balancer itself.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Services.
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Backends.
    #[command(subcommand)]
    Backend(BackendVerb),
    /// Flows.
    #[command(subcommand)]
    Flow(FlowVerb),
    /// Maps, read directly: these work without the daemon too.
    #[command(subcommand)]
    Map(MapVerb),
}

/// Verbs of `node`.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Show interfaces, flow tables, warnings, and what became of packets.
    Status,
}

/// Verbs of `service`.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Show all services.
    List,
    /// Show one service.
    Show {
        /// Its name.
        name: String,
    },
}

/// Verbs of `backend`.
#[derive(Debug, Subcommand)]
pub enum BackendVerb {
    /// Show backends with state, cause and flows.
    List {
        /// Only those of this service.
        service: Option<String>,
    },
}

/// Verbs of `flow`.
#[derive(Debug, Subcommand)]
pub enum FlowVerb {
    /// Show flows.
    List(FlowList),
    /// Count flows, by phase and by service.
    Count(FlowChoice),
}

/// Which flows to show.
#[derive(Debug, Args)]
pub struct FlowList {
    #[command(flatten)]
    pub choice: FlowChoice,
    /// How many at most.
    #[arg(long)]
    pub limit: Option<usize>,
}

/// Which flows are meant.
#[derive(Debug, Args)]
pub struct FlowChoice {
    /// Only those of this service.
    #[arg(long)]
    pub service: Option<String>,
    /// Only those of this backend: its name, or `address:port`.
    #[arg(long)]
    pub backend: Option<String>,
    /// Only those of this client.
    #[arg(long)]
    pub client: Option<IpAddr>,
}

/// Verbs of `map`.
#[derive(Debug, Subcommand)]
pub enum MapVerb {
    /// Show all maps.
    List,
    /// Show the entries of a map that are in use.
    Dump {
        /// Name of the map.
        name: String,
        /// How many at most.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
}
