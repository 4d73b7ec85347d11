//! Puts another configuration into force, or says why not.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{
    InForce,
    controller::Controller,
    entries::{Entries, front},
    interfaces, overriding, preflight,
};
use crate::{
    admin::{AccessRules, ListenError},
    events::{Happening, Kind},
    health::Targets,
    network::neighbour::{NextHopState, RESOLVING},
    system::wall_clock,
};
use lb_core::config::BackendId;
use lb_core::{
    config::{self, Config},
    overrides::{Leaving, Overrides, Voided, deadline_after},
    reconcile,
    reload::{self, Action, ReloadError, Report, Source},
    text::{duration, number},
};

/// How long a reload waits for next hops.
const NEXT_HOP_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for files.
const READ_PATIENCE: Duration = Duration::from_secs(5);

impl Controller {
    /// Puts what the configuration file says now into force, all of it or nothing; or only says what that would change.
    pub(super) async fn reload(&mut self, dry_run: bool) -> Result<Report, ReloadError> {
        let result = self.try_reload(dry_run).await;
        match &result {
            _ if dry_run => {}
            Ok(report) => self.events.record(Happening::new(Kind::ReloadApplied, summary(report))),
            Err(error) => self.events.record(Happening::new(Kind::ReloadRefused, error.line())),
        }
        result
    }

    async fn try_reload(&mut self, dry_run: bool) -> Result<Report, ReloadError> {
        let path = self.config_path.clone();
        let (next, targets, warnings) = read(path.clone()).await?;
        let (next, targets) = (Arc::new(next), Arc::new(targets));
        let before = self.in_force.borrow().clone();
        let fixed = reload::fixed_keys(&before.source, &next);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        let now = wall_clock::now();
        let mut report = Report {
            applied: false,
            file: path.display().to_string(),
            changes: reload::compare(&before.source, &next),
            steps: 0,
            warnings,
        };
        let (overrides, voided) = self.overrides_for(&before, &next.config, &mut report, now);
        let trial = tokio::task::block_in_place(|| self.trial(&next.config, &overrides)).map_err(ReloadError::Maps)?;
        if !trial.problems.is_empty() {
            return Err(ReloadError::DoesNotFit(trial.problems));
        }
        report.steps = trial.steps.len();
        let refused = |error: ListenError| ReloadError::Api(error.to_string());
        let rules = tokio::task::block_in_place(|| self.api_rules.prepare(&next.config.api)).map_err(refused)?;
        if dry_run {
            return Ok(report);
        }
        let state_dir = &before.config().node.state_dir;
        if overrides != *before.overrides {
            // What is not on the disk is not promised.
            crate::system::overrides_file::save(state_dir, &overrides)
                .map_err(|error| ReloadError::Unsaved(error.to_string()))?;
        }
        if let Err(error) = self.enter(&before, &next.config, rules).await {
            // Where that fails, too, what the file has of backends that are in force is forgotten at the next start.
            let _ = crate::system::overrides_file::save(state_dir, &before.overrides);
            return Err(error);
        }
        let wanted = &next.config.node;
        self.in_force.send_replace(Arc::new(InForce {
            source: Arc::clone(&next),
            targets,
            overrides: Arc::new(overrides),
            warnings: before.warnings.clone(),
        }));
        for voided in &voided {
            self.events.record(overriding::cleared(voided));
        }
        self.aim();
        self.await_next_hops().await;
        tokio::task::block_in_place(|| self.reconcile());
        // Whoever becomes master now forwards packets already.
        if before.config().vrrp != next.config.vrrp {
            self.vrrp
                .maintain(self.in_force.borrow().overrides.maintained().clone());
            self.vrrp.apply(next.config.vrrp.clone()).await;
        }
        report.applied = true;
        report.warnings.extend(self.reconciled.borrow().last_error.clone());
        if before.config().node.interfaces != wanted.interfaces {
            self.note_interfaces(&before.config().node.interfaces, &wanted.interfaces, &mut report);
        }
        Ok(report)
    }

    /// Applies the rules of the API and takes the interfaces of another configuration; or leaves all as it was.
    async fn enter(&mut self, before: &InForce, next: &Config, rules: Arc<AccessRules>) -> Result<(), ReloadError> {
        let refused = |error: ListenError| ReloadError::Api(error.to_string());
        let former = self.api_rules.apply(rules).map_err(refused)?;
        if before.config().node.interfaces != next.node.interfaces
            && let Err(error) = self.interfaces.set(&next.node.interfaces).await
        {
            // It was in force a moment ago, so it can be again.
            self.api_rules.apply(former).map_err(refused)?;
            return Err(ReloadError::Interface(error.to_string()));
        }
        Ok(())
    }

