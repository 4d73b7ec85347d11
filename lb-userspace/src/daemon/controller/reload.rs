//! Reload: applies a changed configuration as a whole, or refuses it as a whole.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Controller, overrides};
use crate::{
    admin::{AccessRules, ListenError},
    daemon::{
        ActiveConfig, interfaces,
        map_entries::{MapEntries, front},
        preflight,
    },
    dataplane::Tables,
    events::{Happening, Kind},
    health::Targets,
    network::neighbour::{NextHopState, RESOLVING},
    system::{config_file, overrides_file, wall_clock},
};
use lb_core::{
    config::{self, BackendId, Config},
    overrides::{Leaving, Overrides, Voided, deadline_after},
    reconcile,
    reload::{self, Action, ReloadError, Report, Source},
    text::{duration, number},
};

/// Longest wait of a reload for next hops.
const NEXT_HOP_PATIENCE: Duration = Duration::from_secs(1);
/// Longest wait for files.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// A new configuration that can be applied, with what follows from it.
struct Change {
    source: Arc<Source>,
    targets: Arc<Targets>,
    overrides: Overrides,
    voided: Vec<Voided>,
    rules: Arc<AccessRules>,
    report: Report,
}

impl Controller {
    /// Applies the configuration file, all of it or nothing. A dry run only reports what would
    /// change.
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
        let before = self.active.borrow().clone();
        let mut change = self.prepare(&before).await?;
        if dry_run {
            return Ok(change.report);
        }
        self.commit(&before, &change).await?;
        self.active.send_replace(Arc::new(ActiveConfig {
            source: Arc::clone(&change.source),
            targets: Arc::clone(&change.targets),
            overrides: Arc::new(change.overrides),
            warnings: before.warnings.clone(),
        }));
        for voided in &change.voided {
            self.events.record(overrides::cleared(voided));
        }
        self.aim();
        self.await_next_hops().await;
        tokio::task::block_in_place(|| self.reconcile());
        let next = &change.source.config;
        // VRRP comes last: a balancer that becomes master now already forwards.
        if before.config().vrrp != next.vrrp {
            self.vrrp.maintain(self.active.borrow().overrides.maintained().clone());
            self.vrrp.apply(next.vrrp.clone()).await;
        }
        change.report.applied = true;
        change
            .report
            .warnings
            .extend(self.reconciled.borrow().last_error.clone());
        let (old, new) = (&before.config().node.interfaces, &next.node.interfaces);
        if old != new {
            self.detach_removed(old, new, &mut change.report);
        }
        Ok(change.report)
    }

    /// Reads the new configuration and checks that it can be applied. Nothing is changed yet.
    async fn prepare(&self, before: &ActiveConfig) -> Result<Change, ReloadError> {
        let (source, targets, warnings) = read(self.config_path.clone()).await?;
        let fixed = reload::fixed_keys(&before.source, &source);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        let mut report = Report {
            applied: false,
            file: self.config_path.display().to_string(),
            changes: reload::compare(&before.source, &source),
            steps: 0,
            warnings,
        };
        let (overrides, voided) = self.overrides_for(before, &source.config, &mut report, wall_clock::now());
        let trial =
            tokio::task::block_in_place(|| self.trial(&source.config, &overrides)).map_err(ReloadError::Maps)?;
        if !trial.problems.is_empty() {
            return Err(ReloadError::DoesNotFit(trial.problems));
        }
        report.steps = trial.steps.len();
        let rules = tokio::task::block_in_place(|| self.api_rules.prepare(&source.config.api)).map_err(refused)?;
        Ok(Change {
            source: Arc::new(source),
            targets: Arc::new(targets),
            overrides,
            voided,
            rules,
            report,
        })
    }

    /// Does what can fail: saves the overrides, opens the listeners of the API, attaches to new
    /// interfaces. If one of these fails, the former ones are restored.
    async fn commit(&mut self, before: &ActiveConfig, change: &Change) -> Result<(), ReloadError> {
        let state_dir = &before.config().node.state_dir;
        if change.overrides != *before.overrides {
            // Saved before it is confirmed: a confirmed override survives a restart.
            overrides_file::save(state_dir, &change.overrides)
                .map_err(|error| ReloadError::Unsaved(error.to_string()))?;
        }
        let entered = self
            .enter(before, &change.source.config, Arc::clone(&change.rules))
            .await;
        if let Err(error) = entered {
            // If this fails too, the next start drops saved overrides of unknown backends.
            let _ = overrides_file::save(state_dir, &before.overrides);
            return Err(error);
        }
        Ok(())
    }

    /// Opens the listeners of the API, and attaches to the interfaces of another configuration. If
    /// one fails, both are as before.
    async fn enter(
        &mut self,
        before: &ActiveConfig,
        next: &Config,
        rules: Arc<AccessRules>,
    ) -> Result<(), ReloadError> {
        let former = self.api_rules.apply(rules).map_err(refused)?;
        if before.config().node.interfaces != next.node.interfaces
            && let Err(error) = self.interfaces.set(&next.node.interfaces).await
        {
            // The former listeners worked a moment ago.
            self.api_rules.apply(former).map_err(refused)?;
            return Err(ReloadError::Interface(error.to_string()));
        }
        Ok(())
    }

    /// The overrides for another configuration. Those that it makes void are removed and also
    /// returned. Removed backends with flows stay until their flows have ended.
    fn overrides_for(
        &self,
        before: &ActiveConfig,
        next: &Config,
        report: &mut Report,
        now: Timestamp,
    ) -> (Overrides, Vec<Voided>) {
        let mut overrides = Overrides::clone(&before.overrides);
        let renamed = reload::renamed(before.config(), next);
        overrides.rename(&renamed);
        if let Ok(entries) = MapEntries::read(&self.tables) {
            for old in &before.config().services {
                let name = renamed.get(&old.name).unwrap_or(&old.name);
                let Some(new) = next.services.iter().find(|new| new.name == *name) else {
                    continue;
                };
                if front(old) == front(new) && old.mode == new.mode && !new.drain_timeout.is_zero() {
                    self.keep_removed((old, new), &entries, &mut overrides, report, now);
                }
            }
        }
        let voided = overrides.prune(next);
        for Voided { id, cause } in &voided {
            let sentence = format!("the override of {}/{} is cleared: {cause}", id.service, id.backend);
            report.warnings.push(sentence);
        }
        for (BackendId { service, backend }, held, wanted) in overrides.shadowed(before.config(), next) {
            report.warnings.push(format!(
                "{service}/{backend} keeps the weight {held} of an override; the file says {wanted}: \
                 run `lbctl backend weight {service}/{backend} --reset` to use the file's weight"
            ));
        }
        (overrides, voided)
    }

    /// Keeps backends that a service loses, as draining, if they have flows.
    fn keep_removed(
        &self,
        (old, new): (&config::Service, &config::Service),
        entries: &MapEntries,
        overrides: &mut Overrides,
        report: &mut Report,
        now: Timestamp,
    ) {
        for (backend, address, flows) in removed(old, new, entries, &self.tables) {
            let note = format!(
                "{} kept for up to {}",
                number(flows, "flow"),
                duration(new.drain_timeout)
            );
            annotate(report, &new.name, &backend, &note);
            overrides.leave(Leaving {
                service: new.name.clone(),
                backend,
                address,
                since: now,
                deadline: deadline_after(now, new.drain_timeout),
            });
        }
    }

    /// Waits a moment for the next hops of new backends, so that they start with one.
    async fn await_next_hops(&mut self) {
        let active = self.active.borrow().clone();
        let services = active.config().services.iter();
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
        // A backend without one gets it with a later reconciliation.
        let _ = tokio::time::timeout(NEXT_HOP_PATIENCE, found).await;
    }

    /// The plan for a configuration and overrides: what would be written, and what would not fit.
    pub(super) fn trial(&self, config: &Config, overrides: &Overrides) -> Result<reconcile::Plan, String> {
        let observed = reconcile::observe(&self.tables).map_err(|error| error.to_string())?;
        let desired = self.desired(config, overrides, wall_clock::now());
        Ok(reconcile::plan(&desired, &observed))
    }

    /// Detaches the program from interfaces that left the configuration, and records that.
    fn detach_removed(&self, before: &[String], after: &[String], report: &mut Report) {
        if let Err(error) = interfaces::drop_others(&self.pins, after) {
            report.warnings.push(error.to_string());
        }
        for name in before.iter().filter(|name| !after.contains(name)) {
            let happening = Happening::new(Kind::ProgramDetached, "it was removed from the configuration");
            self.events.record(happening.of_interface(name));
        }
    }
}

