//! `bench packets`: nanoseconds per packet of the program, by BPF_PROG_TEST_RUN.
//!
//! A wrapper restores the packet before each run, and each figure is taken right after that of a floor program with the
//! same packet. Before a case is measured, the counters of outcomes show that it takes the way it claims to take.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use lb_common::{BackendState, Mode, NextHop, OnBackendDown, Outcome, Scheduler};
use lb_userspace::{
    config::{Capacity, PacketLog, PortRange},
    dataplane::{self, Access, Pins, Tables, VirtualAddress},
    reconcile::{
        self, Desired,
        desired::{DesiredBackend, DesiredService},
    },
};
use serde::Serialize;

use super::{
    machine,
    runner::{LENGTH, REAL, Runner, Script},
    statistics,
};
use crate::{
    bpffs::Bpffs,
    packet::{ACK, Packet, SYN},
};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Packets for one figure.
    #[arg(long, default_value_t = 200_000)]
    repeat: u32,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    case: String,
    /// Numbers of flows, as powers of two.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 65_536, 1_048_576])]
    flows: Vec<u64>,
}

/// A result.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    case: &'static str,
    flows: u64,
    min_ns: f64,
    median_ns: f64,
    floor: &'static str,
    over_floor_ns: f64,
}

/// Where in a case a packet stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of a flow that is there.
    Hit,
    /// The answer of a worker.
    Reply,
    /// The first of a flow, each time.
    New,
    /// Of nobody.
    Pass,
    /// None: a floor program by itself, by its index among the targets.
    Floor(u32),
}

struct Case {
    name: &'static str,
    kind: Kind,
    v6: bool,
    udp: bool,
}

const fn case(name: &'static str, kind: Kind, v6: bool, udp: bool) -> Case {
    Case { name, kind, v6, udp }
}

const CASES: [Case; 15] = [
    case("floor-null", Kind::Floor(0), false, false),
    case("floor-mac-swap", Kind::Floor(1), false, false),
    case("floor-adjust-head", Kind::Floor(2), false, false),
    case("nat-v4-tcp-hit", Kind::Hit, false, false),
    case("nat-v4-tcp-reply", Kind::Reply, false, false),
    case("nat-v4-tcp-new", Kind::New, false, false),
    case("nat-v4-udp-hit", Kind::Hit, false, true),
    case("nat-v6-tcp-hit", Kind::Hit, true, false),
    case("nat-v6-tcp-reply", Kind::Reply, true, false),
    case("nat-v6-tcp-new", Kind::New, true, false),
    case("nat-v6-udp-hit", Kind::Hit, true, true),
    case("pass-v4", Kind::Pass, false, false),
    case("pass-v4-udp", Kind::Pass, false, true),
    case("pass-v6", Kind::Pass, true, false),
    case("pass-arp", Kind::Pass, false, false),
];

/// Backends of each service; a prime, so that ports and turns do not go in step.
const BACKENDS: u8 = 61;
/// Packets for one figure of new flows: as many flows stand in the table after it.
const NEW: u32 = 100_000;

/// Measures all cases.
///
/// # Errors
///
/// When the kernel refuses a program, or a case does not take the way it claims to take.
pub fn run(options: &Options) -> Result<()> {
    machine::pin()?;
    eprintln!("{}", machine::describe());
    for flows in &options.flows {
        ensure!(
            flows.is_power_of_two(),
            "--flows {flows}: expected powers of two, such as 65536"
        );
    }
    let bpffs = Bpffs::mount()?;
    let mut bench = Bench::new(bpffs.path())?;
    if !options.json {
        println!(
            "{:<18} {:>8} {:>9} {:>10} {:>9} {:>14}",
            "case", "flows", "min ns", "median ns", "floor", "over floor ns"
        );
    }
    for case in CASES.iter().filter(|case| case.name.contains(&options.case)) {
        let flows = if case.kind == Kind::Hit {
            options.flows.as_slice()
        } else {
            &[1]
        };
        for flows in flows {
            let figure = bench.measure(case, *flows, options)?;
            if options.json {
                println!("{}", serde_json::to_string(&figure)?);
            } else {
                println!(
                    "{:<18} {:>8} {:>9.0} {:>10.0} {:>9} {:>14.0}",
                    figure.case, figure.flows, figure.min_ns, figure.median_ns, figure.floor, figure.over_floor_ns
                );
            }
        }
    }
    Ok(())
}

