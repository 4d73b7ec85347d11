//! `bench http`: requests per second and their CPU time, beside other balancers on the same
//! network.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{machine, statistics};
use crate::{
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    process::Process,
    tools,
    topology::Host,
    wait::eventually,
    worker::Worker,
};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// How long each run takes.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often each system is measured, in turn with the others.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// A result: medians over the rounds.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    system: &'static str,
    pattern: &'static str,
    requests_per_s: f64,
    cpu_s_per_100k: f64,
    rounds: usize,
}

const SYSTEMS: [(&str, &str); 4] = [
    ("direct", "wrk"),
    ("lbd", "wrk"),
    ("nftables", "nft"),
    ("haproxy", "haproxy"),
];
const PATTERNS: [&str; 2] = ["keep-alive", "per-request"];
const PORT: u16 = 80;
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures all systems.
///
/// # Errors
///
/// When the network cannot be built, or a system does not serve. One that is not installed is
/// skipped by name.
pub fn run(options: &Options) -> Result<()> {
    tools::require(&["wrk"])?;
    eprintln!("{}", machine::describe());
    eprintln!("CPU seconds are those of the whole machine during a run, client and workers included");
    let mut samples = Vec::new();
    for _ in 0..options.rounds {
        for (system, tool) in SYSTEMS {
            if tools::find(tool).is_some() {
                samples.extend(measure(system, options)?);
            }
        }
    }
    report(options, &samples)
}

/// Measures a system once, on a network of its own: workers keep TIME-WAIT for connections of the
/// system before, which another one's translated ports would run into.
fn measure(system: &'static str, options: &Options) -> Result<Vec<Sample>> {
    let lab = Lab::new()?;
    // Tens of thousands of connections a run to one address would leave the client without ports
    // for a minute.
    lab.client.namespace.sysctl("ipv4/tcp_tw_reuse", "1")?;
    let _workers = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, PORT))
        .collect::<Result<Vec<_>>>()?;
    let _running = Running::start(system, &lab)?;
    let sample = |pattern| Ok((system, pattern, load(&lab, system, pattern, options.seconds)?));
    PATTERNS.into_iter().map(sample).collect()
}

type Sample = (&'static str, &'static str, (f64, f64));

fn report(options: &Options, samples: &[Sample]) -> Result<()> {
    if !options.json {
        println!(
            "{:<10} {:<12} {:>11} {:>15}",
            "system", "pattern", "requests/s", "CPU s per 100k"
        );
    }
    for pattern in PATTERNS {
        for (system, tool) in SYSTEMS {
            let own: Vec<_> = samples
                .iter()
                .filter(|sample| (sample.0, sample.1) == (system, pattern))
                .map(|sample| sample.2)
                .collect();
            if own.is_empty() {
                let skipped = format!("not installed: {tool}");
                if options.json {
                    println!(
                        "{}",
                        serde_json::json!({ "system": system, "pattern": pattern, "skipped": skipped })
                    );
                } else {
                    println!("{system:<10} {pattern:<12} skipped: {skipped}");
                }
                continue;
            }
            let figure = Figure {
                system,
                pattern,
                requests_per_s: statistics::median(own.iter().map(|sample| sample.0).collect()).round(),
                cpu_s_per_100k: (statistics::median(own.iter().map(|sample| sample.1).collect()) * 100.0).round()
                    / 100.0,
                rounds: own.len(),
            };
            if options.json {
                println!("{}", serde_json::to_string(&figure)?);
            } else {
                println!(
                    "{system:<10} {pattern:<12} {:>11.0} {:>15.2}",
                    figure.requests_per_s, figure.cpu_s_per_100k
                );
            }
        }
    }
    Ok(())
}