    /// The overrides that go with another configuration: those that it makes void are forgotten and given too, and backends
    /// that are removed may stay for as long as their flows go on.
    fn overrides_for(
        &self,
        before: &InForce,
        next: &Config,
        report: &mut Report,
        now: Timestamp,
    ) -> (Overrides, Vec<Voided>) {
        let mut overrides = Overrides::clone(&before.overrides);
        let renamed = reload::renamed(before.config(), next);
        overrides.rename(&renamed);
        if let Ok(entries) = Entries::read(&self.tables) {
            for old in &before.config().services {
                let name = renamed.get(&old.name).unwrap_or(&old.name);
                let Some(new) = next.services.iter().find(|new| new.name == *name) else {
                    continue;
                };
                if front(old) != front(new) || old.mode != new.mode || new.drain_timeout.is_zero() {
                    continue;
                }
                for (backend, address, flows) in removed(old, new, &entries, self) {
                    let deadline = deadline_after(now, new.drain_timeout);
                    let note = format!(
                        "its {} may go on for {}",
                        number(flows, "flow"),
                        duration(new.drain_timeout)
                    );
                    annotate(report, &new.name, &backend, &note);
                    overrides.leave(Leaving {
                        service: new.name.clone(),
                        backend,
                        address,
                        since: now,
                        deadline,
                    });
                }
            }
        }
        let voided = overrides.prune(next);
        for Voided { id, cause } in &voided {
            let sentence = format!("an override of {}/{} is cleared: {cause}", id.service, id.backend);
            report.warnings.push(sentence);
        }
        for (BackendId { service, backend }, held, wanted) in overrides.shadowed(before.config(), next) {
            report.warnings.push(format!(
                "{service}/{backend} keeps the weight {held} that an operator gave it, not the {wanted} of the file: \
                 `lbctl backend weight {service}/{backend} --reset` ends that"
            ));
        }
        (overrides, voided)
    }

    /// Waits a moment for the next hops of backends that are new, so that they begin with one.
    async fn await_next_hops(&mut self) {
        let in_force = self.in_force.borrow().clone();
        let services = in_force.config().services.iter();
        let addresses: BTreeSet<_> = services
            .flat_map(|service| &service.backends)
            .map(|backend| backend.address.ip())
            .collect();
        let found = self.next_hops.wait_for(|hops| {
            let is_decided = |state: &NextHopState| state.hop.is_some() || state.reason != RESOLVING;
            addresses
                .iter()
                .all(|address| hops.get(address).is_some_and(is_decided))
        });
        // Those that answer later begin later.
        let _ = tokio::time::timeout(NEXT_HOP_PATIENCE, found).await;
    }

    /// What would be written for a configuration and overrides, and what would not fit.
    pub(super) fn trial(&self, config: &Config, overrides: &Overrides) -> Result<reconcile::Plan, String> {
        let observed = reconcile::observe(&self.tables).map_err(|error| error.to_string())?;
        let desired = self.desired(config, overrides, wall_clock::now());
        Ok(reconcile::plan(&desired, &observed))
    }

    /// Takes the program off interfaces that are no longer wanted, and tells of it.
    fn note_interfaces(&self, before: &[String], after: &[String], report: &mut Report) {
        if let Err(error) = interfaces::drop_others(&self.pins, after) {
            report.warnings.push(error.to_string());
        }
        for name in before.iter().filter(|name| !after.contains(name)) {
            let happening = Happening::new(Kind::ProgramDetached, "it is not in the configuration any more");
            self.events.record(happening.of_interface(name));
        }
    }
}

/// Reads the file and all that it names, and says what may not work. A file system that hangs must not keep the controller from its work.
async fn read(path: PathBuf) -> Result<(Source, Targets, Vec<String>), ReloadError> {
    let (done, read) = oneshot::channel();
    let file = path.clone();
    let work = move || {
        let result = crate::system::config_file::load_source(&path).and_then(|source| {
            let targets = preflight::check(&source)?;
            let warnings = preflight::warnings(&source.config);
            Ok((source, targets, warnings))
        });
        let _ = done.send(result.map_err(ReloadError::Config));
    };
    // Not a thread of the runtime: it would wait for this one when it ends.
    let begun = std::thread::Builder::new().name("reload".to_owned()).spawn(work);
    begun.map_err(|error| ReloadError::Slow(format!("no thread can be started: {error}")))?;
    match tokio::time::timeout(READ_PATIENCE, read).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ReloadError::Slow("the thread that read it ended".to_owned())),
        Err(_) => Err(ReloadError::Slow(format!(
            "{} and the files that it names could not be read within {} s",
            file.display(),
            READ_PATIENCE.as_secs()
        ))),
    }
}

/// Backends of the old service that the new one has not, and that have flows: name, address and how many flows.
fn removed(
    old: &config::Service,
    new: &config::Service,
    entries: &Entries,
    controller: &Controller,
) -> Vec<(String, SocketAddr, u64)> {
    let stays = |address: SocketAddr| new.backends.iter().any(|backend| backend.address == address);
    let takes_packets = |address| {
        entries.find(old, address).is_some_and(|(_, entry)| {
            use lb_common::BackendState::{Draining, Up};
            matches!(entry.status.state(), Up | Draining)
        })
    };
    old.backends
        .iter()
        .filter(|backend| !stays(backend.address) && takes_packets(backend.address))
        .map(|backend| {
            let flows = entries.flows(&controller.tables, old, backend.address);
            (backend.name.clone(), backend.address, flows.unwrap_or(0))
        })
        .collect()
}

/// Adds to what is told of a backend that is removed, or that moves.
fn annotate(report: &mut Report, service: &str, backend: &str, note: &str) {
    let is_it = |change: &&mut reload::Change| {
        change.service.as_deref() == Some(service)
            && change.backend.as_deref() == Some(backend)
            && (change.action == Action::Removed || matches!(change.key.as_deref(), Some("address" | "port")))
    };
    for change in report.changes.iter_mut().filter(is_it) {
        change.note = Some(match change.note.take() {
            Some(known) => format!("{known}; {note}"),
            None => note.to_owned(),
        });
    }
}

fn summary(report: &Report) -> String {
    match report.changes.len() as u64 {
        0 => format!("{}: nothing differs", report.file),
        changes => format!(
            "{}: {}, {}",
            report.file,
            number(changes, "change"),
            number(report.steps as u64, "write")
        ),
    }
}
