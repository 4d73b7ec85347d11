//! The interfaces that the program is attached to, also when they go and come back.

use std::{io, sync::Arc, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkXdp, XdpAttached};
use rtnetlink::MulticastGroup;
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
};

use crate::{
    admin::model::InterfaceStatus,
    config::{Node, Word, XdpMode},
    dataplane::{self, AttachedMode, ClientHops, DataplaneError, Loaded, Pins, Presence, detach},
};

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
    status: watch::Sender<Vec<InterfaceStatus>>,
}

impl Interfaces {
    /// Nothing is attached yet.
    ///
    /// # Errors
    ///
    /// When a map cannot be opened.
    pub(super) fn new(program: Loaded, pins: Pins, node: &Node) -> Result<Self, DataplaneError> {
        let (sender, status) = watch::channel(Vec::new());
        let inner = Inner {
            program,
            client_hops: ClientHops::open(&pins)?,
            pins,
            names: node.interfaces.clone(),
            mode: node.xdp_mode,
            status: sender,
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
        loop {
            let mut events = match Events::open() {
                Ok(events) => Some(events),
                Err(error) => {
                    tracing::warn!(%error, "interfaces cannot be followed by netlink; they are looked at every {PERIOD:?}");
                    None
                }
            };
            loop {
                let is_open = tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    is_open = next(&mut events) => is_open,
                    () = tokio::time::sleep(PERIOD) => events.is_some(),
                };
                drain(&mut events);
                self.inner.lock().await.heal().await;
                tokio::time::sleep(REST).await;
                if !is_open {
                    break;
                }
            }
        }
    }
}

impl Inner {
    async fn attach(&mut self) -> Result<(), DataplaneError> {
        let mut all = Vec::new();
        for name in self.names.clone() {
            let status = if dataplane::presence(&self.pins, &name)? == Presence::Missing {
                self.missing(&name)
            } else {
                let attached = self.program.attach(&self.pins, &name, self.mode)?;
                let is_adopted = attached.mode == AttachedMode::Adopted;
                self.attached(&name, attached.ifindex, is_adopted, attached.fallback)
                    .await
            };
            all.push(status);
        }
        self.publish(all);
        Ok(())
    }

    /// Attaches what is not, and looks at the rest.
    async fn heal(&mut self) {
        let before = self.status.borrow().clone();
        let mut all = Vec::new();
        for name in self.names.clone() {
            let last = before.iter().find(|status| status.name == name);
            all.push(self.look(&name, last).await);
        }
        self.publish(all);
    }

    async fn look(&mut self, name: &str, last: Option<&InterfaceStatus>) -> InterfaceStatus {
        let result = match dataplane::presence(&self.pins, name) {
            Ok(Presence::Missing) => return self.missing(name),
            Ok(Presence::Attached(ifindex)) => {
                let fallback = last.filter(|last| last.ifindex == ifindex && last.xdp_mode == "generic");
                let reason = fallback.and_then(|last| last.problem.as_deref()?.split_once(SLOWER));
                let reason = reason.map(|(_, reason)| reason.to_owned());
                return self.attached(name, ifindex, true, reason).await;
            }
            Ok(Presence::Bare) => self.program.attach(&self.pins, name, self.mode),
            Err(error) => Err(error),
        };
        match result {
            Ok(attached) => self.attached(name, attached.ifindex, false, attached.fallback).await,
            Err(error) => self.describe(name, 0, NONE, Some(error.to_string())),
        }
    }

    fn missing(&self, name: &str) -> InterfaceStatus {
        let problem = format!("{name} is missing: the program is attached when it comes");
        self.describe(name, 0, NONE, Some(problem))
    }

