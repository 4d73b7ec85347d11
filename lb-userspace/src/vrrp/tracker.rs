//! Observes the conditions that a virtual router depends on: interfaces, services, files and
//! commands.

use std::{path::Path, sync::Arc, time::Duration};

use rtnetlink::Handle;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    network::link_changes::LinkChanges,
    system::command::{self, CommandFailure, RunAs},
    vrrp::addresses,
};
use lb_core::{
    config::{CommandTrack, Track, Tracked},
    text::duration,
    vrrp::tracking::{Observation, Services, TrackResult, TrackRule, check_service, evaluate},
};

/// Time between two observations of a file.
const FILE_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two observations of an interface, if nothing changes.
const LINK_INTERVAL: Duration = Duration::from_secs(1);

/// Counts changes of tracks and readiness. All trackers share one.
pub(super) type ChangeCounter = Arc<watch::Sender<u64>>;

/// Observes the tracks of one virtual router, until it is dropped.
pub(super) struct Tracker {
    /// What is observed.
    pub(super) tracks: Vec<Track>,
    result: watch::Receiver<TrackResult>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Tracker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Tracker {
    /// Starts to observe, on the calling runtime and in its network namespace.
    pub(super) fn start(tracks: Vec<Track>, services: &watch::Receiver<Services>, changes: &ChangeCounter) -> Self {
        let observations = Arc::new(watch::Sender::new(first_observations(&tracks)));
        let (sender, result) = watch::channel(TrackResult::default());
        let mut tasks = Vec::new();
        for (index, track) in tracks.iter().enumerate() {
            let slot = ObservationSlot {
                observations: Arc::clone(&observations),
                index,
            };
            tasks.push(observe(track.what.clone(), slot, services.clone()));
        }
        let rules = tracks.iter().map(Track::rule).collect();
        let publisher = tokio::spawn(publish(rules, observations, sender, Arc::clone(changes)));
        tasks.push(publisher.abort_handle());
        Self { tracks, result, tasks }
    }

    /// The result of all tracks, now and after each change.
    pub(super) fn result(&self) -> watch::Receiver<TrackResult> {
        self.result.clone()
    }
}

/// What is assumed before anything is observed. A service serves as it did before this start.
fn first_observations(tracks: &[Track]) -> Vec<Observation> {
    let first = |track: &Track| match &track.what {
        Tracked::Service { .. } => Some(Ok(())),
        Tracked::Interface(_) | Tracked::File { .. } | Tracked::Command(_) => None,
    };
    tracks.iter().map(first).collect()
}

/// Where the observations of one track are stored.
struct ObservationSlot {
    observations: Arc<watch::Sender<Vec<Observation>>>,
    index: usize,
}

impl ObservationSlot {
    fn set(&self, observed: Result<(), String>) {
        self.observations.send_if_modified(|all| {
            let Some(own) = all.get_mut(self.index) else {
                return false;
            };
            let observed = Some(observed);
            let is_new = *own != observed;
            *own = observed;
            is_new
        });
    }
}

/// Evaluates the observations after each change, and publishes a changed result.
async fn publish(
    rules: Vec<TrackRule>,
    observations: Arc<watch::Sender<Vec<Observation>>>,
    result: watch::Sender<TrackResult>,
    changes: ChangeCounter,
) {
    // This task keeps `observations` alive: without tracks, no other task does.
    let mut seen = observations.subscribe();
    loop {
        let found = evaluate(&rules, &seen.borrow_and_update());
        let is_new = result.send_if_modified(|known| {
            let is_new = *known != found;
            *known = found;
            is_new
        });
        if is_new {
            changes.send_modify(|number| *number += 1);
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

fn observe(what: Tracked, slot: ObservationSlot, services: watch::Receiver<Services>) -> AbortHandle {
    let task = match what {
        Tracked::Interface(name) => tokio::spawn(observe_interface(name, slot)),
        Tracked::Service { name, quorum } => tokio::spawn(observe_service(name, quorum, slot, services)),
        Tracked::File { path, present } => tokio::spawn(async move { observe_file(&path, present, &slot).await }),
        Tracked::Command(track) => tokio::spawn(observe_command(track, slot)),
    };
    task.abort_handle()
}

async fn observe_interface(name: String, slot: ObservationSlot) {
    // The connection ends with this task.
    let mut connections = JoinSet::new();
    let (connection, handle, _) = match rtnetlink::new_connection() {
        Ok(opened) => opened,
        Err(error) => return slot.set(Err(format!("interface {name} cannot be read: {error}"))),
    };
    connections.spawn(connection);
    let mut changes = LinkChanges::new(LINK_INTERVAL);
    loop {
        if let Some(found) = read_link(&handle, &name).await {
            slot.set(found);
        }
        changes.next().await;
    }
}

/// Whether an interface has a link. `None`: netlink failed.
async fn read_link(handle: &Handle, name: &str) -> Option<Result<(), String>> {
    let link = addresses::link(handle, name).await.ok()?;
    Some(match link {
        Some(link) if link.is_running => Ok(()),
        Some(_) => Err(format!("interface {name} is down")),
        None => Err(format!("interface {name} does not exist")),
    })
}

async fn observe_service(name: String, quorum: u32, slot: ObservationSlot, mut services: watch::Receiver<Services>) {
    loop {
        let found = check_service(&services.borrow_and_update(), &name, quorum);
        slot.set(found);
        if services.changed().await.is_err() {
            return;
        }
    }
}

async fn observe_file(path: &Path, present: bool, slot: &ObservationSlot) {
    let mut ticks = interval(FILE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = match tokio::fs::try_exists(path).await {
            Ok(exists) if exists == present => Ok(()),
            Ok(true) => Err(format!("file {} exists", path.display())),
            Ok(false) => Err(format!("file {} does not exist", path.display())),
            Err(error) => Err(format!("file {} cannot be read: {error}", path.display())),
        };
        slot.set(found);
    }
}

async fn observe_command(track: CommandTrack, slot: ObservationSlot) {
    let program = track.command.argv.first().cloned().unwrap_or_default();
    let user = match command::user(&track.command.user, false) {
        Ok(user) => user,
        Err(error) => return slot.set(Err(format!("command {program}: {error}"))),
    };
    let mut ticks = interval(track.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hysteresis = Hysteresis::default();
    loop {
        ticks.tick().await;
        let Some(result) = run(&track, &user).await else {
            // This machine lacks a resource. That says nothing about what the command checks.
            continue;
        };
        if let Some(found) = hysteresis.note(result, track.rise, track.fall) {
            slot.set(found.map_err(|how| format!("command {program}: {how}")));
        }
    }
}

/// Runs a tracked command once. `None`: it could not be started.
async fn run(track: &CommandTrack, user: &RunAs) -> Option<Result<(), String>> {
    let ran = command::run(&track.command.argv, &track.command.environment, user);
    match timeout(track.timeout, ran).await {
        Ok(Ok(())) => Some(Ok(())),
        Ok(Err(CommandFailure::Failed(how))) => Some(Err(how)),
        Ok(Err(CommandFailure::Here(error))) => {
            tracing::warn!(%error, "a tracked command cannot be started; its last result is kept");
            None
        }
        Err(_) => Some(Err(format!("timeout after {}", duration(track.timeout)))),
    }
}

/// Rise and fall of a tracked command. The first result counts at once.
#[derive(Default)]
struct Hysteresis {
    is_up: Option<bool>,
    /// Results in a row that contradict `is_up`.
    against: u32,
}

impl Hysteresis {
    /// Notes a result. Returns it if it changes the state.
    fn note(&mut self, result: Result<(), String>, rise: u32, fall: u32) -> Option<Result<(), String>> {
        let enough = match self.is_up {
            Some(is_up) if is_up == result.is_ok() => {
                self.against = 0;
                return None;
            }
            Some(true) => fall,
            Some(false) => rise,
            None => 1,
        };
        self.against += 1;
        if self.against < enough {
            return None;
        }
        self.against = 0;
        self.is_up = Some(result.is_ok());
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_result_counts_at_once_and_later_ones_in_a_row() {
        let mut hysteresis = Hysteresis::default();
        let (good, bad) = (|| Ok(()), || Err("exit status 1".to_owned()));
        let given_then = [
            (bad(), Some(false)),
            (bad(), None),
            (good(), None),
            (bad(), None),
            (good(), None),
            (good(), Some(true)),
            (bad(), None),
            (bad(), None),
            (good(), None),
            (bad(), None),
            (bad(), None),
            (bad(), Some(false)),
        ];
        for (turn, (result, then)) in given_then.into_iter().enumerate() {
            let found = hysteresis.note(result, 2, 3).map(|found| found.is_ok());
            assert_eq!(found, then, "turn {turn}");
        }
    }
}
