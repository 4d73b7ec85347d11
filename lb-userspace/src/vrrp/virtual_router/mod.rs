//! One virtual router: its sockets, addresses and lease. It carries out what its instance decides.

use std::{collections::BTreeSet, io, net::IpAddr, sync::Arc, task};

use lb_common::router::RouterKey;
use tokio::sync::watch;

use super::{
    addresses,
    driver::TrackedRouter,
    echo::Echo,
    interface_snapshot::InterfaceSnapshot,
    lease::{self, Lease},
    netlink_threads::NetlinkThreads,
    reporter::Reporter,
    status::StatusStore,
    transport::Transport,
};
use crate::dataplane::Routers;
use lb_core::{
    config::Vrrp,
    vrrp::{
        TrackResult, TrackState,
        advert::{Advert, GROUP_V4, GROUP_V6},
        announce_schedule::AnnounceSchedule,
        instance::{Action, Instance, Micros, Role},
        mismatch::Mismatches,
        relay::Relay,
        validation::ExpectedAdverts,
    },
};

mod address_owner;
mod interface;
mod receiver;

pub(super) use receiver::HeardAdvert;

/// Why the transport is not open before the first snapshot of the interfaces.
const NO_SNAPSHOT: &str = "the state of the interface is not known yet";

/// Whether a virtual router can be active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Not everything was observed yet. The virtual router may still be master from before, so this
    /// decides nothing.
    Unknown,
    /// It can be active.
    Ready,
    /// It cannot be active, for this reason.
    Fault(String),
}

/// A virtual router with everything that it uses.
pub(super) struct VirtualRouter {
    pub(super) config: Vrrp,
    /// What adverts must, or should, contain.
    expected: ExpectedAdverts,
    /// Result of its tracks.
    track_result: watch::Receiver<TrackResult>,
    /// Whether its group knows that it can be active.
    pub(super) is_ready: bool,
    /// Why the transport is not open.
    closed_for: String,
    virtual_addresses: BTreeSet<IpAddr>,
    netlink: NetlinkThreads,
    routers: Arc<Routers>,
    pub(super) reporter: Reporter,
    transport: Option<Transport>,
    /// When the addresses are announced again.
    announce_schedule: AnnounceSchedule,
    /// The relay of connections to the former master, while there is one.
    relay: Option<Relay>,
    /// Whether its last advert had priority 0.
    has_resigned: bool,
    /// Until when it keeps the addresses, or the device with the virtual router's MAC address, for
    /// clients that cannot find the next master yet. `None`: it does not.
    lingers_until: Option<Micros>,
    /// When it last changed addresses or the device.
    changed: Micros,
    /// Key of its entry in the packet path's maps.
    registered: Option<RouterKey>,
    /// When the advert socket was last read until it was empty.
    drained: Micros,
    /// The effective priority when all tracks were last known: 1 to 255.
    effective_priority: u8,
    mismatches: Mismatches,
}

impl VirtualRouter {
    pub(super) fn new(
        tracked: TrackedRouter,
        netlink: NetlinkThreads,
        routers: Arc<Routers>,
        store: StatusStore,
    ) -> Self {
        let TrackedRouter { config, track_result } = tracked;
        Self {
            virtual_addresses: config.hosts().collect(),
            expected: config.expected_adverts(),
            reporter: Reporter::new(store, &config),
            effective_priority: config.priority,
            config,
            track_result,
            is_ready: false,
            closed_for: NO_SNAPSHOT.to_owned(),
            netlink,
            routers,
            transport: None,
            announce_schedule: AnnounceSchedule::default(),
            relay: None,
            has_resigned: false,
            lingers_until: None,
            changed: 0,
            registered: None,
            drained: 0,
            mismatches: Mismatches::default(),
        }
    }

