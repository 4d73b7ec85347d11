//! The interfaces of the configuration: attaches the program, also when an interface disappears and
//! comes back.

mod changes;
mod link_facts;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, watch};

use crate::{
    api::InterfaceStatus,
    dataplane::{self, AttachedMode, ClientHops, DataplaneError, Loaded, Pins, Presence, detach},
    events::Events,
    network::link_changes::LinkChanges,
};
use changes::{NONE, Program, Seen, changes};
use lb_core::{
    config::{Node, Word, XdpMode},
    health::LinkFlaps,
};
use link_facts::Facts;

/// How often interfaces are read even if netlink reports no change: a message may be lost.
const PERIOD: Duration = Duration::from_secs(5);
/// How long changes are collected after the first: a new interface causes several messages.
const COLLECT: Duration = Duration::from_millis(20);

/// The interfaces of the configuration.
#[derive(Clone)]
pub(super) struct Interfaces {
    inner: Arc<Mutex<Inner>>,
    status: watch::Receiver<Vec<InterfaceStatus>>,
}

struct Inner {
    program: Loaded,
    pins: Pins,
    names: Vec<String>,
    mode: XdpMode,
    client_hops: ClientHops,
    /// What the last reading found.
    seen: Vec<Seen>,
    status: watch::Sender<Vec<InterfaceStatus>>,
    events: Events,
    link_flaps: Arc<LinkFlaps>,
}

impl Interfaces {
    /// Prepares the interfaces of a configuration. Nothing is attached yet.
    ///
    /// # Errors
    ///
    /// When a map cannot be opened.
    pub(super) fn new(
        program: Loaded,
        pins: Pins,
        node: &Node,
        events: Events,
        link_flaps: Arc<LinkFlaps>,
    ) -> Result<Self, DataplaneError> {
        let (sender, status) = watch::channel(Vec::new());
        let inner = Inner {
            program,
            client_hops: ClientHops::open(&pins)?,
            pins,
            names: node.interfaces.clone(),
            mode: node.xdp_mode,
            seen: Vec::new(),
            status: sender,
            events,
            link_flaps,
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            status,
        })
    }

    /// The status of each interface.
    pub(super) fn status(&self) -> watch::Receiver<Vec<InterfaceStatus>> {
        self.status.clone()
    }

    /// Attaches the program to every interface of the configuration that exists. The others get it
    /// when they appear.
    ///
    /// # Errors
    ///
    /// At the first interface on which no allowed mode works.
    pub(super) async fn attach(&self) -> Result<(), DataplaneError> {
        self.inner.lock().await.attach().await
    }

    /// Attaches the program to a new list of interfaces. Interfaces that are not in the new list
    /// keep it; see [`drop_others`].
    ///
    /// # Errors
    ///
    /// When a new one does not exist, or no allowed mode works. Then nothing has changed.
    pub(super) async fn set(&self, names: &[String]) -> Result<(), DataplaneError> {
        let mut inner = self.inner.lock().await;
        for name in names.iter().filter(|name| !inner.names.contains(name)) {
            if dataplane::presence(&inner.pins, name)? == Presence::Missing {
                return Err(DataplaneError::NoInterface(name.clone()));
            }
        }
        let before = std::mem::replace(&mut inner.names, names.to_vec());
        let result = inner.attach().await;
        if result.is_err() {
            // Undoes what was attached for the new list.
            let _ = drop_others(&inner.pins, &before);
            inner.names = before;
        }
        result
    }

    /// Attaches the program again when an interface appears, until `stopped` is true.
    pub(super) async fn follow(self, mut stopped: watch::Receiver<bool>) {
        let mut link_changes = LinkChanges::new(PERIOD);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = link_changes.next() => {}
            }
            self.inner.lock().await.heal().await;
            tokio::time::sleep(COLLECT).await;
        }
    }
}

impl Inner {
    async fn attach(&mut self) -> Result<(), DataplaneError> {
        let mut all = Vec::new();
        for name in self.names.clone() {
            let seen = if dataplane::presence(&self.pins, &name)? == Presence::Missing {
                self.missing(&name)
            } else {
                let attached = self.program.attach(&self.pins, &name, self.mode)?;
                let program = match attached.mode {
                    AttachedMode::Adopted => Program::Found,
                    _ => Program::Attached,
                };
                self.attached(&name, attached.ifindex, program, attached.fallback).await
            };
            all.push(seen);
        }
        self.publish(all);
        Ok(())
    }

    /// Attaches the program where it is missing, and reads the state of the rest.
    async fn heal(&mut self) {
        let mut all = Vec::new();
        for name in self.names.clone() {
            all.push(self.inspect(&name).await);
        }
        self.publish(all);
    }

