//! `bench failover`: the outage of a virtual address that moves, by event,
//! beside keepalived.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{machine, statistics};
use crate::{
    config::{Config, Service},
    keepalived::{self, Router},
    lab::{Lab, Plan},
    lbd::Lbd,
    prober::{Outage, Prober},
    process::Process,
    tools,
    topology::Subnet,
    wait,
    worker::Worker,
};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// How often each event happens.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Intervals of adverts, in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    intervals: Vec<u64>,
    /// Let the address have a link-layer address of its own that moves with it: `router_mac`, and
    /// keepalived's `use_vmac`.
    #[arg(long)]
    router_mac: bool,
}

/// From one request to the next.
const PAUSE: Duration = Duration::from_millis(2);
/// The time without an event before each event.
const CALM: Duration = Duration::from_millis(300);
/// The number of the address that moves, and of its virtual router.
const FLOATING: u8 = 200;

/// Who moves the address. The packets are in both cases `lbd`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Lbd,
    Keepalived,
}

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::Lbd => "lbd",
            Self::Keepalived => "keepalived",
        }
    }
}

/// What happens to the master, and what heals it: in pairs.
const EVENTS: [(&str, &str); 5] = [
    ("link-down", "failback"),
    ("partition", "heal"),
    ("node-kill", "failback"),
    ("stop", "failback"),
    ("daemon-kill", "failback"),
];

/// Measures.
///
/// # Errors
///
/// When the network cannot be built, or no balancer becomes master.
pub fn run(options: &Options) -> Result<()> {
    eprintln!("{}", machine::describe());
    let systems: &[System] = if tools::find("keepalived").is_some() {
        &[System::Lbd, System::Keepalived]
    } else {
        eprintln!("keepalived is not installed, and not measured");
        &[System::Lbd]
    };
    for interval in &options.intervals {
        for system in systems {
            measure(options, *system, Duration::from_millis(*interval))?;
        }
    }
    Ok(())
}

fn measure(options: &Options, system: System, interval: Duration) -> Result<()> {
    let lab = Lab::build(Plan {
        balancers: 2,
        ..Plan::default()
    })?;
    // Cards take no frames that are for others; these ones would, and forward them.
    lab.fabric.stop_flooding()?;
    let _workers = Worker::all(&lab);
    let mut pair = Pair::start(&lab, system, interval, options.router_mac)?;
    let mut found: Vec<(&str, Outage)> = Vec::new();
    for _ in 0..options.runs {
        for (event, mend) in EVENTS {
            found.push((event, pair.watch(|pair| pair.happen(event))?));
            found.push((mend, pair.watch(|pair| pair.mend(event))?));
        }
    }
    for event in [
        "link-down",
        "partition",
        "node-kill",
        "stop",
        "daemon-kill",
        "failback",
        "heal",
    ] {
        let of_event: Vec<_> = found
            .iter()
            .filter(|(name, _)| *name == event)
            .map(|(_, outage)| *outage)
            .collect();
        show(options, system, event, interval, &of_event);
    }
    Ok(())
}

/// Two balancers, of which the first is better.
struct Pair<'a> {
    lab: &'a Lab,
    system: System,
    interval: Duration,
    router_mac: bool,
    nodes: [Lbd<'a>; 2],
    others: [Option<Process>; 2],
}

fn floating() -> IpAddr {
    Subnet::Fabric.v4(FLOATING).into()
}

fn priority(index: usize) -> u8 {
    [200, 100][index]
}

impl<'a> Pair<'a> {
    fn start(lab: &'a Lab, system: System, interval: Duration, router_mac: bool) -> Result<Self> {
        let node = |index: usize| {
            let name = format!("node-{index}");
            let mut config = Config::new(lab, &name).with(Service::http(lab, "web", floating()));
            if system == System::Lbd {
                config.node_keys = format!(
                    "[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nrouter_id = {FLOATING}\naddresses = [\"{}/24\"]\n\
                     priority = {}\ninterval = \"{}ms\"\nrouter_mac = {router_mac}\n",
                    floating(),
                    priority(index),
                    interval.as_millis()
                );
            }
            Lbd::start(&lab.balancers[index], config)
        };
        let mut pair = Self {
            lab,
            system,
            interval,
            router_mac,
            nodes: [node(0)?, node(1)?],
            others: [None, None],
        };
        for index in 0..2 {
            pair.start_other(index)?;
        }
        pair.await_master(0)?;
        Ok(pair)
    }