    async fn attached(&self, name: &str, ifindex: u32, is_adopted: bool, fallback: Option<String>) -> InterfaceStatus {
        let Facts { mode, is_up } = facts(ifindex).await;
        let wanted = wanted(self.mode).filter(|wanted| is_adopted && *wanted != mode);
        let problem = if !is_up {
            Some(format!("{name} is down"))
        } else if let Some(wanted) = wanted {
            Some(format!(
                "{name} keeps running in {mode} mode, the configuration asks for {wanted}: `lbd detach` and a new start change it"
            ))
        } else {
            fallback.map(|reason| format!("{name}{SLOWER}{reason}"))
        };
        self.describe(name, ifindex, mode, problem)
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

    /// Makes known what is, and logs what changed.
    fn publish(&self, all: Vec<InterfaceStatus>) {
        match self.client_hops.forget_missing() {
            Ok(0) => {}
            Ok(ways) => tracing::info!(
                ways,
                "an interface has gone: answers to its clients are routed until they speak again"
            ),
            Err(error) => tracing::warn!(%error, "the kernel does not tell which interfaces there are"),
        }
        self.status.send_if_modified(|known| {
            for now in &all {
                let before = known.iter().find(|status| status.name == now.name);
                if before != Some(now) {
                    log(before, now);
                }
            }
            let is_changed = *known != all;
            *known = all;
            is_changed
        });
    }
}

/// The mode of an interface without the program.
const NONE: &str = "none";
/// Between the name of an interface and why native mode was refused.
const SLOWER: &str = " runs in generic mode, which is slower: ";

fn log(before: Option<&InterfaceStatus>, now: &InterfaceStatus) {
    let InterfaceStatus {
        name,
        ifindex,
        xdp_mode,
        ..
    } = now;
    if now.xdp_mode != NONE && before.is_none_or(|before| before.ifindex != now.ifindex) {
        tracing::info!(interface = name, ifindex, mode = xdp_mode, "attached");
    }
    match (&now.problem, before.is_some_and(|before| before.problem.is_some())) {
        (Some(problem), _) => tracing::warn!(interface = name, "{problem}"),
        (None, true) => tracing::info!(interface = name, "the interface is as it should be again"),
        (None, false) => {}
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

/// What netlink tells of interfaces that come, go or change.
struct Events {
    events: Box<dyn Stream<Item = ()> + Send + Unpin>,
    connection: AbortHandle,
}

impl Events {
    /// Opens a socket, in the network namespace of the calling thread.
    fn open() -> io::Result<Self> {
        let (connection, _, events) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        Ok(Self {
            events: Box::new(events.map(drop)),
            connection: tokio::spawn(connection).abort_handle(),
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Waits for an event; without a socket, for ever. Says whether the socket still works.
async fn next(events: &mut Option<Events>) -> bool {
    match events {
        Some(events) => events.events.next().await.is_some(),
        None => std::future::pending().await,
    }
}

/// Takes what is there already: one look answers all of it.
fn drain(events: &mut Option<Events>) {
    if let Some(events) = events {
        while let Some(Some(())) = events.events.next().now_or_never() {}
    }
}

/// What the kernel says of an interface.
struct Facts {
    mode: &'static str,
    is_up: bool,
}

async fn facts(ifindex: u32) -> Facts {
    let answer = async {
        let (connection, handle, _) = rtnetlink::new_connection().ok()?;
        let connection = tokio::spawn(connection);
        let mut links = handle.link().get().match_index(ifindex).execute();
        let link = links.try_next().await.ok();
        connection.abort();
        link?
    };
    let Some(link) = answer.await else {
        return Facts {
            mode: "unknown",
            is_up: true,
        };
    };
    let attached = link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(details) => details.into_iter().find_map(|detail| match detail {
            LinkXdp::Attached(attached) => Some(attached),
            _ => None,
        }),
        _ => None,
    });
    let mode = match attached {
        Some(XdpAttached::Driver) => "native",
        Some(XdpAttached::SocketBuffer) => "generic",
        Some(XdpAttached::Hardware) => "hardware",
        _ => "unknown",
    };
    Facts {
        mode,
        is_up: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
    }
}

fn wanted(mode: XdpMode) -> Option<&'static str> {
    match mode {
        XdpMode::Auto => None,
        XdpMode::Native => Some("native"),
        XdpMode::Generic => Some("generic"),
    }
}
