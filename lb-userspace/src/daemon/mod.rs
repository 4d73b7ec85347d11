//! `lbd run`: wires everything together, and keeps it going until it is told to end.

mod controller;
mod error;
mod inspect;
mod interfaces;
mod returned;
mod sweeping;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{signal::unix::SignalKind, sync::watch};

pub use error::DaemonError;

use crate::{
    admin, capabilities,
    config::{self, Config, PacketLog},
    dataplane::{self, Access, Pins, Punts, Tables},
    health::Monitor,
    lock::NodeLock,
    neighbour::Neighbours,
    raw_socket::Sender,
    reserve::Reservation,
};
use controller::Controller;
use inspect::Inspector;

/// How long tasks may take to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs the controller until SIGTERM or SIGINT. Packets go on after it ends.
///
/// # Errors
///
/// When it cannot start; after that, what fails is logged and tried again.
pub async fn run(config_path: &Path) -> Result<(), DaemonError> {
    let config = Arc::new(config::load(config_path)?);
    let node = &config.node;
    capabilities::check()?;
    let _lock = NodeLock::take(&node.state_dir)?;
    let pins = Pins::new(&node.bpffs, &node.name);
    pins.prepare()?;
    let mut warnings = Vec::new();
    for folder in pins.other_versions() {
        warnings.push(format!(
            "{} holds maps of another version of lbd; `lbd detach` removes them",
            folder.display()
        ));
    }
    if let Err(error) = Reservation::add(node.nat_ports, &reservation_file(&config)) {
        warnings.push(error.to_string());
    }

    let mut program = dataplane::load(&pins, &node.capacity, node.nat_ports, node.packet_log)?;
    warnings.append(&mut program.kept_sizes);
    let (health, health_changes) = Monitor::new();
    let (neighbours, next_hops) = Neighbours::spawn()?;
    let (reconciled, reconcile_status) = watch::channel(admin::model::ReconcileStatus::default());
    let mut controller = Controller {
        config: Arc::clone(&config),
        tables: Tables::open(&pins, Access::Write)?,
        health: Arc::new(health),
        neighbours,
        next_hops: next_hops.clone(),
        health_changes,
        returned: returned::Returned::default(),
        reconciled,
    };
    controller.aim();
    // The maps are filled before the first packet can find them.
    controller.reconcile();
    interfaces::drop_others(&pins, &node.interfaces)?;
    let interfaces = interfaces::attach(&mut program, &pins, node, &mut warnings).await?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }

    let inspector = Inspector {
        config: Arc::clone(&config),
        config_path: config_path.to_owned(),
        tables: Tables::open(&pins, Access::Read)?,
        health: Arc::clone(&controller.health),
        next_hops,
        reconcile: reconcile_status,
        interfaces,
        warnings,
        started: SystemTime::now(),
    };
    let listeners = admin::Listeners::open(&node.socket, &config.api)?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve(listeners, inspector, stopped.clone()));
    tasks.spawn(send_punts(Punts::open(&pins)?, stopped.clone()));
    tasks.spawn_blocking({
        let sweeping = sweeping::Sweeping::new(Arc::clone(&config), Tables::open(&pins, Access::Write)?)?;
        let stopped = stopped.clone();
        move || sweeping.run(&stopped)
    });
    let log = (node.packet_log != PacketLog::Off)
        .then(|| tokio::spawn(dataplane::forward_program_log(program.into_object())));
    tracing::info!(node = node.name, socket = %node.socket.display(), "lbd is ready");

    let outcome = controller.run_until(terminated()).await;
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
    tracing::info!(
        signal = outcome,
        "lbd ends; packets are forwarded on, without health checks (`lbd detach` ends that)"
    );
    Ok(())
}

/// Takes the program off all interfaces and removes all maps of the node, and what else it left.
///
/// # Errors
///
/// When the daemon still runs, or something cannot be removed.
pub fn detach(config_path: &Path) -> Result<bool, DaemonError> {
    let config = config::load(config_path)?;
    let _lock = NodeLock::take(&config.node.state_dir)?;
    let removed = Pins::new(&config.node.bpffs, &config.node.name).remove()?;
    Reservation::remove(&reservation_file(&config))?;
    Ok(removed)
}

fn reservation_file(config: &Config) -> PathBuf {
    config.node.state_dir.join("reserved-ports")
}

async fn serve(listeners: admin::Listeners, inspector: Inspector, mut stopped: watch::Receiver<bool>) {
    let shutdown = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    admin::server::serve(listeners, Arc::new(inspector), shutdown).await;
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

/// Waits for a signal to end; returns its name.
async fn terminated() -> &'static str {
    let signal = |kind| tokio::signal::unix::signal(kind);
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
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

/// Health verdicts by target.
type Verdicts = BTreeMap<crate::health::TargetId, crate::health::Verdict>;