struct Bench {
    tables: Tables,
    runner: Runner,
    _object: aya::Ebpf,
}

impl Bench {
    fn new(bpffs: &Path) -> Result<Self> {
        let pins = Pins::new(bpffs, "bench");
        pins.prepare()?;
        let capacity = Capacity {
            flows_v4: 1 << 22,
            flows_v6: 1 << 22,
            ..Capacity::default()
        };
        let mut object = dataplane::load(&pins, &capacity, PacketLog::Off)?.into_object();
        let program: &Xdp = (&*object.program_mut("lb_xdp").context("no program")?).try_into()?;
        let runner = Runner::new(program)?;
        let mut tables = Tables::open(&pins, Access::Write)?;
        let desired = Desired {
            services: [(false, 6), (false, 17), (true, 6), (true, 17)].map(service).to_vec(),
        };
        let plan = reconcile::plan(&desired, &reconcile::observe(&tables)?);
        reconcile::apply(&plan, &mut tables)?;
        Ok(Self {
            tables,
            runner,
            _object: object,
        })
    }

    fn measure(&mut self, case: &Case, flows: u64, options: &Options) -> Result<Figure> {
        self.empty()?;
        let (floor, floor_target) = match case.kind {
            Kind::Pass | Kind::Floor(_) => ("null", 0),
            Kind::Hit | Kind::Reply | Kind::New => ("mac-swap", 1),
        };
        let repeat = if case.kind == Kind::New { NEW } else { options.repeat };
        let script = self.prepare(case, flows)?;
        let mut figures = Vec::new();
        let mut floors = Vec::new();
        for _ in 0..options.rounds {
            floors.push(self.figure(
                &Script {
                    target: floor_target,
                    ..script
                },
                repeat,
            )?);
            if case.kind == Kind::New {
                self.empty()?;
            }
            figures.push(self.checked_figure(case, &script, repeat)?);
        }
        Ok(Figure {
            case: case.name,
            flows,
            min_ns: statistics::minimum(&figures),
            median_ns: statistics::median(figures.clone()),
            floor,
            over_floor_ns: statistics::paired_difference(&figures, &floors),
        })
    }

    /// A figure of packets that all went the way that the case names.
    fn checked_figure(&mut self, case: &Case, script: &Script, repeat: u32) -> Result<f64> {
        let Some(expected) = expected(case) else {
            return self.figure(script, repeat);
        };
        let before = self.outcome(expected)?;
        let figure = self.figure(script, repeat)?;
        let seen = self.outcome(expected)? - before;
        ensure!(
            seen == u64::from(repeat),
            "{}: of {repeat} packets only {seen} ended as `{}`",
            case.name,
            expected.name()
        );
        Ok(figure)
    }

    fn figure(&mut self, script: &Script, repeat: u32) -> Result<f64> {
        self.runner.set(script)?;
        self.runner.run(script, repeat)
    }

    /// Fills the table as the case needs it; returns what to run.
    fn prepare(&mut self, case: &Case, flows: u64) -> Result<Script> {
        let first = if case.udp { udp(case) } else { tcp(case, SYN) };
        let mask = if case.kind == Kind::New {
            u64::MAX >> 24
        } else {
            flows - 1
        };
        match case.kind {
            Kind::New => Ok(script(&first, case, mask)),
            Kind::Floor(target) => Ok(Script {
                target,
                ..script(&first, case, 0)
            }),
            Kind::Pass if case.name == "pass-arp" => Ok(arp()),
            Kind::Pass => Ok(script(&elsewhere(first), case, 0)),
            Kind::Hit | Kind::Reply => {
                self.runner.rewind()?;
                self.figure(&script(&first, case, mask), u32::try_from(flows)?)?;
                if case.kind == Kind::Reply {
                    return Ok(script(&self.answer(case)?, case, 0));
                }
                let next = if case.udp { first } else { tcp(case, ACK) };
                Ok(script(&next, case, mask))
            }
        }
    }

