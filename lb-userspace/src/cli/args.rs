//! The command line of `lbctl`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

/// Shows what a load balancer does.
///
/// Exit status: 0 done; 1 failed; 2 wrong usage; 3 the daemon cannot be reached; 4 not allowed.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show it again every so many seconds, by default 2, until interrupted; with --json, one line each time.
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = seconds)]
    pub watch: Option<Duration>,
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
    /// Admin API over TCP instead of the socket: https://HOST:PORT, or http:// where the network is trusted.
    #[arg(long, global = true, value_name = "URL", env = "LBCTL_ENDPOINT")]
    pub endpoint: Option<String>,
    /// File with the token for --endpoint.
    #[arg(long, global = true, value_name = "FILE", env = "LBCTL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates that --endpoint is trusted by, in PEM.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LBCTL_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt"
    )]
    pub ca_file: PathBuf,
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
    /// Print the completions of a shell, for example: lbctl completion bash > /etc/bash_completion.d/lbctl
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
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

fn seconds(text: &str) -> Result<Duration, String> {
    let expected = "expected seconds from 0.1 to 86400";
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(expected.to_owned()),
    }
}

impl Noun {
    /// Whether it only shows something, and so can be done again and again.
    pub(super) fn only_shows(&self) -> bool {
        matches!(
            self,
            Self::Node(NodeVerb::Status)
                | Self::Service(ServiceVerb::List | ServiceVerb::Show { .. })
                | Self::Backend(BackendVerb::List { .. })
                | Self::Flow(FlowVerb::List(_) | FlowVerb::Count(_))
                | Self::Map(MapVerb::List | MapVerb::Dump { .. })
        )
    }
}
