//! What integration tests, the demo and the benches are built from: networks, processes, clients
//! and servers.
//!
//! A value owns what it creates and removes it on drop. What a killed run left behind is removed by
//! the next run.

pub mod bench;
pub mod bpffs;
pub mod client;
pub mod config;
pub mod content;
pub mod decap;
pub mod demo;
pub mod fixture;
pub mod floating;
pub mod forwarding;
pub mod frr;
pub mod fuzz;
pub mod hammer;
pub mod keepalived;
pub mod kernel;
pub mod lab;
pub mod lbd;
pub mod model;
pub mod netns;
pub mod packet;
pub mod prober;
pub mod process;
pub mod program;
pub mod smoke;
pub mod testrun;
pub mod tools;
pub mod topology;
pub mod udp;
pub mod wait;
pub mod witness;
pub mod worker;
pub mod xdp_pass;

/// Whether tests take as long as they take at night: `cargo xtask test --all` says so in the
/// environment.
#[must_use]
pub fn is_nightly() -> bool {
    std::env::var_os("LBD_NIGHTLY").is_some()
}
