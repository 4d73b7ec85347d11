//! First step of a start: locks, pins, reserved ports, saved overrides, and the loaded XDP program.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{DaemonError, controller::overrides::cleared};
use crate::{
    dataplane::{self, DataplaneError, FormerLayout, Loaded, Pins, Running},
    events::{Events, Happening, Kind},
    health::Targets,
    network::port_reservation,
    system::{capabilities, config_file, lock::NodeLock, overrides_file, wall_clock},
};
use lb_core::{config::Config, overrides::Overrides, reload::Source};

/// What a start does with maps that are already pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapChoice {
    /// Adopt them with all flows. The start fails if the running program uses maps that this
    /// version cannot adopt.
    TakeOver,
    /// Replace them by new, empty maps in one step.
    Replace,
}

/// The locks that keep a second controller away from the node.
pub(super) struct Locks {
    _state: NodeLock,
    _maps: NodeLock,
}

/// The result of the first step.
pub(super) struct Bootstrap {
    pub(super) source: Arc<Source>,
    pub(super) targets: Arc<Targets>,
    pub(super) overrides: Overrides,
    pub(super) pins: Pins,
    pub(super) program: Loaded,
    /// The former layout whose flows were adopted; `None`: this version's own, or none.
    pub(super) former: Option<&'static FormerLayout>,
    /// Warnings for the operator, each a sentence.
    pub(super) warnings: Vec<String>,
}

/// Prepares the node and loads the program. No interface is attached yet.
///
/// # Errors
///
/// When the configuration is invalid, another controller runs, or the kernel refuses something.
pub(super) fn bootstrap(
    config_path: &Path,
    maps: MapChoice,
    events: &Events,
) -> Result<(Locks, Bootstrap), DaemonError> {
    let source = Arc::new(config_file::load_source(config_path)?);
    let config = &source.config;
    let targets = Arc::new(super::preflight::check(&source)?);
    let node = &config.node;
    capabilities::check()?;
    let state = NodeLock::take(&node.state_dir)?;
    let pins = Pins::new(&node.bpffs, &node.name);
    // A second lock on the maps: another controller may use another state directory.
    let locks = Locks {
        _state: state,
        _maps: NodeLock::claim(&pins.claim()?)?,
    };
    let former = prepare_pins(&pins, maps)?;
    let mut warnings = reserve_ports(config);
    let overrides = saved_overrides(config, events, &mut warnings);
    let mut program = dataplane::load_after(former, &pins, &node.capacity, node.nat_ports, node.packet_log)?;
    warnings.append(&mut program.kept_sizes);
    let start = Bootstrap {
        source: Arc::clone(&source),
        targets,
        overrides,
        pins,
        program,
        former,
        warnings,
    };
    Ok((locks, start))
}

/// Creates the folders of pins, and shares the maps of a former layout where one is adopted.
fn prepare_pins(pins: &Pins, maps: MapChoice) -> Result<Option<&'static FormerLayout>, DaemonError> {
    let former = match maps {
        MapChoice::TakeOver => former_layout(pins)?,
        MapChoice::Replace => {
            pins.replace_maps()?;
            None
        }
    };
    pins.prepare()?;
    if let Some(former) = former {
        former.share(pins)?;
    }
    Ok(former)
}

/// The former layout whose flows are adopted. Refuses to replace a program whose flows would be
/// lost.
fn former_layout(pins: &Pins) -> Result<Option<&'static FormerLayout>, DaemonError> {
    match dataplane::running(pins)? {
        Running::Own | Running::Between => Ok(None),
        Running::Former(former) => Ok(Some(former)),
        Running::Foreign { interfaces, others } => Err(DataplaneError::Foreign { interfaces, others }.into()),
    }
}

/// Reserves the source ports of `nat`. Returns warnings: the controller starts all the same.
fn reserve_ports(config: &Config) -> Vec<String> {
    match port_reservation::add(config.node.nat_ports, &reservation_file(config)) {
        Ok(unreadable) => unreadable
            .map(|unreadable| unreadable.to_string())
            .into_iter()
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// The file that records which ports were reserved.
pub(super) fn reservation_file(config: &Config) -> PathBuf {
    config.node.state_dir.join("reserved-ports")
}

/// The overrides that were saved by a former run, for backends that still exist.
fn saved_overrides(config: &Config, events: &Events, warnings: &mut Vec<String>) -> Overrides {
    let state_dir = &config.node.state_dir;
    let mut overrides = overrides_file::load(state_dir).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        events.record(Happening::new(Kind::OverridesUnreadable, error.to_string()));
        Overrides::default()
    });
    let before = overrides.clone();
    for voided in overrides.prune(config) {
        events.record(cleared(&voided));
    }
    let now = wall_clock::now();
    overrides.gone(|leaving| leaving.deadline <= now);
    if overrides != before
        && let Err(error) = overrides_file::save(state_dir, &overrides)
    {
        events.record(Happening::new(Kind::OverridesUnsaved, error.to_string()));
    }
    overrides
}