/// Reads the file and all files that it names. A file system that hangs must not block the
/// controller.
async fn read(path: PathBuf) -> Result<(Source, Targets, Vec<String>), ReloadError> {
    let (done, read) = oneshot::channel();
    let file = path.clone();
    let work = move || {
        let result = config_file::load_source(&path).and_then(|source| {
            let targets = preflight::check(&source)?;
            let warnings = preflight::warnings(&source.config);
            Ok((source, targets, warnings))
        });
        let _ = done.send(result.map_err(ReloadError::Config));
    };
    // A thread of its own: the runtime would wait for it at shutdown.
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

/// Backends of the old service that are missing in the new one and take packets: name, address and
/// number of flows.
fn removed(
    old: &config::Service,
    new: &config::Service,
    entries: &MapEntries,
    tables: &Tables,
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
            let flows = entries.flows(tables, old, backend.address);
            (backend.name.clone(), backend.address, flows.unwrap_or(0))
        })
        .collect()
}

/// Adds a note to the reported changes of a backend that is removed or gets another address.
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

fn refused(error: ListenError) -> ReloadError {
    ReloadError::Api(error.to_string())
}

fn summary(report: &Report) -> String {
    match report.changes.len() as u64 {
        0 => format!("{}: no changes", report.file),
        changes => format!(
            "{}: {}, {}",
            report.file,
            number(changes, "change"),
            number(report.steps as u64, "write")
        ),
    }
}
