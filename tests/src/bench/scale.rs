//! `bench scale`: how the cost of a packet, and of a change of the configuration, grows with what
//! is configured.

use std::{net::Ipv4Addr, time::Instant};

use anyhow::{Result, ensure};
use lb_common::{BackendState, Mode, Scheduler, service::MAGLEV_SLOTS};
use lb_core::{
    config::Capacity,
    reconcile::{self, Desired, desired::DesiredService},
    schedule::RingCache,
};
use serde::Serialize;

use super::{
    machine,
    packets::{Bench, Case, Kind, Options},
};
use crate::{bpffs::Bpffs, fixture};

/// How many services with tables of hashes are compared.
const HASHED: u32 = 200;

/// A result.
#[derive(Debug, Serialize)]
struct Scale {
    /// What grows.
    what: &'static str,
    /// How large it is.
    size: u64,
    /// Nanoseconds of a packet of a known flow above the floor.
    hit_over_floor_ns: f64,
    /// Nanoseconds of the first packet of a flow above the floor.
    new_over_floor_ns: f64,
}

/// Measures.
///
/// # Errors
///
/// As [`super::packets::run`].
pub fn run(options: &Options) -> Result<()> {
    machine::pin()?;
    eprintln!("{}", machine::describe());
    let bpffs = Bpffs::mount()?;
    for services in [1, 100, 10_000] {
        let mut bench = Bench::with(
            bpffs.path(),
            &format!("services-{services}"),
            &capacity(1 << 20),
            many(services),
        )?;
        show(options, measure(&mut bench, "services", services as u64, 1, options)?)?;
        if services == 10_000 {
            change(&mut bench, "ordinary", many(services), options)?;
        }
    }
    let mut bench = Bench::with(bpffs.path(), "maglev", &capacity(1 << 20), hashed(1))?;
    change(&mut bench, "maglev", hashed(HASHED), options)?;
    for backends in [1, 16, 256, 1024] {
        let service = wide(backends);
        let mut bench = Bench::with(
            bpffs.path(),
            &format!("backends-{backends}"),
            &capacity(1 << 20),
            vec![service],
        )?;
        show(
            options,
            measure(&mut bench, "backends", u64::from(backends), 65_536, options)?,
        )?;
    }
    let mut bench = Bench::with(bpffs.path(), "flows", &capacity(1 << 22), many(1))?;
    for power in [0, 10, 14, 16, 18, 20, 22] {
        show(options, measure(&mut bench, "flows", 1 << power, 1 << power, options)?)?;
    }
    walk(&bench, options);
    Ok(())
}

/// How long it takes to read all flows, as a count or a sweep does.
fn walk(bench: &Bench, options: &Options) {
    let begin = Instant::now();
    let mut flows = 0_u64;
    bench
        .tables
        .for_each_flow(|flow| flows += u64::from(flow.to_worker && flow.is_current));
    let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
    if options.json {
        println!(
            "{}",
            serde_json::json!({ "what": "walk", "size": flows, "ms": milliseconds })
        );
    } else {
        println!("a walk through {flows} flows: {milliseconds:.0} ms");
    }
}

fn capacity(flows: u32) -> Capacity {
    Capacity {
        flows_v4: flows,
        flows_v6: 1024,
        services: 16_384,
        backends: 65_536,
        ring_slots: (HASHED + 2) * MAGLEV_SLOTS,
    }
}

/// Services on addresses of their own, each with two workers; the first is that of the fixture.
fn many(count: u32) -> Vec<DesiredService> {
    (0..count)
        .map(|index| {
            let mut service = fixture::service(Mode::Dsr, false, fixture::TCP, [1, 2]);
            if index > 0 {
                service.at.address = Ipv4Addr::from(0x0a50_0000 + index).into();
            }
            service
        })
        .collect()
}

/// The same with tables of hashes.
fn hashed(count: u32) -> Vec<DesiredService> {
    let mut services = many(count);
    for service in &mut services {
        service.scheduler = Scheduler::Maglev;
    }
    services
}

/// A service with many workers.
fn wide(count: u32) -> DesiredService {
    let mut service = fixture::service(Mode::Dsr, false, fixture::TCP, []);
    service.backends = (0..count)
        .map(|index| {
            let mut backend = fixture::backend(Mode::Dsr, false, (index % 250) as u8, false);
            backend.address.set_ip(Ipv4Addr::from(0x0a51_0000 + index).into());
            backend
        })
        .collect();
    service
}

fn measure(bench: &mut Bench, what: &'static str, size: u64, flows: u64, options: &Options) -> Result<Scale> {
    let case = |kind, word: &str| Case {
        name: format!("dsr-v4-tcp-{word}"),
        kind,
        mode: Mode::Dsr,
        v6: false,
        protocol: fixture::TCP,
    };
    Ok(Scale {
        what,
        size,
        hit_over_floor_ns: bench.measure(&case(Kind::Hit, "hit"), flows, options)?.over_floor_ns,
        new_over_floor_ns: bench.measure(&case(Kind::New, "new"), 1, options)?.over_floor_ns,
    })
}

/// How long it takes to compare the maps of many services with what they should be, and to bring a
/// changed backend there.
fn change(bench: &mut Bench, what: &'static str, services: Vec<DesiredService>, options: &Options) -> Result<()> {
    let size = services.len();
    let mut desired = Desired {
        services,
        ..Desired::default()
    };
    let mut known = RingCache::default();
    reconcile(bench, &desired, &mut known, ("first", what), options)?;
    reconcile(bench, &desired, &mut known, ("nothing changed", what), options)?;
    desired.services[size / 2].backends[0].state = Some(BackendState::Down);
    reconcile(bench, &desired, &mut known, ("one backend changed", what), options)
}

fn reconcile(
    bench: &mut Bench,
    desired: &Desired,
    known: &mut RingCache,
    (what, kind): (&'static str, &'static str),
    options: &Options,
) -> Result<()> {
    let begin = Instant::now();
    let plan = reconcile::plan_with(desired, &reconcile::observe(&bench.tables)?, known);
    ensure!(plan.problems.is_empty(), "the plan has problems: {:?}", plan.problems);
    let planned = begin.elapsed().as_secs_f64() * 1e3;
    reconcile::apply(&plan, &mut bench.tables)?;
    let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
    let (services, steps) = (desired.services.len(), plan.steps.len());
    if options.json {
        println!(
            "{}",
            serde_json::json!({
                "what": what, "kind": kind, "size": services, "steps": steps, "planned_ms": planned, "ms": milliseconds,
            })
        );
    } else {
        println!(
            "{what}, {services} {kind} services: {steps} steps in {milliseconds:.1} ms, {planned:.1} of them for the plan"
        );
    }
    Ok(())
}

fn show(options: &Options, scale: Scale) -> Result<()> {
    if options.json {
        println!("{}", serde_json::to_string(&scale)?);
    } else {
        println!(
            "{:<9} {:>8}: hit {:>5.0} ns, new {:>5.0} ns over mac-swap",
            scale.what, scale.size, scale.hit_over_floor_ns, scale.new_over_floor_ns
        );
    }
    Ok(())
}
