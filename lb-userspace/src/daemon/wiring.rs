//! Second step of a start: makes the parts of the controller, connects them by channels, goes live.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    ActiveConfig, DaemonError,
    bootstrap::Bootstrap,
    controller::{Command, Conditions, Controller, SlowStarts},
    interfaces::{self, Interfaces},
    preflight,
};
use crate::{
    admin,
    api::ReconcileStatus,
    dataplane::{self, Access, FormerLayout, Loaded, Pins, Routers, Tables},
    events::{Events, Happening, Kind},
    health::Monitor,
    network::neighbour::{Neighbours, NextHops},
    system::wall_clock,
    vrrp,
};
use lb_core::{config::PacketLog, schedule::RingCache, vrrp::Services};

/// Commands that may wait for the one before them.
const COMMAND_QUEUE: usize = 16;

/// The parts beside the controller, and the receiving ends of its channels.
pub(super) struct Parts {
    pub(super) config_path: PathBuf,
    pub(super) active: watch::Receiver<Arc<ActiveConfig>>,
    pub(super) pins: Pins,
    pub(super) interfaces: Interfaces,
    pub(super) next_hops: watch::Receiver<NextHops>,
    pub(super) reconcile_status: watch::Receiver<ReconcileStatus>,
    pub(super) conditions: watch::Receiver<Conditions>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) listeners: admin::Listeners,
    pub(super) events: Events,
    /// Forwards the log of the XDP program; `None`: `packet_log` is off.
    pub(super) packet_log: Option<JoinHandle<()>>,
    former: Option<&'static FormerLayout>,
}

/// Makes all parts. Nothing runs yet but health checks, neighbours and the driver of VRRP, and
/// these have no targets.
pub(super) fn wire(start: Bootstrap, config_path: &Path, events: &Events) -> Result<(Controller, Parts), DaemonError> {
    let Bootstrap { mut program, pins, .. } = start;
    let config = &start.source.config;
    let (health, health_changes) = Monitor::new()?;
    let (neighbours, next_hops) = Neighbours::spawn()?;
    let packet_log = forward_log(&mut program, config.node.packet_log);
    let link_flaps = Arc::clone(health.link_flaps());
    let interfaces = Interfaces::new(program, pins.clone(), &config.node, events.clone(), link_flaps)?;
    let (active_sender, active) = watch::channel(Arc::new(ActiveConfig {
        source: Arc::clone(&start.source),
        targets: start.targets,
        overrides: Arc::new(start.overrides),
        warnings: start.warnings,
    }));
    let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE);
    let (reconciled, reconcile_status) = watch::channel(ReconcileStatus::default());
    let (conditions_sender, conditions) = watch::channel(Conditions::default());
    let (services, services_seen) = watch::channel(Services::default());
    let vrrp = start_vrrp(&pins, services_seen, &active.borrow(), events)?;
    let listeners = admin::Listeners::open(&config.node.socket, &config.api)?;
    let controller = Controller {
        config_path: config_path.to_owned(),
        api_rules: listeners.rules(),
        active: active_sender,
        interfaces: interfaces.clone(),
        pins: pins.clone(),
        tables: Tables::open(&pins, Access::Write)?,
        ring_cache: RingCache::default(),
        health: Arc::new(health),
        neighbours,
        next_hops: next_hops.clone(),
        health_changes,
        vrrp,
        readiness: BTreeMap::new(),
        services,
        slow_starts: SlowStarts::default(),
        reconciled,
        commands,
        started: wall_clock::now(),
        conditions: conditions_sender,
        is_unsaved: false,
        events: events.clone(),
    };
    let parts = Parts {
        config_path: config_path.to_owned(),
        active,
        pins,
        interfaces,
        next_hops,
        reconcile_status,
        conditions,
        commands: command_sender,
        listeners,
        events: events.clone(),
        packet_log,
        former: start.former,
    };
    Ok((controller, parts))
}

fn start_vrrp(
    pins: &Pins,
    services: watch::Receiver<Services>,
    active: &ActiveConfig,
    events: &Events,
) -> Result<Arc<vrrp::Instances>, DaemonError> {
    let routers = Routers::open(pins, Access::Write)?;
    let instances = vrrp::Instances::start(routers, services, events.clone())?;
    instances.maintain(active.overrides.maintained().clone());
    Ok(Arc::new(instances))
}

fn forward_log(program: &mut Loaded, level: PacketLog) -> Option<JoinHandle<()>> {
    match level {
        PacketLog::Off => None,
        PacketLog::Debug | PacketLog::Trace => Some(tokio::spawn(dataplane::forward_program_log(program.take_log()))),
    }
}

impl Parts {
    /// Fills the maps, attaches the program, and starts VRRP, in this order: a packet never finds
    /// empty maps, and a balancer that becomes master already forwards.
    pub(super) async fn go_live(&self, controller: &mut Controller) -> Result<(), DaemonError> {
        let active = Arc::clone(&self.active.borrow());
        let config = active.config();
        controller.aim();
        controller.reconcile();
        interfaces::drop_others(&self.pins, &config.node.interfaces)?;
        self.interfaces.attach().await?;
        // All links run the new program now.
        self.pins.release_former()?;
        if let Some(former) = self.former {
            let cause = format!("from layout {}, with all flows", former.version);
            self.events.record(Happening::new(Kind::MapsMigrated, cause));
        }
        for warning in active.warnings.iter().chain(&preflight::warnings(config)) {
            tracing::warn!("{warning}");
        }
        controller.vrrp.apply(config.vrrp.clone()).await;
        Ok(())
    }
}
