//! `bench flows`: how long `lbctl` takes to list, filter and count the flows of a full table, and
//! to end them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramInfo;
use serde_json::{Value, json};

use super::machine;
use crate::{
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    packet::{ACK, Packet},
    testrun,
};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// How many flows there are.
    #[arg(long, default_value_t = 1_000_000)]
    flows: u32,
}

/// Flows of one client.
const FLOWS_OF_CLIENT: u32 = 10_000;

/// Measures.
///
/// # Errors
///
/// When the network cannot be built, or `lbctl` shows other flows than the table has.
pub fn run(options: &Options) -> Result<()> {
    eprintln!("{}", machine::describe());
    let lab = Lab::new()?;
    let [v4, _] = virtual_addresses(0);
    let service = Service::http(&lab, "web", v4).mode("dsr").keys("syn_flood_rate = 0\n");
    let mut config = Config::new(&lab, "one").with(service);
    // Twice the capacity, so that none is refused.
    config.node_keys = format!("[node.capacity]\nflows_v4 = {}\n", 2 * options.flows.max(16));
    let lbd = Lbd::start(&lab.balancers[0], config)?;
    fill(&lab, &lbd, v4, options.flows)?;

    let all = u64::from(options.flows);
    let some = u64::from(options.flows.min(FLOWS_OF_CLIENT));
    let limit = options.flows.to_string();
    let client = client(0).ip().to_string();
    let count = |answer: &Value| answer["total"].as_u64();
    let list = |answer: &Value| answer["flows"].as_array().map(|flows| flows.len() as u64);
    let ended = |answer: &Value| answer["ended"].as_u64();
    let one = |arguments: &[&str], of: &dyn Fn(&Value) -> Option<u64>, expected: u64| {
        measure(options, &lbd, arguments, of, expected)
    };
    one(&["flow", "count"], &count, all)?;
    one(&["flow", "count", "--service", "web"], &count, all)?;
    one(&["flow", "count", "--client", &client], &count, some)?;
    one(&["flow", "list"], &list, all.min(100))?;
    one(&["flow", "list", "--client", &client, "--limit", &limit], &list, some)?;
    one(&["flow", "list", "--limit", &limit], &list, all)?;
    one(&["flow", "flush", "--client", &client], &ended, some)?;
    one(&["flow", "flush", "--all"], &ended, all - some)
}

/// Begins flows by packets that the program of the node gets in test runs.
fn fill(lab: &Lab, lbd: &Lbd<'_>, service: IpAddr, flows: u32) -> Result<()> {
    let version = lbd.lbctl(&["node", "status"])?["map_abi"]
        .as_u64()
        .context("no version of the maps")?;
    let pin = lab.bpffs().join(format!("lbd/one/v{version}/program"));
    let program = ProgramInfo::from_pin(&pin)
        .with_context(|| pin.display().to_string())?
        .fd()?;
    for flow in 0..flows {
        let packet = Packet::tcp(client(flow), SocketAddr::new(service, 80), ACK);
        testrun::run(&program, &packet.bytes(), 1)?;
    }
    Ok(())
}

fn client(flow: u32) -> SocketAddr {
    let port = 20_000 + (flow % FLOWS_OF_CLIENT) as u16;
    (Ipv4Addr::from(0x0a58_0000 + flow / FLOWS_OF_CLIENT), port).into()
}

/// Runs `lbctl` once, and checks the number of flows that it prints.
fn measure(
    options: &Options,
    lbd: &Lbd<'_>,
    arguments: &[&str],
    of: &dyn Fn(&Value) -> Option<u64>,
    expected: u64,
) -> Result<()> {
    let begin = Instant::now();
    let text = lbd.lbctl_text(arguments)?;
    let seconds = begin.elapsed().as_secs_f64();
    let answer = serde_json::from_str(&text).context("no JSON")?;
    let what = arguments.join(" ");
    ensure!(
        of(&answer) == Some(expected),
        "`{what}` reports {:?} flows, not {expected}",
        of(&answer)
    );
    if options.json {
        println!("{}", json!({ "what": what, "flows": expected, "seconds": seconds }));
    } else {
        println!("{what:<52} {expected:>8} flows {seconds:>6.2} s");
    }
    Ok(())
}
