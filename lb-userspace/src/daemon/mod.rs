//! `lbd run`: wires everything together, and keeps it going until it is told to end.

mod checking;
mod commands;
mod conditions;
mod controller;
mod entries;
mod error;
pub mod flows;
mod flushing;
mod in_force;
mod inspect;
mod interface_changes;
mod interfaces;
mod link_facts;
mod naming;
mod overriding;
pub mod preflight;
mod readiness;
mod reloading;
mod returned;
mod suspecting;
mod sweeping;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::SignalKind,
    sync::{mpsc, watch},
};

pub use error::DaemonError;

use crate::{
    admin,
    dataplane::{self, Access, Former, Pins, Punts, Routers, Running, Tables},
    events::{Events, Happening, Kind},
    health::Monitor,
    network::{neighbour::Neighbours, raw_socket::Sender, reserve},
    system::{capabilities, lock::NodeLock, wall_clock},
    vrrp,
};
use commands::Remote;
use controller::{Controller, Hangup};
use flushing::Flusher;
use in_force::InForce;
use inspect::Inspector;
use interfaces::Interfaces;
use lb_core::{
    config::{Config, PacketLog},
    overrides::Overrides,
    schedule::RingCache,
};

/// How many commands may wait for the one before them.
const COMMANDS: usize = 16;
/// How long tasks may take to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// What becomes of the maps that are there at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapChoice {
    /// They are taken over, with all flows. Refused where a program runs over maps that cannot be.
    TakeOver,
    /// New ones take their place in one step.
    Replace,
}

