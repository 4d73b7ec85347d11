//! `bench health`: how much of a core the health checks of many backends take.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::machine;
use crate::{
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    wait,
};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// How many backends there are.
    #[arg(long, default_value_t = 1000)]
    backends: u16,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// The first port of the workers' servers.
const FIRST_PORT: u16 = 20_000;
/// How many servers a worker has at most.
const PORTS: u16 = 20_000;
/// The checks: none to speak of, and those that are compared with it.
const CHECKS: [(&str, &str); 3] = [
    ("idle", "type = \"tcp\"\ninterval = \"24h\"\n"),
    ("tcp", "type = \"tcp\"\ninterval = \"1s\"\n"),
    ("http", "type = \"http\"\npath = \"/healthz\"\ninterval = \"1s\"\n"),
];

/// Measures.
///
/// # Errors
///
/// When the network cannot be built, or not all backends are up.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        (1..=2 * PORTS).contains(&options.backends),
        "1 to {} backends can be measured",
        2 * PORTS
    );
    eprintln!("{}", machine::describe());
    let lab = Lab::new()?;
    let [v4, _] = virtual_addresses(0);
    let backends: Vec<_> = (0..options.backends)
        .map(|index| {
            let worker = &lab.workers[usize::from(index % 2)];
            let address = SocketAddr::new(worker.address_like(v4), FIRST_PORT + index / 2);
            (format!("b{index}"), address, 1)
        })
        .collect();
    let ports = FIRST_PORT..FIRST_PORT + options.backends.div_ceil(2);
    for worker in &lab.workers {
        let ports = ports.clone();
        let _serving = worker.namespace.spawn(move || serve(ports));
    }
    floor(options, &lab, &backends)?;
    for (kind, check) in CHECKS {
        let service = Service {
            backends: backends.clone(),
            ..Service::http(&lab, "web", v4).health(check)
        };
        let lbd = Lbd::start(&lab.balancers[0], Config::new(&lab, "one").with(service))?;
        let all_up = || total(&lbd, "checks").is_ok_and(|checks| checks >= u64::from(options.backends));
        ensure!(wait::until(wait::PATIENCE, all_up), "not all backends were checked");
        // What starting takes is over.
        thread::sleep(Duration::from_secs(2));
        measure(options, kind, &lbd)?;
    }
    Ok(())
}

fn measure(options: &Options, kind: &str, lbd: &Lbd<'_>) -> Result<()> {
    let process = lbd.id().context("lbd has ended")?;
    let (checks, used, begin) = (total(lbd, "checks")?, cpu(process)?, Instant::now());
    thread::sleep(Duration::from_secs(options.seconds));
    let (used, elapsed) = (cpu(process)? - used, begin.elapsed());
    let checks = total(lbd, "checks")? - checks;
    let failures = total(lbd, "failures")?;
    ensure!(failures == 0, "{failures} checks failed");
    show(options, kind, checks, used, elapsed);
    Ok(())
}

/// What the kernel alone takes for the same connections: nothing but `connect` and `close`, as
/// often, one after the other, in a thread that does nothing else. The network is in this machine,
/// so that the far side's part is in it, too.
fn floor(options: &Options, lab: &Lab, backends: &[(String, SocketAddr, u32)]) -> Result<()> {
    let (checks, used, elapsed) = lab.balancers[0].namespace.run(|| {
        let thread_time = || -> Result<Duration> { Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into()) };
        let (begin, before) = (Instant::now(), thread_time()?);
        let mut checks = 0_u64;
        for (_, address, _) in backends.iter().cycle() {
            // As many together as the checks of lbd.
            if checks.is_multiple_of(backends.len().div_ceil(50) as u64) {
                let due = Duration::from_secs_f64(checks as f64 / backends.len() as f64);
                thread::sleep(due.saturating_sub(begin.elapsed()));
            }
            if begin.elapsed() > Duration::from_secs(options.seconds) {
                break;
            }
            let stream = TcpStream::connect(address)?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            checks += 1;
        }
        anyhow::Ok((checks, thread_time()? - before, begin.elapsed()))
    })?;
    show(options, "floor", checks, used, elapsed);
    Ok(())
}

fn show(options: &Options, kind: &str, checks: u64, used: Duration, elapsed: Duration) {
    let percent = used.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    let rate = checks as f64 / elapsed.as_secs_f64();
    if options.json {
        let found = json!({
            "type": kind, "backends": options.backends, "checks_per_second": rate, "cpu_percent": percent,
        });
        println!("{found}");
    } else {
        println!(
            "{kind:<6} {:>6} backends {rate:>8.0} checks/s {percent:>6.2} % of a core",
            options.backends
        );
    }
}

/// The sum of a number over the health of all backends.
fn total(lbd: &Lbd<'_>, key: &str) -> Result<u64> {
    let list = lbd.lbctl(&["backend", "list"])?;
    let rows = list.as_array().context("no list")?;
    Ok(rows.iter().filter_map(|row: &Value| row["health"][key].as_u64()).sum())
}

/// The processor time of a process so far, in user and kernel mode.
fn cpu(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Fields 14 and 15 of proc_pid_stat(5); the name before them may have blanks in it.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks: u64 = fields
        .get(11..13)
        .context("no times")?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Answers HTTP on all these ports until the process ends.
fn serve(ports: std::ops::Range<u16>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(async {
        for port in ports {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
            tokio::spawn(answer(listener.expect("the port is free")));
        }
        std::future::pending::<()>().await;
    });
}

async fn answer(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            }
        });
    }
}
