//! Looks at all that a virtual router depends on, and says when something changed.

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
use lb_core::vrrp::tracking::{Seen, Services, TrackResult, evaluate, service, unknown};
use lb_core::{
    config::{CommandTrack, Track, Tracked},
    text::duration,
};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often interfaces are looked at without cause.
const LINK_LOOK: Duration = Duration::from_secs(1);

/// Counts changes of whatever is followed; all trackers share one.
pub type News = Arc<watch::Sender<u64>>;

/// Follows what one virtual router depends on, until it is dropped.
pub struct Tracker {
    /// What is followed.
    pub tracks: Vec<Track>,
    track_result: watch::Receiver<TrackResult>,
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
    /// Begins to follow, on the calling runtime and in its network namespace.
    pub fn begin(tracks: Vec<Track>, services: &watch::Receiver<Services>, news: &News) -> Self {
        let seen = watch::Sender::new(unknown(&tracks));
        let (sender, receiver) = watch::channel(TrackResult::default());
        let seen = Arc::new(seen);
        let mut tasks = Vec::new();
        for (index, track) in tracks.iter().enumerate() {
            let orders = ObservationSlot {
                seen: Arc::clone(&seen),
                index,
            };
            tasks.push(begin(track.what.clone(), orders, services.clone()));
        }
        let told = tokio::spawn(tell(tracks.clone(), seen, sender, Arc::clone(news)));
        tasks.push(told.abort_handle());
        Self {
            tracks,
            track_result: receiver,
            tasks,
        }
    }

    /// What all of it means, now and later.
    pub fn evaluate(&self) -> watch::Receiver<TrackResult> {
        self.track_result.clone()
    }
}

/// Where what is seen of one of them is put down.
struct ObservationSlot {
    seen: Arc<watch::Sender<Vec<Seen>>>,
    index: usize,
}

impl ObservationSlot {
    fn put(&self, found: Result<(), String>) {
        self.seen.send_if_modified(|all| {
            let Some(own) = all.get_mut(self.index) else {
                return false;
            };
            let found = Some(found);
            let is_new = *own != found;
            *own = found;
            is_new
        });
    }
}

async fn tell(
    tracks: Vec<Track>,
    putting: Arc<watch::Sender<Vec<Seen>>>,
    sender: watch::Sender<TrackResult>,
    news: News,
) {
    // It is held here: where nothing is depended on, nobody else does.
    let mut seen = putting.subscribe();
    loop {
        let found = evaluate(&tracks, &seen.borrow_and_update());
        let is_new = sender.send_if_modified(|known| {
            let is_new = *known != found;
            *known = found;
            is_new
        });
        if is_new {
            news.send_modify(|number| *number += 1);
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

fn begin(what: Tracked, orders: ObservationSlot, services: watch::Receiver<Services>) -> AbortHandle {
    let task = match what {
        Tracked::Interface(name) => tokio::spawn(follow_interface(name, orders)),
        Tracked::Service { name, quorum } => tokio::spawn(follow_service(name, quorum, orders, services)),
        Tracked::File { path, present } => tokio::spawn(async move { follow_file(&path, present, &orders).await }),
        Tracked::Command(track) => tokio::spawn(follow_command(track, orders)),
    };
    task.abort_handle()
}

async fn follow_interface(name: String, orders: ObservationSlot) {
    // It ends with this task.
    let mut connections = JoinSet::new();
    let (connection, handle, _) = match rtnetlink::new_connection() {
        Ok(opened) => opened,
        Err(error) => return orders.put(Err(format!("interface {name} cannot be asked for: {error}"))),
    };
    connections.spawn(connection);
    let mut changes = LinkChanges::new(LINK_LOOK);
    loop {
        if let Some(found) = look_at(&handle, &name).await {
            orders.put(found);
        }
        changes.next().await;
    }
}

/// Whether an interface has a link; `None`: the kernel did not tell.
async fn look_at(handle: &Handle, name: &str) -> Option<Result<(), String>> {
    let link = addresses::link(handle, name).await.ok()?;
    Some(match link {
        Some(link) if link.is_running => Ok(()),
        Some(_) => Err(format!("interface {name} is down")),
        None => Err(format!("interface {name} is missing")),
    })
}

async fn follow_service(name: String, quorum: u32, orders: ObservationSlot, mut services: watch::Receiver<Services>) {
    loop {
        let found = service(&services.borrow_and_update(), &name, quorum);
        orders.put(found);
        if services.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_file(path: &Path, present: bool, orders: &ObservationSlot) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let found = match tokio::fs::try_exists(path).await {
            Ok(there) if there == present => Ok(()),
            Ok(true) => Err(format!("file {} is there", path.display())),
            Ok(false) => Err(format!("file {} is missing", path.display())),
            Err(error) => Err(format!("file {} cannot be looked for: {error}", path.display())),
        };
        orders.put(found);
    }
}

async fn follow_command(track: CommandTrack, orders: ObservationSlot) {
    let program = track.command.argv.first().cloned().unwrap_or_default();
    let user = match command::user(&track.command.user, false) {
        Ok(user) => user,
        Err(error) => return orders.put(Err(format!("command {program}: {error}"))),
    };
    let mut turn = interval(track.interval);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_a_row = InARow::default();
    loop {
        turn.tick().await;
        let Some(result) = run(&track, &user).await else {
            // A machine that is short of something says nothing about what the command is about.
            continue;
        };
        if let Some(found) = in_a_row.note(result, track.rise, track.fall) {
            orders.put(found.map_err(|how| format!("command {program}: {how}")));
        }
    }
}

async fn run(track: &CommandTrack, user: &RunAs) -> Option<Result<(), String>> {
    let ran = command::run(&track.command.argv, &track.command.environment, user);
    match timeout(track.timeout, ran).await {
        Ok(Ok(())) => Some(Ok(())),
        Ok(Err(CommandFailure::Failed(how))) => Some(Err(how)),
        Ok(Err(CommandFailure::Here(error))) => {
            tracing::warn!(%error, "a tracked command cannot be run, its last result is kept");
            None
        }
        Err(_) => Some(Err(format!("timeout after {}", duration(track.timeout)))),
    }
}

/// Results of a command one after the other: the first one counts at once.
#[derive(Default)]
struct InARow {
    is_up: Option<bool>,
    against: u32,
}

impl InARow {
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
    fn the_first_result_counts_at_once_and_others_in_a_row() {
        let mut row = InARow::default();
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
            let found = row.note(result, 2, 3).map(|found| found.is_ok());
            assert_eq!(found, then, "turn {turn}");
        }
    }
}