/// Runs the controller until SIGTERM or SIGINT. Packets go on after it ends.
///
/// # Errors
///
/// When it cannot start; after that, what fails is logged and tried again.
pub async fn run(config_path: &Path, maps: MapChoice) -> Result<(), DaemonError> {
    // Who ends this process while it starts shall see it end in order.
    let ended = terminated();
    let hangup = Hangup::watch();
    let events = Events::default();
    let source = Arc::new(crate::system::config_file::load_source(config_path)?);
    let config = &source.config;
    let targets = Arc::new(preflight::check(&source)?);
    let node = &config.node;
    capabilities::check()?;
    let _lock = NodeLock::take(&node.state_dir)?;
    let pins = Pins::new(&node.bpffs, &node.name);
    // What another controller would write to, whatever folder its state is in.
    let _claim = NodeLock::claim(&pins.claim()?)?;
    let former = match maps {
        MapChoice::TakeOver => former(&pins)?,
        MapChoice::Replace => {
            pins.replace_maps()?;
            None
        }
    };
    pins.prepare()?;
    if let Some(former) = former {
        former.share(&pins)?;
    }
    let mut warnings = Vec::new();
    match reserve::add(node.nat_ports, &reservation_file(config)) {
        Ok(unreadable) => warnings.extend(unreadable.map(|unreadable| unreadable.to_string())),
        Err(error) => warnings.push(error.to_string()),
    }

    let overrides = saved_overrides(config, &events, &mut warnings);

    let mut program = dataplane::load_after(former, &pins, &node.capacity, node.nat_ports, node.packet_log)?;
    warnings.append(&mut program.kept_sizes);
    let (health, health_changes) = Monitor::new()?;
    let (neighbours, next_hops) = Neighbours::spawn()?;
    let (reconciled, reconcile_status) = watch::channel(crate::api::ReconcileStatus::default());
    let log = match node.packet_log {
        PacketLog::Off => None,
        PacketLog::Debug | PacketLog::Trace => Some(tokio::spawn(dataplane::forward_program_log(program.take_log()))),
    };
    let interfaces = Interfaces::new(
        program,
        pins.clone(),
        node,
        events.clone(),
        Arc::clone(health.link_flaps()),
    )?;
    let (commands, commands_given) = mpsc::channel(COMMANDS);
    let (in_force, in_force_seen) = watch::channel(Arc::new(InForce {
        source: Arc::clone(&source),
        targets,
        overrides: Arc::new(overrides),
        warnings: Vec::new(),
    }));
    let (services, services_seen) = watch::channel(lb_core::vrrp::Services::default());
    let (conditions, conditions_seen) = watch::channel(conditions::Conditions::default());
    let routers = Routers::open(&pins, Access::Write)?;
    let vrrp = Arc::new(vrrp::Instances::start(routers, services_seen, events.clone())?);
    vrrp.maintain(in_force_seen.borrow().overrides.maintained().clone());
    let listeners = admin::Listeners::open(&node.socket, &config.api)?;
    let mut controller = Controller {
        config_path: config_path.to_owned(),
        api_rules: listeners.rules(),
        in_force,
        interfaces: interfaces.clone(),
        pins: pins.clone(),
        tables: Tables::open(&pins, Access::Write)?,
        ring_cache: RingCache::default(),
        health: Arc::new(health),
        neighbours,
        next_hops: next_hops.clone(),
        health_changes,
        vrrp: Arc::clone(&vrrp),
        readiness: BTreeMap::new(),
        services,
        returned: returned::Returned::default(),
        reconciled,
        commands: commands_given,
        started: wall_clock::now(),
        conditions,
        is_unsaved: false,
        events: events.clone(),
    };
    let checking = checking::Checking::begin(in_force_seen.clone()).await;
    controller.aim();
    // The maps are filled before the first packet can find them.
    controller.reconcile();
    interfaces::drop_others(&pins, &node.interfaces)?;
    interfaces.attach().await?;
    // Nobody needs the programs before this one any more.
    pins.release_former()?;
    if let Some(former) = former {
        let cause = format!("from layout {}, with all flows", former.version);
        events.record(Happening::new(Kind::MapsMigrated, cause));
    }
    for warning in warnings.iter().chain(&preflight::warnings(config)) {
        tracing::warn!("{warning}");
    }
    controller.in_force.send_modify(|in_force| {
        *in_force = Arc::new(InForce {
            warnings,
            ..InForce::clone(in_force)
        });
    });

    // Whoever becomes master now forwards packets already.
    vrrp.apply(config.vrrp.clone()).await;
    let inspector = Arc::new(Inspector {
        vrrp: Arc::clone(&vrrp),
        in_force: in_force_seen.clone(),
        config_path: config_path.to_owned(),
        tables: Tables::open(&pins, Access::Read)?,
        health: Arc::clone(&controller.health),
        next_hops,
        reconcile: reconcile_status.clone(),
        conditions: conditions_seen,
        interfaces: interfaces.status(),
        started: SystemTime::now(),
    });
    let remote = Remote {
        commands,
        events: events.clone(),
        flusher: Flusher::new(Tables::open(&pins, Access::Write)?)?,
        inspector: Arc::clone(&inspector),
    };
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve(listeners, inspector, Arc::new(remote), stopped.clone()));
    tasks.spawn(interfaces.follow(stopped.clone()));
    tasks.spawn(checking.run(stopped.clone()));
    tasks.spawn(send_punts(Punts::open(&pins)?, stopped.clone()));
    tasks.spawn_blocking({
        let sweeping = sweeping::Sweeping::new(in_force_seen.clone(), Tables::open(&pins, Access::Write)?)?;
        let stopped = stopped.clone();
        move || sweeping.run(&stopped)
    });
    let suspecting = suspecting::Suspecting {
        in_force: in_force_seen,
        reconciled: reconcile_status,
        tables: Tables::open(&pins, Access::Read)?,
        health: Arc::clone(&controller.health),
        events: events.clone(),
    };
    tasks.spawn(suspecting.run(stopped.clone()));
    let cause = format!(
        "lbd {} as process {}, with {}, at {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        config_path.display(),
        node.socket.display()
    );
    events.record(Happening::new(Kind::DaemonStarted, cause));

    let outcome = controller.run_until(ended, hangup).await;
    vrrp.finish().await;
    events.record(Happening::new(Kind::DaemonStopping, outcome));
    events.close();
    let _ = stop.send(true);
    if tokio::time::timeout(SHUTDOWN, async { while tasks.join_next().await.is_some() {} })
        .await
        .is_err()
    {
        tracing::warn!("some tasks did not end in time");
    }
    if let Some(log) = log {
        log.abort();
    }
    Ok(())
}

