//! The demo of failover: two balancers, of which the master dies under load, and comes back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    floating::{config, floating, roles},
    lab::{Lab, Plan},
    lbd::{Lbd, binary},
    prober::Prober,
    tools, wait,
    worker::Worker,
};

/// From one new connection to the next.
const PAUSE: Duration = Duration::from_millis(2);
const STEP: Duration = Duration::from_millis(50);
const LINE: Duration = Duration::from_secs(1);
/// Priorities of the two.
const PRIORITIES: [u8; 2] = [200, 100];
const KEYS: &str = "interval = \"10ms\"\ngroup = \"front\"\n";

/// When a balancer changed its role.
#[derive(Clone, Debug, Serialize)]
pub struct RoleChange {
    /// Milliseconds since the demo began.
    pub at_ms: u64,
    /// `lb1` or `lb2`.
    pub balancer: String,
    /// `master`, `backup`, `initialize`, `fault` or `dead`.
    pub role: String,
}

/// What a run ends with.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Requests, each on a new connection.
    pub requests: u64,
    /// Requests without a response, as the prober counts them.
    pub failed: u64,
    /// The longest time between the beginnings of two requests that were answered.
    pub outage_ms: f64,
    /// Every change of a role that was seen.
    pub roles: Vec<RoleChange>,
}

impl Summary {
    /// Whether the address moved to the second balancer, and back to the first.
    pub fn is_success(&self) -> bool {
        let was_master = |name: &str| {
            self.roles
                .iter()
                .any(|change| change.balancer == name && change.role == "master")
        };
        let last = self.roles.iter().rev().find(|change| change.balancer == "lb1");
        was_master("lb2") && last.is_some_and(|last| last.role == "master") && self.requests > self.failed
    }
}

/// Runs it for `seconds`, or until `stop` is set; shows itself on standard output.
///
/// # Errors
///
/// When the machine lacks a right, a tool or a kernel feature, or `lbd` does not start.
pub fn run(seconds: u32, stop: &AtomicBool) -> Result<Summary> {
    tools::require_root()?;
    binary("lbd").and(binary("lbctl"))?;
    println!("building a network: one client, two balancers, two workers on a bridge");
    let lab = Lab::build(Plan {
        balancers: 2,
        ..Plan::default()
    })?;
    // Cards take no frames that are for others; these ones would, and forward them.
    lab.fabric.stop_flooding()?;
    let _workers: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 80))
        .collect::<Result<_>>()?;
    let node = |index: usize| Lbd::start(&lab.balancers[index], config(&lab, index, PRIORITIES[index], KEYS));
    let mut first = node(0)?;
    let second = node(1)?;
    wait::eventually(wait::PATIENCE, "lb1 is master", || {
        role(&first) == "master" && role(&second) == "backup"
    });
    let [address, _] = floating();
    println!(
        "lb1 and lb2 share {address} by VRRP, an advert every 10 ms; a client opens a connection and asks every {} ms",
        PAUSE.as_millis()
    );
    let prober = Prober::start(&lab.client.namespace, (address, 80).into(), PAUSE);
    let mut stage = Stage::new(Duration::from_secs(seconds.into()));
    let mut act = Act::Serving;
    while !stage.is_over(&act) && !stop.load(Ordering::Relaxed) {
        match act {
            Act::Serving if stage.is_due(1) => {
                lab.fabric.set_silent(&lab.balancers[0], true)?;
                first.kill9()?;
                // A machine that lost its power remembers no flow.
                first.detach()?;
                stage.announce("lb1 is cut off and killed");
                act = Act::Dead;
            }
            Act::Dead if stage.is_due(2) && stage.last[1] == "master" => {
                lab.fabric.set_silent(&lab.balancers[0], false)?;
                first.restart()?;
                stage.announce("lb1 is started again");
                act = Act::Returning;
            }
            Act::Returning if stage.last[0] == "master" => act = Act::Back,
            _ => {}
        }
        let first_role = if act == Act::Dead {
            "dead".to_owned()
        } else {
            role(&first)
        };
        stage.note([first_role, role(&second)], prober.so_far());
        thread::sleep(STEP);
    }
    let outage = prober.stop();
    let summary = Summary {
        requests: outage.requests,
        failed: outage.failed,
        outage_ms: (outage.longest.as_secs_f64() * 1e4).round() / 10.0,
        roles: stage.roles,
    };
    println!(
        "{} requests, {} failed; the longest outage was {} ms",
        summary.requests, summary.failed, summary.outage_ms
    );
    Ok(summary)
}

/// The role of a balancer in both virtual routers, which move together. Empty when it does not
/// respond.
fn role(lbd: &Lbd<'_>) -> String {
    roles(lbd).into_iter().next().unwrap_or_default()
}

/// What has become of the first balancer.
#[derive(PartialEq, Eq)]
enum Act {
    Serving,
    Dead,
    Returning,
    /// It is master again.
    Back,
}

/// What has been seen so far.
struct Stage {
    begin: Instant,
    /// How long the demo takes where every event comes in time.
    length: Duration,
    line: Duration,
    last: [String; 2],
    roles: Vec<RoleChange>,
}

impl Stage {
    fn new(length: Duration) -> Self {
        Self {
            begin: Instant::now(),
            length,
            line: Duration::ZERO,
            last: Default::default(),
            roles: Vec::new(),
        }
    }

    /// Whether so many thirds of the time have passed.
    fn is_due(&self, thirds: u32) -> bool {
        self.begin.elapsed() >= self.length * thirds / 3
    }

    /// Whether the demo ends: the time has passed, and the last event has come or is not waited for
    /// any longer.
    fn is_over(&self, act: &Act) -> bool {
        let late = self.begin.elapsed() >= self.length + wait::PATIENCE * 3;
        late || (self.is_due(3) && *act == Act::Back)
    }

    fn announce(&self, text: &str) {
        println!("{:5.1} s  *** {text} ***", self.begin.elapsed().as_secs_f64());
    }

    /// Notes what both are now; and shows it, with the requests so far, when it is new or time for
    /// a line.
    fn note(&mut self, now: [String; 2], (answered, failed): (u64, u64)) {
        let time = self.begin.elapsed();
        let mut is_new = false;
        for (index, role) in now.iter().enumerate() {
            if !role.is_empty() && self.last[index] != *role {
                is_new = true;
                self.roles.push(RoleChange {
                    at_ms: time.as_millis() as u64,
                    balancer: format!("lb{}", index + 1),
                    role: role.clone(),
                });
                self.last[index].clone_from(role);
            }
        }
        if is_new || time >= self.line {
            self.line = time + LINE;
            println!(
                "{:5.1} s  lb1 {:<7} lb2 {:<7} {answered:>7} answered {failed:>4} failed",
                time.as_secs_f64(),
                self.last[0],
                self.last[1]
            );
        }
    }
}
