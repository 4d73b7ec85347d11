//! The interfaces that the program is attached to, also when they go and come back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, watch};

use super::{
    interface_changes::{NONE, Program, Seen, happenings},
    link_facts::Facts,
};
use crate::{
    api::InterfaceStatus,
    dataplane::{self, AttachedMode, ClientHops, DataplaneError, Loaded, Pins, Presence, detach},
    events::Events,
    network::link_changes::LinkChanges,
};
use lb_core::config::{Node, Word, XdpMode};
use lb_core::health::LinkFlaps;

/// How often interfaces are looked at without cause: what netlink should have told may be lost.
const PERIOD: Duration = Duration::from_secs(5);
/// How long changes are gathered after one: an interface that comes tells of itself several times.
const REST: Duration = Duration::from_millis(20);

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
    /// What the last look found.
    seen: Vec<Seen>,
    status: watch::Sender<Vec<InterfaceStatus>>,
    events: Events,
    link_flaps: Arc<LinkFlaps>,
}

impl Interfaces {
    /// Nothing is attached yet.
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

    /// What is known of each.
    pub(super) fn status(&self) -> watch::Receiver<Vec<InterfaceStatus>> {
        self.status.clone()
    }

    /// Attaches the program to every interface of the configuration that is there. Others get it when they come.
    ///
    /// # Errors
    ///
    /// At the first interface where no allowed mode works.
    pub(super) async fn attach(&self) -> Result<(), DataplaneError> {
        self.inner.lock().await.attach().await
    }

    /// Attaches the program to other interfaces than before too. Those that are not wanted any more keep it.
    ///
    /// # Errors
    ///
    /// When a new one is missing, or no allowed mode works; then all is as before.
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
            // Those that were attached just now have no business there.
            let _ = drop_others(&inner.pins, &before);
            inner.names = before;
        }
        result
    }

    /// Attaches the program again where an interface came or came back, until told to end.
    pub(super) async fn follow(self, mut stopped: watch::Receiver<bool>) {
        let mut changes = LinkChanges::new(PERIOD);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = changes.next() => {}
            }
            self.inner.lock().await.heal().await;
            tokio::time::sleep(REST).await;
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

    /// Attaches what is not, and looks at the rest.
    async fn heal(&mut self) {
        let mut all = Vec::new();
        for name in self.names.clone() {
            all.push(self.look(&name).await);
        }
        self.publish(all);
    }

    async fn look(&mut self, name: &str) -> Seen {
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
            format!("{name} is missing: the program is attached when it comes"),
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
                "{name} keeps running in {mode} mode, the configuration asks for {wanted}: `lbd detach` and a new start change it"
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

    /// Makes known what is, and tells what changed.
    fn publish(&mut self, all: Vec<Seen>) {
        match self.client_hops.forget_missing() {
            Ok(0) => {}
            Ok(ways) => tracing::info!(
                ways,
                "an interface has gone: answers to its clients are routed until they speak again"
            ),
            Err(error) => tracing::warn!(%error, "the kernel does not tell which interfaces there are"),
        }
        let moment = Instant::now();
        for now in &all {
            self.link_flaps.set_link(&now.status.name, now.is_up, moment);
            let before = self.seen.iter().find(|seen| seen.status.name == now.status.name);
            for happening in happenings(before, now) {
                self.events.record(happening);
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

/// Between the name of an interface and why native mode was refused.
const SLOWER: &str = " runs in generic mode, which is slower: ";

/// Logs what is not as it should be although the program is attached.
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
            tracing::info!(interface = name, "detached: no longer in the configuration");
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
