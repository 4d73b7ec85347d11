//! `bench idle`: what `lbd` costs while nothing happens: CPU and memory, by services and by whether
//! they are checked.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::json;

use super::machine;
use crate::{
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    worker::Worker,
};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// How long each case is watched.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// How long the daemon has to come to rest after a start.
const SETTLING: Duration = Duration::from_secs(10);
/// The port of the first service; the others follow.
const FIRST_PORT: u16 = 20_000;
const CHECK: &str = "type = \"http\"\npath = \"/healthz\"\ninterval = \"2s\"\n";

/// Measures.
///
/// # Errors
///
/// When the network cannot be built, or `lbd` ends.
pub fn run(options: &Options) -> Result<()> {
    eprintln!("{}", machine::describe());
    for services in [1, 1000] {
        for check in ["", CHECK] {
            measure(options, services, check)?;
        }
    }
    Ok(())
}

fn measure(options: &Options, services: u16, check: &str) -> Result<()> {
    let lab = Lab::new()?;
    let _workers = Worker::all(&lab);
    let [v4, _] = virtual_addresses(0);
    let mut config = Config::new(&lab, "one");
    for index in 0..services {
        let service = Service::http(&lab, &format!("web-{index}"), v4).ports(FIRST_PORT + index, 80);
        config = config.with(service.health(check));
    }
    let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
    let lbd = Lbd::start(&lab.balancers[0], config)?;
    let process = lbd.id().context("lbd runs")?;
    thread::sleep(SETTLING);
    let before = used(process)?;
    thread::sleep(Duration::from_secs(options.seconds));
    let seconds = (used(process)? - before).as_secs_f64();
    let percent = 100.0 * seconds / options.seconds as f64;
    let memory = resident(process)?;
    let up = lbd.lbctl(&["backend", "list"])?;
    let up = up
        .as_array()
        .context("a list")?
        .iter()
        .filter(|row| row["state"] == "up");
    ensure!(up.count() == backends, "not all backends are up");
    let checked = if check.is_empty() {
        "not checked"
    } else {
        "checked every 2 s"
    };
    if options.json {
        let line = json!({ "services": services, "backends": backends, "checked": !check.is_empty(),
            "cpu_percent": percent, "resident_mb": memory });
        println!("{line}");
    } else {
        println!(
            "{services:>5} services, {backends:>5} backends {checked:<17}: {percent:>6.2} % of a CPU, {memory:>5} MB"
        );
    }
    Ok(())
}

/// CPU that a process and all its threads have used, in user space and in the kernel.
fn used(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name of the program, in brackets, may hold anything; utime and stime are the 12th and
    // 13th word after it.
    let rest = text.rsplit_once(") ").map(|(_, rest)| rest);
    let words: Vec<&str> = rest.with_context(|| path.clone())?.split(' ').collect();
    let ticks = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok());
    let ticks = ticks(11).zip(ticks(12)).with_context(|| path.clone())?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the length of a tick")?;
    Ok(Duration::from_secs_f64((ticks.0 + ticks.1) as f64 / per_second as f64))
}

/// Memory of a process that is not shared with files, in megabytes: what the maps share with it is
/// the kernel's.
fn resident(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("no RssAnon in {path}"))? / 1024)
}