/// A system that balances; ends when it is dropped.
enum Running<'a> {
    Nothing,
    Lbd(#[expect(dead_code, reason = "ends when it is dropped")] Box<Lbd<'a>>),
    Nftables(&'a Host),
    Haproxy(#[expect(dead_code, reason = "ends when it is dropped")] Process),
}

impl<'a> Running<'a> {
    fn start(system: &str, lab: &'a Lab) -> Result<Self> {
        let host = &lab.balancers[0];
        let [virtual_address, _] = virtual_addresses(0);
        let workers = lab.worker_addresses(virtual_address, PORT);
        let running = match system {
            "direct" => return Ok(Self::Nothing),
            "lbd" => {
                let config = Config::new(lab, "bench").with(Service::http(lab, "web", virtual_address));
                let lbd = Lbd::start(host, config)?;
                lbd.await_all_up("web");
                Self::Lbd(Box::new(lbd))
            }
            "nftables" => {
                host.namespace.sysctl("ipv4/ip_forward", "1")?;
                let rules = format!(
                    "table ip bench {{\n chain in {{ type nat hook prerouting priority -100;\n  ip daddr {virtual_address} tcp dport {PORT} dnat to numgen inc mod 2 map {{ 0 : {}, 1 : {} }}\n }}\n chain out {{ type nat hook postrouting priority 100;\n  ct status dnat masquerade\n }}\n}}\n",
                    workers[0].ip(),
                    workers[1].ip()
                );
                let mut nft = host.namespace.command("nft");
                nft.args(["-f", "-"]);
                tools::output_with_input(&mut nft, &rules)?;
                Self::Nftables(host)
            }
            _ => {
                let path = lab.directory().join("haproxy.cfg");
                let text = format!(
                    "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\nlisten web\n bind {virtual_address}:{PORT}\n balance roundrobin\n server a {}\n server b {}\n",
                    workers[0], workers[1]
                );
                fs::write(&path, text).context("cannot write the configuration of HAProxy")?;
                let mut command = host.namespace.command("haproxy");
                command.args(["-db", "-f"]).arg(&path);
                Self::Haproxy(Process::start("haproxy", command)?)
            }
        };
        eventually(PATIENCE, "the system serves", || probe(lab, &url(lab, system)));
        Ok(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Self::Nftables(host) = self {
            let _ = tools::output(host.namespace.command("nft").args(["delete", "table", "ip", "bench"]));
            let _ = host.namespace.sysctl("ipv4/ip_forward", "0");
        }
    }
}

fn url(lab: &Lab, system: &str) -> String {
    let [virtual_address, _] = virtual_addresses(0);
    let address = if system == "direct" {
        lab.workers[0].v4()
    } else {
        virtual_address
    };
    format!("http://{address}:{PORT}/")
}

fn probe(lab: &Lab, url: &str) -> bool {
    let mut curl = lab.client.namespace.command("curl");
    curl.args(["-s", "-o", "/dev/null", "-m", "1", url]);
    curl.status().is_ok_and(|status| status.success())
}

/// Requests per second, and CPU seconds per 100,000 requests.
fn load(lab: &Lab, system: &str, pattern: &str, seconds: u64) -> Result<(f64, f64)> {
    let mut wrk = lab.client.namespace.command("wrk");
    wrk.args(["-t", "1", "-c", "32", "-d", &format!("{seconds}s")]);
    if pattern == "per-request" {
        wrk.args(["-H", "Connection: close"]);
    }
    wrk.arg(url(lab, system));
    let (begin, busy) = (Instant::now(), machine::busy_seconds()?);
    let output = output(&mut wrk)?;
    let (elapsed, busy) = (begin.elapsed().as_secs_f64(), machine::busy_seconds()? - busy);
    let requests: f64 = output
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
        .with_context(|| format!("wrk said no number of requests: {output}"))?;
    ensure!(requests > 0.0, "{system} served nothing: {output}");
    Ok((requests / elapsed, busy * 100_000.0 / requests))
}

fn output(command: &mut Command) -> Result<String> {
    tools::output(command)
}