/// Takes the program off all interfaces and removes all maps of the node, and what else it left.
///
/// # Errors
///
/// When the daemon still runs, or something cannot be removed.
pub fn detach(config_path: &Path) -> Result<bool, DaemonError> {
    let config = crate::system::config_file::load(config_path)?;
    let _lock = NodeLock::take(&config.node.state_dir)?;
    let pins = Pins::new(&config.node.bpffs, &config.node.name);
    let _claim = pins.is_there().then(|| pins.claim()).transpose()?;
    let _claim = _claim.as_deref().map(NodeLock::claim).transpose()?;
    // While the packet path still keeps the kernel from answering for them.
    for failure in vrrp::remove_all(&pins, &config.vrrp)? {
        tracing::warn!("{failure}");
    }
    let removed = pins.remove()?;
    if let Some(unreadable) = reserve::remove(&reservation_file(&config))? {
        tracing::warn!("{unreadable}");
    }
    Ok(removed)
}

/// The former layout whose flows are to be taken over. Refuses to take the place of a program whose flows would be lost.
fn former(pins: &Pins) -> Result<Option<&'static Former>, DaemonError> {
    match dataplane::running(pins)? {
        Running::Own | Running::Between => Ok(None),
        Running::Former(former) => Ok(Some(former)),
        Running::Foreign { interfaces, others } => {
            Err(dataplane::DataplaneError::Foreign { interfaces, others }.into())
        }
    }
}

fn reservation_file(config: &Config) -> PathBuf {
    config.node.state_dir.join("reserved-ports")
}

/// What operators decided before, as far as it concerns backends that there are.
fn saved_overrides(config: &Config, events: &Events, warnings: &mut Vec<String>) -> Overrides {
    let state_dir = &config.node.state_dir;
    let mut overrides = crate::system::overrides_file::load(state_dir).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        events.record(Happening::new(Kind::OverridesUnreadable, error.to_string()));
        Overrides::default()
    });
    let before = overrides.clone();
    for voided in overrides.prune(config) {
        events.record(overriding::cleared(&voided));
    }
    let now = wall_clock::now();
    overrides.gone(|leaving| leaving.deadline <= now);
    if overrides != before
        && let Err(error) = crate::system::overrides_file::save(state_dir, &overrides)
    {
        events.record(Happening::new(Kind::OverridesUnsaved, error.to_string()));
    }
    overrides
}

async fn serve(
    listeners: admin::Listeners,
    inspector: Arc<Inspector>,
    remote: Arc<Remote>,
    mut stopped: watch::Receiver<bool>,
) {
    let shutdown = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    admin::server::serve(listeners, inspector, remote, shutdown).await;
}

/// Sends the packets that the packet path could not, until told to end.
async fn send_punts(mut punts: Punts, mut stopped: watch::Receiver<bool>) {
    let sender = match Sender::new() {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!(%error, "packets whose next hop is not resolved cannot be sent");
            return;
        }
    };
    loop {
        let drained = tokio::select! {
            drained = punts.drain(|family, packet| {
                if let Err(error) = sender.send(family, packet) {
                    tracing::debug!(%error, "a packet whose next hop is not resolved could not be sent");
                }
            }) => drained,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        if let Err(error) = drained {
            tracing::error!(%error, "the queue of packets to send cannot be read");
            return;
        }
    }
}

/// Watches for signals to end, from now on; the future gives the name of the first one.
fn terminated() -> impl Future<Output = &'static str> {
    let signal = |kind| tokio::signal::unix::signal(kind);
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            },
            _ => {
                tracing::error!("signals cannot be watched; only SIGKILL ends this process");
                std::future::pending().await
            }
        }
    }
}

/// Health verdicts by target.
type Verdicts = BTreeMap<lb_core::config::BackendId, lb_core::health::Verdict>;
