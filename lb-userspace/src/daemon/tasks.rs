//! Last step of a start, and its counterpart: the background tasks, and the shutdown.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    DaemonError,
    controller::{Controller, Remote},
    flows::{Flusher, SweepThread},
    inspect::Inspector,
    passive_checks::PassiveChecks,
    punts::send_punts,
    vip_checks::VipChecks,
    wiring::Parts,
};
use crate::{
    admin,
    dataplane::{Access, Punts, Tables},
    events::{Events, Happening, Kind},
    vrrp,
};

/// How long the tasks may take to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// The running tasks.
pub(super) struct Tasks {
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
    packet_log: Option<JoinHandle<()>>,
    vrrp: Arc<vrrp::Instances>,
    description: String,
}

impl Tasks {
    /// Starts all tasks.
    pub(super) fn spawn(controller: &Controller, parts: Parts, vip_checks: VipChecks) -> Result<Self, DaemonError> {
        let open = |access| Tables::open(&parts.pins, access);
        let inspector = Arc::new(Inspector {
            vrrp: Arc::clone(&controller.vrrp),
            active: parts.active.clone(),
            config_path: parts.config_path.clone(),
            tables: open(Access::Read)?,
            health: Arc::clone(&controller.health),
            next_hops: parts.next_hops,
            reconcile: parts.reconcile_status.clone(),
            conditions: parts.conditions,
            interfaces: parts.interfaces.status(),
            started: SystemTime::now(),
        });
        let remote = Remote {
            commands: parts.commands,
            events: parts.events.clone(),
            flusher: Flusher::new(open(Access::Write)?)?,
            inspector: Arc::clone(&inspector),
        };
        let passive_checks = PassiveChecks {
            active: parts.active.clone(),
            reconciled: parts.reconcile_status,
            tables: open(Access::Read)?,
            health: Arc::clone(&controller.health),
            events: parts.events,
        };
        let sweep = SweepThread::new(parts.active.clone(), open(Access::Write)?)?;
        let punts = Punts::open(&parts.pins)?;
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        running.spawn(serve(parts.listeners, inspector, Arc::new(remote), stopped.clone()));
        running.spawn(parts.interfaces.follow(stopped.clone()));
        running.spawn(vip_checks.run(stopped.clone()));
        running.spawn(send_punts(punts, stopped.clone()));
        running.spawn(passive_checks.run(stopped.clone()));
        running.spawn_blocking(move || sweep.run(&stopped));
        let description = format!(
            "lbd {} as process {}, with {}, at {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            parts.config_path.display(),
            parts.active.borrow().config().node.socket.display()
        );
        Ok(Self {
            running,
            stop,
            packet_log: parts.packet_log,
            vrrp: Arc::clone(&controller.vrrp),
            description,
        })
    }

    /// Version, process, configuration file and socket, as a sentence for the event of the start.
    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// Releases the virtual addresses, then ends all tasks. `reason` is the cause of the event.
    pub(super) async fn shut_down(mut self, events: &Events, reason: &str) {
        self.vrrp.finish().await;
        events.record(Happening::new(Kind::DaemonStopping, reason));
        events.close();
        let _ = self.stop.send(true);
        let ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN, ended).await.is_err() {
            tracing::warn!("some tasks did not end within {} s", SHUTDOWN.as_secs());
        }
        if let Some(log) = self.packet_log {
            log.abort();
        }
    }
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
