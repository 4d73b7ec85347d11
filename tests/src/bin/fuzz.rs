//! `cargo xtask fuzz`: the program against the model, for as long as wanted.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use harness::fuzz::{Divergence, Fuzz, Random};

/// Compares the XDP program with a plain model of what it promises, packet by packet.
#[derive(Parser)]
struct Arguments {
    /// How many packets to run.
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// What sequences are made of; from the clock where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Run only this sequence: the seed that a divergence prints.
    #[arg(long)]
    sequence: Option<u64>,
    /// Stop after this time.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many programs run side by side, each with maps of its own. Most of the time each waits
    /// for the kernel after a change of backends.
    #[arg(long, default_value_t = 8)]
    jobs: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    harness::tools::require_root()?;
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.sequence {
        return Ok(match Fuzz::new().sequence(seed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(divergence) => {
                println!("{divergence}");
                ExitCode::FAILURE
            }
        });
    }
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
    };
    println!("seed {seed}");
    let run = LongRun {
        random: Mutex::new(Random::new(seed)),
        packets: AtomicU64::new(0),
        ends: AtomicBool::new(false),
        outcomes: Mutex::default(),
        divergences: Mutex::default(),
    };
    let begin = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| run.work());
        }
        let mut last_report = Duration::ZERO;
        while !run.ends.load(Relaxed) {
            thread::sleep(Duration::from_millis(100));
            let elapsed = begin.elapsed();
            if run.packets.load(Relaxed) >= arguments.packets || limit.is_some_and(|limit| elapsed >= limit) {
                run.ends.store(true, Relaxed);
            }
            if elapsed >= last_report + Duration::from_secs(5) {
                last_report = elapsed;
                eprintln!("{}", run.progress(elapsed));
            }
        }
    });
    let divergences = run.divergences.into_inner().unwrap_or_default();
    for divergence in &divergences {
        println!("{divergence}");
    }
    let failed = !divergences.is_empty();
    println!("{}", progress(run.packets.load(Relaxed), begin.elapsed()));
    println!("{:?}", run.outcomes.into_inner().unwrap_or_default());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the jobs share.
struct LongRun {
    /// Where the seeds of sequences come from.
    random: Mutex<Random>,
    packets: AtomicU64,
    ends: AtomicBool,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    divergences: Mutex<Vec<Divergence>>,
}

impl LongRun {
    /// Runs sequences until the end, or until program and model diverge.
    fn work(&self) {
        // A job that panics ends the others too, and `scope` hands its panic on.
        let _end = EndOnDrop(&self.ends);
        let mut fuzz = Fuzz::new();
        while !self.ends.load(Relaxed) {
            let seed = lock(&self.random).number();
            let before = fuzz.packets;
            let result = fuzz.sequence(seed);
            self.packets.fetch_add(fuzz.packets - before, Relaxed);
            if let Err(divergence) = result {
                lock(&self.divergences).push(divergence);
                break;
            }
        }
        let mut all = lock(&self.outcomes);
        for (outcome, count) in &fuzz.outcomes {
            *all.entry(outcome).or_default() += count;
        }
    }

    fn progress(&self, elapsed: Duration) -> String {
        progress(self.packets.load(Relaxed), elapsed)
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn progress(packets: u64, elapsed: Duration) -> String {
    let rate = packets as f64 / elapsed.as_secs_f64();
    format!("{packets} packets in {} s, {rate:.0} a second", elapsed.as_secs())
}