    fn start_other(&mut self, index: usize) -> Result<()> {
        if self.system == System::Keepalived {
            let router = Router {
                number: FLOATING,
                address: floating(),
                priority: priority(index),
                interval: format!("{}", self.interval.as_secs_f64()),
                keys: if self.router_mac { "use_vmac" } else { "" }.to_owned(),
            };
            self.others[index] = Some(keepalived::start(
                self.lab,
                index,
                &format!("node-{index}"),
                3,
                &[router],
            )?);
        }
        Ok(())
    }

    /// Waits until a balancer has the address and the other one has not.
    fn await_master(&self, index: usize) -> Result<()> {
        let has = |index: usize| {
            let shown = self.lab.balancers[index].run_script("ip -o -4 address show");
            shown.is_ok_and(|text| text.contains(&format!(" {}/", floating())))
        };
        let settled = wait::until(wait::PATIENCE, || has(index) && !has(1 - index));
        ensure!(settled, "the address does not come to balancer {}", index + 1);
        Ok(())
    }

    /// Longer than a backup waits for a master.
    fn settle(&self) -> Duration {
        self.interval * 5 + Duration::from_millis(500)
    }

    /// What clients see of something that happens.
    fn watch(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Outage> {
        let target = SocketAddr::new(floating(), 80);
        let prober = Prober::start(&self.lab.client.namespace, target, PAUSE);
        thread::sleep(CALM);
        work(self)?;
        thread::sleep(self.settle());
        let outage = prober.stop();
        ensure!(outage.requests > outage.failed, "nobody answers any more");
        Ok(outage)
    }

    fn happen(&mut self, event: &str) -> Result<()> {
        let first = &self.lab.balancers[0];
        match event {
            "link-down" => self.lab.fabric.set_cable(first, false),
            "partition" => self.lab.fabric.set_silent(first, true),
            "node-kill" => {
                self.lab.fabric.set_silent(first, true)?;
                self.kill()
            }
            "stop" => match &mut self.others[0] {
                Some(other) => {
                    other.signal(Signal::SIGTERM)?;
                    other.wait(wait::PATIENCE).map(drop)
                }
                None => self.nodes[0].terminate().map(drop),
            },
            "daemon-kill" => self.kill(),
            other => unreachable!("no event {other}"),
        }
    }

    /// Kills what moves the address.
    fn kill(&mut self) -> Result<()> {
        match &mut self.others[0] {
            Some(other) => other.kill9(),
            None => self.nodes[0].kill9(),
        }
    }

    fn mend(&mut self, event: &str) -> Result<()> {
        let first = &self.lab.balancers[0];
        match event {
            "link-down" => self.lab.fabric.set_cable(first, true)?,
            "partition" => self.lab.fabric.set_silent(first, false)?,
            "node-kill" => {
                self.lab.fabric.set_silent(first, false)?;
                self.restart()?;
            }
            _ => self.restart()?,
        }
        self.await_master(0)
    }

    fn restart(&mut self) -> Result<()> {
        match self.system {
            System::Lbd => self.nodes[0].restart(),
            System::Keepalived => self.start_other(0),
        }
    }
}

fn show(options: &Options, system: System, event: &str, interval: Duration, found: &[Outage]) {
    let outages: Vec<f64> = found.iter().map(|outage| outage.longest.as_secs_f64() * 1e3).collect();
    let failed: Vec<f64> = found.iter().map(|outage| outage.failed as f64).collect();
    let summary = |figures: &[f64]| -> Value {
        let round = |figure: f64| (figure * 10.0).round() / 10.0;
        json!({
            "min": round(statistics::minimum(figures)),
            "median": round(statistics::median(figures.to_vec())),
            "max": round(figures.iter().copied().fold(0.0, f64::max)),
        })
    };
    let line = json!({
        "system": system.name(),
        "event": event,
        "interval_ms": interval.as_millis() as u64,
        "runs": found.len(),
        "outage_ms": summary(&outages),
        "failed": summary(&failed),
    });
    if options.json {
        println!("{line}");
    } else {
        let of = |key: &str| {
            let summary = &line[key];
            format!("{:>7} {:>7} {:>7}", summary["min"], summary["median"], summary["max"])
        };
        println!(
            "{:<10} {event:<11} {:>4} ms {:>3} runs   outage ms {}   failed {}",
            system.name(),
            interval.as_millis(),
            found.len(),
            of("outage_ms"),
            of("failed")
        );
    }
}
