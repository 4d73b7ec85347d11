//! The command line of `lbctl`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser},
};
use clap_complete::engine::ArgValueCandidates;

use super::complete;
use crate::{
    admin::model::{DEFAULT_FLOW_LIMIT, MAX_EVENT_LIMIT},
    events::Kind,
};

/// Where help shows options about output.
const OUTPUT: &str = "Output";

/// Shows what a load balancer does.
///
/// Exit status: 0 done; 1 failed; 2 wrong usage; 3 the daemon cannot be reached; 4 not allowed.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Where to look.
    #[command(flatten, next_help_heading = "Which node")]
    pub place: Place,
    /// Print JSON.
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub json: bool,
    /// Show it again every so many seconds, by default 2, until interrupted; with --json, one line each time.
    #[arg(long, global = true, help_heading = OUTPUT, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
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
    /// Virtual routers: who has the virtual addresses.
    #[command(subcommand)]
    Vrrp(VrrpVerb),
    /// What happened, and why.
    #[command(subcommand)]
    Event(EventVerb),
    /// Say which backend a packet would get or has, through which stages, and why.
    Explain(ExplainArguments),
    /// Put the configuration file into force, all of it or nothing.
    Reload(ReloadArguments),
    /// Maps, read directly: these work without the daemon too.
    #[command(subcommand)]
    Map(MapVerb),
    /// Print the completions of a shell, for example: lbctl completion bash > /etc/bash_completion.d/lbctl
    ///
    /// Those of bash, zsh and fish ask the daemon for names of services and backends, where it answers at once.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
        /// Without names: the shell asks nobody.
        #[arg(long = "static")]
        fixed: bool,
    },
}

/// Verbs of `node`.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Show interfaces, flow tables, warnings, and what became of packets.
    Status,
}

/// Verbs of `vrrp`.
#[derive(Debug, Subcommand)]
pub enum VrrpVerb {
    /// Show what this balancer is to each virtual router, and why.
    Status,
    /// Hand over now; this balancer lets others be master for some intervals, and takes part again then.
    Release {
        /// Name of the virtual router.
        name: String,
    },
    /// Become master now; a master of higher priority takes it back.
    Take {
        /// Name of the virtual router.
        name: String,
    },
    /// Hand over, and stay backup until `resume`, across restarts. All of its group do.
    Maintain {
        /// Name of the virtual router.
        name: String,
    },
    /// Take part again, after `maintain`.
    Resume {
        /// Name of the virtual router.
        name: String,
    },
}

/// Verbs of `service`.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Show all services.
    List,
    /// Show one service.
    Show {
        /// Its name.
        #[arg(add = ArgValueCandidates::new(complete::services))]
        name: String,
    },
}

/// Verbs of `backend`.
#[derive(Debug, Subcommand)]
pub enum BackendVerb {
    /// Show backends with state, cause and flows.
    List {
        /// Only those of this service.
        #[arg(add = ArgValueCandidates::new(complete::services))]
        service: Option<String>,
    },
    /// Give a backend no new flows; its old ones go on.
    Drain {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
        /// After this time what is left is treated as `on_backend_down` of the service says, such as 5m.
        #[arg(long, value_name = "DURATION")]
        deadline: Option<String>,
        /// Stay, and show how many flows are left, until there are none.
        #[arg(long)]
        wait: bool,
    },
    /// Give a drained backend new flows again.
    Undrain {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
    },
    /// Treat a backend as down, whatever its health.
    Disable {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
    },
    /// Treat a disabled backend as what its health says again.
    Enable {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
    },
    /// Give a backend another weight than the configuration does.
    Weight {
        /// Which one, as SERVICE/BACKEND.
        #[arg(add = ArgValueCandidates::new(complete::targets))]
        target: BackendName,
        /// The weight, 0 to 1000; 0: no new flows.
        #[arg(required_unless_present = "reset", conflicts_with = "reset",
              value_parser = clap::value_parser!(u32).range(0..=1000))]
        weight: Option<u32>,
        /// Back to the weight of the configuration.
        #[arg(long)]
        reset: bool,
    },
}

