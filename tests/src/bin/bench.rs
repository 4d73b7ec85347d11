//! `cargo xtask bench`: how fast the product is.

use clap::{Parser, Subcommand};
use harness::bench::{failover, flows, health, http, idle, packets, plot, scale};

/// Measures how fast the load balancer is.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Nanoseconds per packet of the XDP program, against floor programs.
    Packets(packets::Options),
    /// How the cost of a packet grows with services, backends and flows, and how long a change
    /// takes.
    Scale(packets::Options),
    /// A picture, as SVG on standard output, of what `packets --json` prints, given on standard
    /// input.
    Plot,
    /// How long `lbctl` takes to list, filter and count the flows of a full table, and to end them.
    Flows(flows::Options),
    /// The outage of a virtual address that moves, beside keepalived.
    Failover(failover::Options),
    /// Processor time of health checks of many backends.
    Health(health::Options),
    /// CPU and memory of the daemon while nothing happens, with one service and with a thousand.
    Idle(idle::Options),
    /// Requests per second and CPU per request, beside a direct connection, nftables and HAProxy.
    Http(http::Options),
}

fn main() -> anyhow::Result<()> {
    harness::tools::require_root()?;
    match Arguments::parse().what {
        What::Packets(options) => packets::run(&options),
        What::Scale(options) => scale::run(&options),
        What::Plot => plot::run(),
        What::Flows(options) => flows::run(&options),
        What::Failover(options) => failover::run(&options),
        What::Health(options) => health::run(&options),
        What::Idle(options) => idle::run(&options),
        What::Http(options) => http::run(&options),
    }
}