    /// When [`VirtualRouter::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Micros> {
        let relay = self.relay.as_ref().map(Relay::deadline);
        let announcement = self.announce_schedule.due(self.config.refresh());
        announcement.into_iter().chain(relay).chain(self.lingers_until).min()
    }

    /// Does what is due, beside what the instance does.
    pub(super) async fn tick(&mut self, now: Micros) {
        if self.lingers_until.is_some_and(|until| until <= now) {
            self.leave().await;
        }
        self.tick_relay(now);
        if self.announce_schedule.take_due(self.config.refresh(), now) {
            self.announce();
        }
    }

    /// Whether a packet may have come.
    pub(super) fn poll_ready(&self, context: &mut task::Context<'_>) -> task::Poll<()> {
        match &self.transport {
            Some(transport) => transport.poll_ready(context),
            None => task::Poll::Pending,
        }
    }

    /// Until when it waits for the next master. `None`: it does not wait.
    pub(super) fn lingers_until(&self) -> Option<Micros> {
        self.lingers_until
    }

    /// Whether it can be active.
    pub(super) fn condition(&self) -> Condition {
        let result = self.track_result.borrow();
        if !result.is_complete || self.closed_for == NO_SNAPSHOT {
            return Condition::Unknown;
        }
        let fault = match self.transport {
            Some(_) => result.fault.clone(),
            None => Some(self.closed_for.clone()),
        };
        fault.map_or(Condition::Ready, Condition::Fault)
    }

    /// The effective priority: the configured one with the weights of the tracks. It keeps its
    /// value while tracks are observed anew.
    pub(super) fn effective_priority(&mut self) -> u8 {
        let result = self.track_result.borrow();
        if result.is_complete {
            self.effective_priority = result.effective(self.config.priority);
        }
        self.effective_priority
    }

    /// The state of its tracks.
    pub(super) fn tracks(&self) -> Vec<TrackState> {
        self.track_result.borrow().states.clone()
    }

    /// Whether it still holds the lease of its addresses from before its controller started.
    pub(super) fn holds_lease(&self) -> bool {
        let transport = self.transport.as_ref();
        let holds = transport.is_some_and(|transport| transport.had_addresses && transport.lease.holds());
        holds && self.lingers_until.is_none()
    }

    /// Whether it is master without the lease: its controller slept, and another balancer may be
    /// master.
    pub(super) fn has_lost_lease(&self) -> bool {
        let transport = self.transport.as_ref();
        let is_lost = transport.is_some_and(|transport| transport.lease.is_lost());
        is_lost && self.reporter.role() == Role::Master
    }

    /// Carries out an action of the instance.
    pub(super) async fn carry_out(&mut self, action: Action) {
        match action {
            Action::SendAdvert(priority) => {
                if priority != 0 && self.reporter.role() != Role::Master {
                    self.prepare();
                }
                self.send_advert(priority);
            }
            Action::Become(role, cause) => self.become_role(role, &cause).await,
            Action::Announce => {
                // A master that yields to this one has connections too.
                self.begin_relay();
                self.announce_repeatedly();
            }
            Action::SendEcho(master) => self.send_echo(master),
        }
    }

    fn send_advert(&mut self, priority: u8) {
        let Some(transport) = &self.transport else { return };
        let group = if transport.source.is_ipv4() {
            IpAddr::V4(GROUP_V4)
        } else {
            IpAddr::V6(GROUP_V6)
        };
        let destinations = if self.config.peers.is_empty() {
            std::slice::from_ref(&group)
        } else {
            &self.config.peers
        };
        let advert = Advert {
            version: self.config.version,
            router: self.config.router,
            priority,
            interval: self.config.parameters().interval,
            addresses: self.config.hosts().collect(),
            password: self.config.password,
        };
        // If `peers` has only this balancer, nobody else could hear it.
        let mut is_sent = destinations == [transport.source];
        // `peers` may contain this balancer, so that all balancers can have the same list.
        let others = destinations
            .iter()
            .filter(|destination| **destination != transport.source);
        for destination in others {
            let message = advert.bytes(transport.source, *destination, self.config.checksum);
            is_sent |= transport.send_advert(&message, *destination).is_ok();
        }
        // An advert that cannot be sent is like a lost one. A master that nobody hears does not
        // keep its lease.
        if is_sent {
            if priority != 0 {
                transport.lease.renew();
            }
            self.has_resigned = priority == 0;
            self.reporter.count(|status| status.sent += 1);
        }
    }

    fn send_echo(&mut self, master: IpAddr) {
        if let Some(echo) = self.transport.as_mut().and_then(|transport| transport.echo.as_mut()) {
            // A failure is like a lost echo: no reply comes.
            let _ = echo.send(master);
            self.reporter.count(|status| status.echoes_sent += 1);
        }
    }

    /// Reports what changed. `of_group` are the tracks of the sync group, if its priority changed.
    pub(super) fn report(&mut self, instance: &Instance, of_group: &[TrackState], now: Micros) {
        let result = self.track_result.borrow();
        let source = self.transport.as_ref().map(|transport| transport.source);
        self.reporter
            .update(&self.config, instance, source, (&result.states, of_group), now);
    }

    /// Logs a warning, if something failed.
    fn warn_if_failed(&self, what: &str, done: io::Result<()>) {
        if let Err(error) = done {
            self.reporter.warn(format_args!("{what}: {error}"));
        }
    }

    /// Closes everything and removes the status. The packet path still forwards connections that it
    /// knows, and replies to echoes.
    pub(super) async fn end(&mut self) {
        self.close().await;
        self.reporter.remove();
    }
}
