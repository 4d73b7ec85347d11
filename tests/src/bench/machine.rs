//! The machine that is measured on.

use std::fs;

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// One line about the machine.
pub(super) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .split(':')
                .nth(1)
                .map(|name| name.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let jit = read("/proc/sys/net/core/bpf_jit_enable");
    format!(
        "{processor}, Linux {}, BPF JIT {jit}",
        read("/proc/sys/kernel/osrelease")
    )
}

/// Keeps the calling thread on one CPU: the last, which serves fewer interrupts than the first.
pub(super) fn pin() -> Result<()> {
    let last = std::thread::available_parallelism().map_or(0, |count| count.get() - 1);
    let mut set = CpuSet::new();
    set.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot stay on one CPU")
}

/// CPU seconds that all processes together have used since the start of the machine, interrupts
/// included.
pub(super) fn busy_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let figures: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|figure| figure.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: all but idle, iowait and steal.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|index| figures.get(*index)).sum();
    Ok(busy / 100.0)
}
