//! `demo`: real traffic through a real `lbd` while a worker dies and comes back, or a balancer, in
//! network namespaces of its own.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Shows the load balancer at work: a client, a balancer and three workers on a network of their
/// own, real HTTP, and a worker that is killed after a third of the time and revived after two
/// thirds.
///
/// Ends with status 1 when a request failed that the death of the worker does not excuse, or when
/// nothing was served.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// How long it takes.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=3600))]
    seconds: u32,
    /// End standard output with one line of JSON: requests, errors, errors_after_detection (failed
    /// requests that ended before the kill or started after the worker was declared down),
    /// per_backend, detection_ms, xdp_mode.
    #[arg(long)]
    json: bool,
    /// Show failover in place of that: two balancers share an address, the master dies under load
    /// after a third of the time and comes back after two thirds. The JSON is then: requests,
    /// failed, outage_ms, roles. Ends with status 1 when the address did not move there and back.
    #[arg(long)]
    failover: bool,
}

fn main() -> ExitCode {
    match demo(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &Arguments) -> Result<bool> {
    let stop = stop_on_signal()?;
    if arguments.failover {
        let summary = harness::demo::failover::run(arguments.seconds, &stop)?;
        if arguments.json {
            println!("{}", serde_json::to_string(&summary)?);
        }
        return Ok(summary.is_success());
    }
    let summary = harness::demo::run(arguments.seconds, &stop)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    }
    Ok(summary.is_success())
}

/// A flag that Ctrl-C and SIGTERM set, so that the network is removed before the end.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (listening, ready) = mpsc::channel();
    let flag = Arc::clone(&stop);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        runtime.block_on(async {
            let streams = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
            let (mut interrupt, mut terminate) = match streams {
                Ok(streams) => streams,
                Err(error) => return drop(listening.send(Err(error))),
            };
            let _ = listening.send(Ok(()));
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            flag.store(true, Ordering::Relaxed);
            // Further signals are ignored: the first one is being obeyed.
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
        });
    });
    ready
        .recv()
        .context("the thread that waits for signals has ended")?
        .context("cannot wait for signals")?;
    Ok(stop)
}