    async fn inspect(&mut self, name: &str) -> Seen {
        let result = match dataplane::presence(&self.pins, name) {
            Ok(Presence::Missing) => return self.missing(name),
            Ok(Presence::Attached(ifindex)) => {
                let last = self.seen.iter().map(|seen| &seen.status);
                let mut last = last.filter(|last| last.name == name && last.ifindex == ifindex);
                let fallback = last.find(|last| last.xdp_mode == "generic");
                let reason = fallback.and_then(|last| last.problem.as_deref()?.split_once(SLOWER));
                let reason = reason.map(|(_, reason)| reason.to_owned());
                return self.attached(name, ifindex, Program::Found, reason).await;
            }
            Ok(Presence::Bare) => self.program.attach(&self.pins, name, self.mode),
            Err(error) => Err(error),
        };
        match result {
            Ok(attached) => {
                let (ifindex, fallback) = (attached.ifindex, attached.fallback);
                self.attached(name, ifindex, Program::Attached, fallback).await
            }
            Err(error) => self.without_program(name, error.to_string()),
        }
    }

    fn missing(&self, name: &str) -> Seen {
        self.without_program(
            name,
            format!("{name} does not exist: the program is attached when it appears"),
        )
    }

    fn without_program(&self, name: &str, problem: String) -> Seen {
        Seen {
            status: self.describe(name, 0, NONE, Some(problem)),
            program: None,
            is_up: false,
            addresses: None,
        }
    }

    async fn attached(&self, name: &str, ifindex: u32, program: Program, fallback: Option<String>) -> Seen {
        let facts = Facts::of(ifindex).await;
        let mode = facts.mode;
        let wanted = wanted(self.mode).filter(|wanted| program == Program::Found && *wanted != mode);
        let problem = if !facts.is_up {
            Some(format!("{name} is down"))
        } else if let Some(wanted) = wanted {
            Some(format!(
                "{name} runs in {mode} mode, the configuration asks for {wanted}: run `lbd detach`, then start lbd again"
            ))
        } else {
            fallback.map(|reason| format!("{name}{SLOWER}{reason}"))
        };
        Seen {
            status: self.describe(name, ifindex, mode, problem),
            program: Some(program),
            is_up: facts.is_up,
            addresses: facts.addresses,
        }
    }

    fn describe(&self, name: &str, ifindex: u32, mode: &str, problem: Option<String>) -> InterfaceStatus {
        InterfaceStatus {
            name: name.to_owned(),
            ifindex,
            xdp_mode: mode.to_owned(),
            wanted_mode: self.mode.word().to_owned(),
            problem,
        }
    }

    /// Publishes the new state, and records the events of what changed.
    fn publish(&mut self, all: Vec<Seen>) {
        match self.client_hops.forget_missing() {
            Ok(0) => {}
            Ok(hops) => tracing::info!(
                hops,
                "an interface was removed: replies to its clients are routed by the kernel until the clients send again"
            ),
            Err(error) => tracing::warn!(%error, "cannot list the interfaces"),
        }
        let moment = Instant::now();
        for now in &all {
            self.link_flaps.set_link(&now.status.name, now.is_up, moment);
            let before = self.seen.iter().find(|seen| seen.status.name == now.status.name);
            for change in changes(before, now) {
                self.events.record(change);
            }
            warn(before.map(|before| &before.status), &now.status);
        }
        let status: Vec<_> = all.iter().map(|seen| seen.status.clone()).collect();
        self.seen = all;
        self.status.send_if_modified(|known| {
            let is_changed = *known != status;
            *known = status;
            is_changed
        });
    }
}

/// Text between the name of an interface and the reason why native mode was refused.
const SLOWER: &str = " runs in generic mode, which is slower: ";

/// Logs a problem of an interface that has the program.
fn warn(before: Option<&InterfaceStatus>, now: &InterfaceStatus) {
    let interface = &now.name;
    if now.xdp_mode != NONE
        && let Some(problem) = &now.problem
        && before.is_none_or(|before| before.problem != now.problem)
    {
        tracing::warn!(interface, "{problem}");
    }
}

/// Takes the program off interfaces that are no longer in the configuration.
///
/// # Errors
///
/// When a link cannot be removed.
pub(super) fn drop_others(pins: &Pins, wanted: &[String]) -> Result<(), DataplaneError> {
    for name in pins.linked_interfaces()? {
        if !wanted.contains(&name) {
            detach(pins, &name)?;
            tracing::info!(interface = name, "detached: not in the configuration");
        }
    }
    Ok(())
}

fn wanted(mode: XdpMode) -> Option<&'static str> {
    match mode {
        XdpMode::Auto => None,
        XdpMode::Native => Some("native"),
        XdpMode::Generic => Some("generic"),
    }
}
