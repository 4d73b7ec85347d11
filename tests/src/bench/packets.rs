//! `bench packets`: nanoseconds per packet of the program, by BPF_PROG_TEST_RUN.
//!
//! A wrapper restores the packet before each run, and each figure is taken right after that of a
//! floor program with the same packet. Before a case is measured, the counters of outcomes show
//! that it takes the way it claims to take.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use lb_common::{Mode, Outcome};
use lb_userspace::{
    config::{Capacity, PacketLog, Word},
    dataplane::{self, Access, Pins, Tables},
    reconcile::{self, Desired, desired::DesiredService},
};
use serde::{Deserialize, Serialize};

use super::{
    machine,
    runner::{LENGTH, REAL, Runner, Script},
    statistics,
};
use crate::{
    bpffs::Bpffs,
    fixture::{self, TCP, UDP},
    packet::{ACK, Packet, SYN},
};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object a line.
    #[arg(long)]
    pub(super) json: bool,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) case: String,
    pub(super) flows: u64,
    pub(super) min_ns: f64,
    pub(super) median_ns: f64,
    pub(super) floor: String,
    pub(super) over_floor_ns: f64,
}

/// Where in a case a packet stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of a flow that is there.
    Hit,
    /// The answer of a worker.
    Reply,
    /// The first of a flow, each time.
    New,
    /// An ICMP error about an answer.
    Error,
    /// Of nobody.
    Pass,
    /// None: a floor program by itself, by its index among the targets.
    Floor(u32),
}

/// A case. Its name follows mode, family, protocol and event.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) mode: Mode,
    pub(super) v6: bool,
    pub(super) protocol: u8,
}

fn cases() -> Vec<Case> {
    let named = |name: &str, kind, v6, protocol| Case {
        name: name.to_owned(),
        kind,
        mode: Mode::Nat,
        v6,
        protocol,
    };
    let mut cases = vec![
        named("floor-null", Kind::Floor(0), false, TCP),
        named("floor-mac-swap", Kind::Floor(1), false, TCP),
        named("floor-adjust-head", Kind::Floor(2), false, TCP),
    ];
    for mode in Mode::ALL {
        for v6 in [false, true] {
            for (protocol, event) in [(TCP, Kind::Hit), (TCP, Kind::Reply), (TCP, Kind::New), (UDP, Kind::Hit)] {
                if event == Kind::Reply && !mode.translates() {
                    continue;
                }
                let word = match event {
                    Kind::Hit => "hit",
                    Kind::Reply => "reply",
                    _ => "new",
                };
                let family = if v6 { "v6" } else { "v4" };
                let protocol_name = if protocol == TCP { "tcp" } else { "udp" };
                cases.push(Case {
                    name: format!("{}-{family}-{protocol_name}-{word}", mode.word()),
                    kind: event,
                    mode,
                    v6,
                    protocol,
                });
            }
        }
    }
    cases.extend([
        named("icmp-v4-error", Kind::Error, false, TCP),
        named("pass-v4", Kind::Pass, false, TCP),
        named("pass-v4-vip", Kind::Pass, false, TCP),
        named("pass-v6", Kind::Pass, true, TCP),
        named("pass-arp", Kind::Pass, false, TCP),
    ]);
    cases
}

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
    // A flow of a mode that translates has two entries.
    let mut one_entry = Bench::new(bpffs.path(), "bench", 1 << 20)?;
    let mut two_entries = Bench::new(bpffs.path(), "bench-nat", 3 << 20)?;
    if !options.json {
        println!(
            "{:<20} {:>8} {:>9} {:>10} {:>9} {:>14}",
            "case", "flows", "min ns", "median ns", "floor", "over floor ns"
        );
    }
    for case in cases().iter().filter(|case| case.name.contains(&options.case)) {
        let flows = if case.kind == Kind::Hit {
            options.flows.as_slice()
        } else {
            &[1]
        };
        for flows in flows {
            let bench = if case.mode.translates() {
                &mut two_entries
            } else {
                &mut one_entry
            };
            let figure = bench.measure(case, *flows, options)?;
            if options.json {
                println!("{}", serde_json::to_string(&figure)?);
            } else {
                println!(
                    "{:<20} {:>8} {:>9.0} {:>10.0} {:>9} {:>14.0}",
                    figure.case, figure.flows, figure.min_ns, figure.median_ns, figure.floor, figure.over_floor_ns
                );
            }
        }
    }
    Ok(())
}

pub(super) struct Bench {
    pub(super) tables: Tables,
    runner: Runner,
    _object: aya::Ebpf,
}

impl Bench {
    /// `entries` is how many the flow table of each family is meant to hold.
    fn new(bpffs: &Path, name: &str, entries: u32) -> Result<Self> {
        let capacity = Capacity {
            flows_v4: entries,
            flows_v6: entries,
            ..Capacity::default()
        };
        let mut services = Vec::new();
        for mode in Mode::ALL {
            for v6 in [false, true] {
                services.extend([TCP, UDP].map(|protocol| fixture::service(mode, v6, protocol, 1..=BACKENDS)));
            }
        }
        Self::with(bpffs, name, &capacity, services)
    }

