//! The nouns of `lbctl`, and the verbs of those that have few.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::{BackendVerb, FlowVerb, values};

/// What a command is about.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Show the state of this balancer.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Show services.
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Show and drain backends, disable them, or change their weights.
    #[command(subcommand)]
    Backend(BackendVerb),
    /// Show, count or end flows (tracked connections).
    #[command(subcommand)]
    Flow(FlowVerb),
    /// Show virtual routers, and move their addresses between balancers.
    #[command(subcommand)]
    Vrrp(VrrpVerb),
    /// Show events: what changed, and why.
    #[command(subcommand)]
    Event(EventVerb),
    /// Show which backend a packet goes to, through which stages, and why.
    Explain(ExplainArguments),
    /// Apply the changed configuration file; if it has an error, nothing changes.
    Reload(ReloadArguments),
    /// Read the BPF maps of this machine; works without lbd.
    #[command(subcommand)]
    Map(MapVerb),
    /// Print shell completions, for example: lbctl completion bash > /etc/bash_completion.d/lbctl
    ///
    /// Completions for bash, zsh and fish ask lbd for the names of services and backends.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
        /// Print completions that do not ask lbd for names.
        #[arg(long = "static")]
        fixed: bool,
    },
}

/// Verbs of `node`.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Show interfaces, flow tables, warnings, and packets by outcome.
    Status,
}

/// Verbs of `service`.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Show all services.
    List,
    /// Show one service and its backends.
    Show {
        /// Name of the service.
        name: String,
    },
}

/// Verbs of `vrrp`.
#[derive(Debug, Subcommand)]
pub enum VrrpVerb {
    /// Show the role of this balancer in each virtual router, and its cause.
    Status,
    /// Hand the addresses over now. This balancer may become master again after a few intervals.
    Release {
        /// Name of the virtual router.
        name: String,
    },
    /// Become master now. A master with a higher priority takes the addresses back.
    Take {
        /// Name of the virtual router.
        name: String,
    },
    /// Hand over and stay backup until `resume`, also after a restart; applies to the whole sync
    /// group.
    Maintain {
        /// Name of the virtual router.
        name: String,
    },
    /// End `maintain`.
    Resume {
        /// Name of the virtual router.
        name: String,
    },
}

/// Verbs of `event`.
#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// Show the newest events.
    List {
        /// Most events to show.
        #[arg(long, default_value_t = 100, value_parser = values::number_of_events)]
        limit: usize,
        /// Show only this kind; may be repeated.
        #[arg(long, value_parser = values::kinds())]
        kind: Vec<String>,
    },
    /// Show events as they happen, until interrupted; with --json, one object per line.
    Follow {
        /// Number of earlier events to show first.
        #[arg(long, default_value_t = 10, value_parser = values::number_of_events)]
        last: usize,
        /// Show only this kind; may be repeated.
        #[arg(long, value_parser = values::kinds())]
        kind: Vec<String>,
    },
}

/// Verbs of `map`.
#[derive(Debug, Subcommand)]
pub enum MapVerb {
    /// Show all maps.
    List,
    /// Show how full the maps are, and how much memory they use.
    Stats,
    /// Show the used entries of a map.
    Dump {
        /// Name of the map.
        name: String,
        /// Most entries to show.
        #[arg(long, default_value_t = 1000, value_parser = values::at_least_one)]
        limit: usize,
    },
}

/// The packet that `explain` is about.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Protocol of the packet.
    #[arg(value_parser = ["tcp", "udp"])]
    pub protocol: String,
    /// Source of the packet: address and port of the client.
    #[arg(value_parser = values::address_and_port)]
    pub client: SocketAddr,
    /// Destination of the packet: virtual address and port.
    #[arg(value_parser = values::address_and_port)]
    pub virtual_address: SocketAddr,
}

/// Options of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}
