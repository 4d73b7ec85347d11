//! `cargo xtask bench`: how fast the product is.

use clap::{Parser, Subcommand};
use harness::bench::{http, packets};

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
    /// Requests per second and CPU per request, beside a direct connection, nftables and HAProxy.
    Http(http::Options),
}

fn main() -> anyhow::Result<()> {
    harness::tools::require_root()?;
    match Arguments::parse().what {
        What::Packets(options) => packets::run(&options),
        What::Http(options) => http::run(&options),
    }
}