    /// Loads the program over maps with these services.
    pub(super) fn with(bpffs: &Path, name: &str, capacity: &Capacity, services: Vec<DesiredService>) -> Result<Self> {
        let pins = Pins::new(bpffs, name);
        pins.prepare()?;
        let mut object = dataplane::load(&pins, capacity, fixture::NAT_PORTS, PacketLog::Off)?.into_object();
        let program: &Xdp = (&*object.program_mut("lb_xdp").context("no program")?).try_into()?;
        let runner = Runner::new(program)?;
        let mut tables = Tables::open(&pins, Access::Write)?;
        let plan = reconcile::plan(
            &Desired {
                services,
                ..Desired::default()
            },
            &reconcile::observe(&tables)?,
        );
        ensure!(plan.problems.is_empty(), "the plan has problems: {:?}", plan.problems);
        reconcile::apply(&plan, &mut tables)?;
        Ok(Self {
            tables,
            runner,
            _object: object,
        })
    }

    pub(super) fn measure(&mut self, case: &Case, flows: u64, options: &Options) -> Result<Figure> {
        self.empty();
        let (floor, floor_target) = match case.kind {
            Kind::Pass | Kind::Floor(_) => ("null", 0),
            _ if case.mode.encapsulates() => ("adjust-head", 2),
            _ => ("mac-swap", 1),
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
                self.empty();
            }
            figures.push(self.checked_figure(case, &script, repeat)?);
        }
        Ok(Figure {
            case: case.name.clone(),
            flows,
            min_ns: statistics::minimum(&figures),
            median_ns: statistics::median(figures.clone()),
            floor: floor.to_owned(),
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
        let first = if case.protocol == UDP {
            udp(case)
        } else {
            tcp(case, SYN)
        };
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
            Kind::Pass => Ok(script(&elsewhere(first, case), case, 0)),
            Kind::Hit | Kind::Reply | Kind::Error => {
                self.runner.rewind()?;
                self.figure(&script(&first, case, mask), u32::try_from(flows)?)?;
                if case.kind == Kind::Reply {
                    return Ok(script(&self.answer(case)?, case, 0));
                }
                if case.kind == Kind::Error {
                    return Ok(error(&first, case));
                }
                let next = if case.protocol == UDP { first } else { tcp(case, ACK) };
                let next = script(&next, case, mask);
                // The first packet after the handshake's changes the phase where the worker is not
                // seen.
                self.runner.rewind()?;
                self.figure(&next, u32::try_from(flows)?)?;
                Ok(next)
            }
        }
    }

    /// The answer to the only flow.
    fn answer(&self, case: &Case) -> Result<Packet> {
        let mut keys = Vec::new();
        self.tables.for_each_flow(|flow| {
            if !flow.to_worker {
                keys.push(flow.key);
            }
        });
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

    fn empty(&self) {
        self.tables.clear_flows();
    }
}

/// How the packets of a case end; a floor program counts nothing.
fn expected(case: &Case) -> Option<Outcome> {
    match case.kind {
        Kind::Floor(_) => None,
        Kind::Pass if case.name == "pass-arp" => Some(Outcome::NotIp),
        Kind::Pass => Some(Outcome::NotOurs),
        _ => Some(Outcome::Forwarded),
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
    Packet::tcp(client(case.v6), fixture::front(case.mode, case.v6), flags)
}

fn udp(case: &Case) -> Packet {
    Packet::udp(client(case.v6), fixture::front(case.mode, case.v6), &[0; 8])
}

/// A packet to a host that is not ours, or to a port of a virtual address without a service.
fn elsewhere(packet: Packet, case: &Case) -> Packet {
    let mut destination = packet.destination;
    if case.name.ends_with("vip") {
        destination.set_port(81);
    } else if case.v6 {
        destination.set_ip(IpAddr::from([0xfd79, 0, 0, 0, 0, 0, 0, 1]));
    } else {
        destination.set_ip(IpAddr::from([10, 79, 0, 1]));
    }
    Packet { destination, ..packet }
}

/// A router's "fragmentation needed" about an answer of the flow that `first` began.
fn error(first: &Packet, case: &Case) -> Script {
    let router = SocketAddr::new(IpAddr::from([10, 79, 0, 1]), 0);
    let answer = Packet::tcp(first.destination, first.source, ACK);
    script_of(&answer.quoted_by(router, 3, 4, 1400, 8), case, 0)
}

fn script(packet: &Packet, case: &Case, mask: u64) -> Script {
    script_of(&packet.bytes(), case, mask)
}

fn script_of(frame: &[u8], case: &Case, mask: u64) -> Script {
    let mut bytes = [0; LENGTH];
    bytes[..frame.len()].copy_from_slice(frame);
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