/// The words of all kinds of events.
fn kinds() -> PossibleValuesParser {
    let value = |kind: &Kind| PossibleValue::new(kind.word()).help(kind.sentence());
    PossibleValuesParser::new(Kind::ALL.iter().map(value))
}

fn address_and_port(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80";
    text.parse().map_err(|_| expected.to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1 on".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn some_events(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number <= MAX_EVENT_LIMIT => Ok(number),
        _ => Err(format!("expected a whole number from 0 to {MAX_EVENT_LIMIT}")),
    }
}

/// A backend by the names of its service and its own.
#[derive(Clone, Debug)]
pub struct BackendName {
    /// Name of the service.
    pub service: String,
    /// Name of the backend.
    pub backend: String,
}

impl std::str::FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((service, backend)) if !service.is_empty() && !backend.is_empty() => Ok(Self {
                service: service.to_owned(),
                backend: backend.to_owned(),
            }),
            _ => Err("expected SERVICE/BACKEND, such as web/w1".to_owned()),
        }
    }
}

/// Verbs of `event`.
#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// Show the last events.
    List {
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = some_events)]
        limit: usize,
        /// Only those of this kind among the last 1000; can be given several times.
        #[arg(long, value_parser = kinds())]
        kind: Vec<String>,
    },
    /// Show events as they happen, until interrupted; with --json one object a line.
    Follow {
        /// Begin with so many that happened before.
        #[arg(long, default_value_t = 10, value_parser = some_events)]
        last: usize,
        /// Only those of this kind; can be given several times.
        #[arg(long, value_parser = kinds())]
        kind: Vec<String>,
    },
}

/// A packet.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// tcp or udp.
    #[arg(value_parser = ["tcp", "udp"])]
    pub protocol: String,
    /// Where it comes from: address and port.
    #[arg(value_parser = address_and_port)]
    pub client: SocketAddr,
    /// Where it goes to: virtual address and port.
    #[arg(value_parser = address_and_port, add = ArgValueCandidates::new(complete::virtual_addresses))]
    pub virtual_address: SocketAddr,
}

/// How to reload.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
}

/// Verbs of `flow`.
#[derive(Debug, Subcommand)]
pub enum FlowVerb {
    /// Show flows.
    List(FlowList),
    /// Count flows, by phase and by service.
    Count(FlowChoice),
    /// End flows; those of `nat` and `dnat` are reset at once.
    Flush(FlowFlush),
}

/// Which flows to show.
#[derive(Debug, Args)]
pub struct FlowList {
    #[command(flatten)]
    pub choice: FlowChoice,
    /// How many at most.
    #[arg(long, default_value_t = DEFAULT_FLOW_LIMIT, value_parser = at_least_one)]
    pub limit: usize,
}

/// Which flows to end.
#[derive(Debug, Args)]
pub struct FlowFlush {
    #[command(flatten)]
    pub choice: FlowChoice,
    /// All there are, where nothing else says which.
    #[arg(long)]
    pub all: bool,
}

/// Which flows are meant.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct FlowChoice {
    /// Only those of this service.
    #[arg(long, add = ArgValueCandidates::new(complete::services))]
    pub service: Option<String>,
    /// Only those of this backend: its name, or `address:port`.
    #[arg(long, add = ArgValueCandidates::new(complete::backends))]
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
    /// Show how full all maps are, and how much memory they take.
    Stats,
    /// Show the entries of a map that are in use.
    Dump {
        /// Name of the map.
        #[arg(add = ArgValueCandidates::new(complete::map_names))]
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
                | Self::Event(EventVerb::List { .. })
                | Self::Explain(_)
                | Self::Map(MapVerb::List | MapVerb::Stats | MapVerb::Dump { .. })
        )
    }
}
