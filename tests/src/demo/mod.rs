//! The demo: real traffic through a real `lbd`, while a worker dies and comes back.

pub mod failover;
mod scene;
mod screen;
mod tally;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::{scene::Scene, screen::Screen, tally::Window};
use crate::{
    config::{Config, QUICK_HTTP_CHECK, Service},
    lab::{Lab, Plan, virtual_addresses},
    lbd::{Lbd, binary},
    tools, wait,
    worker::Worker,
};

/// The worker that dies: not the first, so that nothing special about the first can hide a fault.
const VICTIM: usize = 1;
const STEP: Duration = Duration::from_millis(10);

/// What a run of the demo ends with.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Requests that ended, answered or failed.
    pub requests: u64,
    /// Requests that failed, whenever that was.
    pub errors: u64,
    /// Failed requests that the death of the worker does not excuse. Excused is a failure that lies
    /// at least partly in the time of detection: the request ended after the kill, and started
    /// before the worker was declared down. All others count here: those that ended before the
    /// kill, and those that started after the worker was declared down, be it before or after its
    /// revival; and every one, if it was never declared down.
    pub errors_after_detection: u64,
    /// Answered requests by the name of the backend.
    pub per_backend: BTreeMap<String, u64>,
    /// Milliseconds from the kill until the daemon showed the backend as down; `None` if it never
    /// did.
    pub detection_ms: Option<u64>,
    /// How the XDP program was attached, as the daemon says.
    pub xdp_mode: String,
}

impl Summary {
    /// Whether the demo showed what it is to show.
    pub fn is_success(&self) -> bool {
        self.errors_after_detection == 0 && !self.per_backend.is_empty()
    }
}

/// Runs the demo for `seconds`, or until `stop` is set; shows itself on standard output.
///
/// # Errors
///
/// When the machine lacks a right, a tool or a kernel feature, or `lbd` does not start.
pub fn run(seconds: u32, stop: &AtomicBool) -> Result<Summary> {
    tools::require_root()?;
    binary("lbd").and(binary("lbctl"))?;
    println!("building a network: one client, one balancer, three workers on a bridge");
    let lab = Lab::build(Plan {
        workers: 3,
        ..Plan::default()
    })?;
    let mut workers = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 80))
        .collect::<Result<Vec<_>>>()?;
    let [address, _] = virtual_addresses(0);
    let service = Service::http(&lab, "web", address).health(QUICK_HTTP_CHECK);
    let lbd = Lbd::start(&lab.balancers[0], Config::new(&lab, "demo").with(service))?;
    lbd.await_all_up("web");
    let status = lbd.lbctl(&["node", "status"])?;
    let xdp_mode = status["interfaces"][0]["xdp_mode"]
        .as_str()
        .context("no XDP mode in `lbctl node status`")?;
    println!(
        "lbd balances http://{address}:80 by XDP in {xdp_mode} mode; health checks every 100 ms; {} clients send requests",
        scene::CLIENTS
    );
    let mut scene = Scene::start(&lab, &lbd, (address, 80).into());
    let window = play(
        &mut scene,
        &mut workers[VICTIM],
        Duration::from_secs(seconds.into()),
        stop,
    )?;
    let summary = window.summarize(scene.finish(), xdp_mode);
    screen::print_summary(&summary, &lab.workers[VICTIM].label);
    Ok(summary)
}

/// Where in the play the victim is.
enum Act {
    Serving,
    Dying,
    Down,
    Returning,
    Back,
}

/// Kills the victim after a third of the time and revives it after two thirds.
fn play(scene: &mut Scene<'_>, victim: &mut Worker<'_>, length: Duration, stop: &AtomicBool) -> Result<Window> {
    let begin = Instant::now();
    let name = victim.name().to_owned();
    let (mut act, mut window, mut revived) = (Act::Serving, Window::default(), begin);
    let mut screen = Screen::new();
    while !stop.load(Ordering::Relaxed) {
        let time = begin.elapsed();
        // The last event is waited for, but not for ever.
        if time >= length && (matches!(act, Act::Back) || time >= length + wait::PATIENCE) {
            break;
        }
        match act {
            Act::Serving if time >= length / 3 => {
                window.killed = Some(Instant::now());
                victim.kill();
                screen.event(time, &format!("{name} is killed"));
                act = Act::Dying;
            }
            Act::Dying if scene.state_of(&name)? == "down" => {
                window.declared_down = Some(Instant::now());
                let detection = window.detection().unwrap_or_default();
                screen.event(
                    begin.elapsed(),
                    &format!("{name} is declared down, {} ms after its death", detection.as_millis()),
                );
                act = Act::Down;
            }
            Act::Down if time >= length * 2 / 3 => {
                victim.revive()?;
                revived = Instant::now();
                screen.event(time, &format!("{name} is revived"));
                act = Act::Returning;
            }
            Act::Returning if scene.state_of(&name)? == "up" => {
                let return_ms = revived.elapsed().as_millis();
                screen.event(
                    begin.elapsed(),
                    &format!("{name} is declared up, {return_ms} ms after its revival"),
                );
                act = Act::Back;
            }
            _ => {}
        }
        if screen.is_due(time) {
            screen.show(time, &scene.frame()?);
        }
        thread::sleep(STEP);
    }
    Ok(window)
}
