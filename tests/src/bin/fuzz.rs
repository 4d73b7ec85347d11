//! `cargo xtask fuzz`: the program against the model, for as long as wanted.

use std::{
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use harness::fuzz::{Fuzz, Random};

/// Compares the XDP program with a plain model of what it promises, packet by packet.
#[derive(Parser)]
struct Arguments {
    /// How many packets to run.
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// What sequences are made of; from the clock where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this time.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    harness::tools::require_root()?;
    let arguments = Arguments::parse();
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
    };
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut fuzz = Fuzz::new();
    let begin = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let mut told = Duration::ZERO;
    while fuzz.packets < arguments.packets && limit.is_none_or(|limit| begin.elapsed() < limit) {
        if let Err(divergence) = fuzz.sequence(random.number()) {
            println!("{divergence}");
            return Ok(ExitCode::FAILURE);
        }
        let elapsed = begin.elapsed();
        if elapsed >= told + Duration::from_secs(5) {
            told = elapsed;
            eprintln!("{}", progress(&fuzz, elapsed));
        }
    }
    println!("{}", progress(&fuzz, begin.elapsed()));
    println!("{:?}", fuzz.outcomes);
    Ok(ExitCode::SUCCESS)
}

fn progress(fuzz: &Fuzz, elapsed: Duration) -> String {
    let rate = fuzz.packets as f64 / elapsed.as_secs_f64();
    format!(
        "{} packets in {} s, {rate:.0} a second",
        fuzz.packets,
        elapsed.as_secs()
    )
}