    /// The answer to the only flow.
    fn answer(&self, case: &Case) -> Result<Packet> {
        let mut keys = Vec::new();
        self.tables.flows.for_each(|flow| {
            if !flow.to_worker {
                keys.push(flow.key);
            }
        })?;
        let key = keys.first().with_context(|| format!("{}: no flow", case.name))?;
        Ok(Packet::tcp(key.source, key.destination, ACK))
    }

    fn outcome(&self, outcome: Outcome) -> Result<u64> {
        let all = self.tables.outcomes()?;
        Ok(all
            .iter()
            .find(|(one, _)| *one == outcome)
            .map_or(0, |(_, count)| *count))
    }

    fn empty(&self) -> Result<()> {
        let mut keys = Vec::new();
        self.tables.flows.for_each(|flow| keys.push(flow.key))?;
        for key in keys {
            self.tables.flows.take(key)?;
        }
        Ok(())
    }
}

/// How the packets of a case end; a floor program counts nothing.
fn expected(case: &Case) -> Option<Outcome> {
    match case.kind {
        Kind::Floor(_) => None,
        Kind::Pass if case.name == "pass-arp" => Some(Outcome::NotIp),
        Kind::Pass => Some(Outcome::NotOurs),
        Kind::Hit | Kind::Reply | Kind::New => Some(Outcome::Forwarded),
    }
}

fn virtual_address(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 0x100])
    } else {
        IpAddr::from([10, 77, 0, 100])
    }
}

fn service((v6, protocol): (bool, u8)) -> DesiredService {
    let address = virtual_address(v6);
    let backends = (1..=BACKENDS).map(|host| DesiredBackend {
        address: SocketAddr::new(
            if v6 {
                IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 1, u16::from(host)])
            } else {
                IpAddr::from([10, 77, 1, host])
            },
            8080,
        ),
        weight: 1,
        state: Some(BackendState::Up),
        // A test run comes in on the loopback interface, whose index is 1: so the packet goes out where it came in.
        next_hop: Some(NextHop::new(1, [2; 6], [host; 6])),
    });
    DesiredService {
        at: VirtualAddress {
            address,
            port: 80,
            protocol,
        },
        mode: Mode::Nat,
        scheduler: Scheduler::RoundRobin,
        on_backend_down: OnBackendDown::Reset,
        sources: vec![address],
        nat_ports: PortRange {
            low: 20_000,
            high: 56_999,
        },
        backends: backends.collect(),
    }
}

fn client(v6: bool) -> SocketAddr {
    let address = if v6 {
        IpAddr::from([0xfd78, 0, 0, 0, 0, 0, 0, 1])
    } else {
        IpAddr::from([11, 0, 0, 0])
    };
    SocketAddr::new(address, 20_000)
}

fn tcp(case: &Case, flags: u8) -> Packet {
    Packet::tcp(client(case.v6), SocketAddr::new(virtual_address(case.v6), 80), flags)
}

fn udp(case: &Case) -> Packet {
    Packet::udp(client(case.v6), SocketAddr::new(virtual_address(case.v6), 80), &[0; 8])
}

fn elsewhere(packet: Packet) -> Packet {
    let mut destination = packet.destination;
    destination.set_port(81);
    Packet { destination, ..packet }
}

fn script(packet: &Packet, case: &Case, mask: u64) -> Script {
    let mut bytes = [0; LENGTH];
    let frame = packet.bytes();
    bytes[..frame.len()].copy_from_slice(&frame);
    let (address, port) = if case.v6 {
        (14 + 8 + 12, 14 + 40)
    } else {
        (14 + 12, 14 + 20)
    };
    Script {
        packet: bytes,
        mask,
        address,
        port,
        target: REAL,
        reserved: 0,
    }
}

fn arp() -> Script {
    let mut packet = [0; LENGTH];
    packet[12..14].copy_from_slice(&[0x08, 0x06]);
    Script {
        packet,
        mask: 0,
        address: 0,
        port: 0,
        target: REAL,
        reserved: 0,
    }
}
