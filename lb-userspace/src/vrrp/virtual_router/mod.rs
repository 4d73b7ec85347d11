//! One virtual router's sockets, addresses and lease: carries out what its instance decides.

mod address_owner;

use std::{collections::BTreeSet, io, net::IpAddr, sync::Arc, task, time::Duration};

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
use crate::{dataplane::Routers, events::Kind};
use lb_core::config::Vrrp;
use lb_core::vrrp::{
    TrackResult, TrackState,
    advert::{Advert, GROUP_V4, GROUP_V6, Refused},
    announce_schedule::AnnounceSchedule,
    instance::{Action, EchoReply, Instance, Micros, Role},
    mismatch::Mismatches,
    relay::Relay,
    validation::validate,
};

/// For how long the next master is waited for beyond an interval, in which it takes over.
const LINGERING: Duration = Duration::from_millis(100);
/// For how long at most.
const MOST_LINGERING: Duration = Duration::from_secs(1);

/// Why nothing is open before the first look.
const UNSEEN: &str = "the interface was not looked at yet";

/// Whether a virtual router can take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Not everything was looked at yet. It decides nothing: it may still be master from before.
    Unknown,
    /// Nothing is in its way.
    Clear,
    /// That is in its way.
    Hindered(String),
}

/// A virtual router with what it works with.
pub(super) struct VirtualRouter {
    pub(super) config: Vrrp,
    /// What it depends on means this to it.
    track_result: watch::Receiver<TrackResult>,
    /// Whether its group counts on it.
    pub(super) is_ready: bool,
    /// Why its sockets are not open.
    closed_for: String,
    virtual_addresses: BTreeSet<IpAddr>,
    kernel: NetlinkThreads,
    routers: Arc<Routers>,
    pub(super) reporter: Reporter,
    transport: Option<Transport>,
    /// When the addresses are announced again.
    announce_schedule: AnnounceSchedule,
    /// While connections go on by way of the balancer that was master before.
    relay: Option<Relay>,
    /// Whether its last advert said that it gives up.
    has_resigned: bool,
    /// When it leaves all to the next master, at the latest. Clients find the addresses here until that one is heard, and
    /// switches lead them here until it has sent from a link-layer address that moves.
    lingers: Option<Micros>,
    /// When addresses or the device were changed last.
    moved: Micros,
    /// What the packet path knows it by.
    registered: Option<RouterKey>,
    /// When all adverts that had come were read.
    drained: Micros,
    /// Its priority, when what it depends on was known last.
    effective: u8,
    /// What was odd about adverts.
    mismatches: Mismatches,
}

impl VirtualRouter {
    pub(super) fn new(
        followed: TrackedRouter,
        kernel: NetlinkThreads,
        routers: Arc<Routers>,
        store: StatusStore,
    ) -> Self {
        let TrackedRouter { config, track_result } = followed;
        let mut member = Self {
            virtual_addresses: config.hosts().collect(),
            reporter: Reporter::new(store, &config),
            config,
            track_result,
            is_ready: false,
            closed_for: UNSEEN.to_owned(),
            kernel,
            routers,
            transport: None,
            announce_schedule: AnnounceSchedule::default(),
            relay: None,
            has_resigned: false,
            lingers: None,
            moved: 0,
            registered: None,
            drained: 0,
            effective: 0,
            mismatches: Mismatches::default(),
        };
        member.effective = member.config.priority;
        member
    }

    /// When something is due besides what the instance waits for.
    pub(super) fn deadline(&self) -> Option<Micros> {
        let relay = self.relay.as_ref().map(Relay::deadline);
        let announcement = self.announce_schedule.due(self.config.refresh());
        announcement.into_iter().chain(relay).chain(self.lingers).min()
    }

    /// Until when it waits at most for the next master, which all is left to; `None`: it does not.
    pub(super) fn lingers(&self) -> Option<Micros> {
        self.lingers
    }

    /// Whether something may be there to hear.
    pub(super) fn poll_ready(&self, context: &mut task::Context<'_>) -> task::Poll<()> {
        self.transport
            .as_ref()
            .map_or(task::Poll::Pending, |transport| transport.poll_ready(context))
    }

    /// Looks at the interface, opens what it works through, and keeps the addresses there that belong there. Returns why what was
    /// open has to be closed.
    pub(super) async fn look(&mut self, ground: &InterfaceSnapshot) -> Option<String> {
        let link = ground.link(&self.config.interface).cloned();
        self.note_interface(link.as_ref().map(|link| link.index));
        let is_there = link.is_some();
        let running = link.filter(|link| link.is_running);
        let is_open = self.transport.is_some();
        match running {
            Some(link) if self.transport.as_ref().is_some_and(|transport| transport.link == link) => {
                if let Some(cause) = self.look_at_ports(ground).await {
                    self.closed_for = cause;
                    return Some(self.closed_for.clone());
                }
                self.keep_addresses(ground).await;
            }
            Some(_) if is_open => {
                "the interface changed".clone_into(&mut self.closed_for);
                return Some(self.closed_for.clone());
            }
            Some(link) => {
                match Transport::open(
                    &self.kernel,
                    &self.routers,
                    &self.config,
                    &self.virtual_addresses,
                    link,
                    ground,
                )
                .await
                {
                    Ok(transport) => {
                        self.registered = Some(transport.lease.key);
                        self.transport = Some(transport);
                        self.moved = lease::now();
                        self.closed_for.clear();
                    }
                    Err(error) => self.closed_for = error.to_string(),
                }
            }
            None => {
                let how = if is_there { "down" } else { "missing" };
                self.closed_for = format!("interface {} is {how}", self.config.interface);
                return is_open.then(|| self.closed_for.clone());
            }
        }
        None
    }

    /// Forgets what the packet path knows of it by an interface that went: another one of that name has another index.
    fn note_interface(&mut self, index: Option<u32>) {
        if self.registered.is_some_and(|key| Some(key.interface) != index)
            && let Some(key) = self.registered.take()
            && let Err(error) = self.routers.forget(&key)
        {
            self.reporter.warn(format_args!("{error}"));
        }
    }

    /// Why what is open is of no use any more, though the interface is there.
    async fn look_at_ports(&mut self, ground: &InterfaceSnapshot) -> Option<String> {
        let transport = self.transport.as_ref()?;
        if !transport.has_source(ground) {
            let interface = &self.config.interface;
            return Some(format!(
                "{interface} has lost {}, where adverts come from",
                transport.source
            ));
        }
        if ground.at <= self.moved {
            // It saw what was there before.
            return None;
        }
        let name = transport.device_name()?;
        match ground.is_up(&name) {
            None => Some(format!("somebody removed {name}")),
            Some(false) if self.reporter.role() == Role::Master => {
                self.reporter
                    .warn(format_args!("somebody put {name} down; it is put up again"));
                self.warn_of("its device", transport.set_device(&self.kernel.fast, true).await);
                self.announce();
                self.moved = lease::now();
                None
            }
            _ => None,
        }
    }

    /// Whether it can take part.
    pub(super) fn outlook(&self) -> Outlook {
        let track_result = self.track_result.borrow();
        if !track_result.is_settled || self.closed_for == UNSEEN {
            return Outlook::Unknown;
        }
        let hindrance = match self.transport {
            Some(_) => track_result.fault.clone(),
            None => Some(self.closed_for.clone()),
        };
        hindrance.map_or(Outlook::Clear, Outlook::Hindered)
    }

    /// Whether it still holds the lease of the addresses, from before its controller began.
    pub(super) fn holds_lease(&self) -> bool {
        let transport = self.transport.as_ref();
        self.lingers.is_none() && transport.is_some_and(|transport| transport.had_addresses && transport.lease.holds())
    }

    /// Its priority, with what is added for what it depends on. While that is being looked at anew, it stays as it was.
    pub(super) fn effective_priority(&mut self) -> u8 {
        let track_result = self.track_result.borrow();
        if track_result.is_settled {
            self.effective = track_result.effective(self.config.priority);
        }
        self.effective
    }

    /// Whether it is master without the lease: it slept, and another balancer may be master by now.
    pub(super) fn has_lapsed(&self) -> bool {
        let lapsed = self
            .transport
            .as_ref()
            .is_some_and(|transport| transport.lease.has_lapsed());
        lapsed && self.reporter.role() == Role::Master
    }

    /// Closes what was opened. What the instance was told before is carried out already.
    pub(super) async fn close(&mut self) {
        if self.lingers.is_some() {
            self.leave().await;
        }
        if let Some(transport) = self.transport.take() {
            self.warn_of("its device", transport.remove_device(&self.kernel.slow).await);
        }
    }

    /// Says what failed.
    fn warn_of(&self, what: &str, done: io::Result<()>) {
        if let Err(error) = done {
            self.reporter.warn(format_args!("{what}: {error}"));
        }
    }

    /// Follows another configuration of the same virtual router.
    pub(super) async fn change(&mut self, followed: TrackedRouter) {
        self.track_result = followed.track_result;
        let before = std::mem::replace(&mut self.config, followed.config);
        self.virtual_addresses = self.config.hosts().collect();
        let Some(transport) = &mut self.transport else { return };
        let routers = Arc::clone(&self.routers);
        match Lease::register(routers, &transport.link, &self.config, &self.virtual_addresses) {
            Ok(lease) => transport.lease = lease,
            Err(error) => self.reporter.warn(format_args!("{error}")),
        }
        if !self.config.asks() {
            transport.echo = None;
        } else if transport.echo.is_none() {
            let interface = &self.config.interface;
            match Echo::open(interface, transport.link.index, transport.source, self.config.router) {
                Ok(echo) => transport.echo = Some(echo),
                Err(error) => {
                    let sentence = format_args!("the packet path of a dead controller cannot be asked: {error}");
                    self.reporter.warn(sentence);
                }
            }
        }
        if before.priority != self.config.priority
            && let Err(error) = transport.look_whose(&self.kernel.fast, &self.config).await
        {
            self.reporter.warn(format_args!("{error}"));
        }
        let gone: BTreeSet<_> = before.hosts().collect();
        let kept = &self.virtual_addresses | &transport.owned;
        let gone = gone.difference(&kept).copied().collect();
        let removed = addresses::clear(&self.kernel.fast, transport.home(), &gone).await;
        self.warn_of("addresses could not be given up", removed);
        if self.reporter.role() == Role::Master && before.addresses != self.config.addresses {
            for address in self.config.addresses.clone() {
                if let Some(transport) = &self.transport {
                    self.add(transport, address).await;
                }
            }
            self.announce_again();
        }
        self.moved = lease::now();
    }

    /// The next advert that is there: whom it came from, who this balancer is, what it says, and when it came. Or why it does
    /// not count.
    pub(super) fn hear(&mut self) -> Option<Result<(IpAddr, IpAddr, Advert, Micros), Refused>> {
        let transport = self.transport.as_ref()?;
        let own = transport.source;
        let received = match transport.adverts.receive() {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Some(Err(self.refuse(Refused::Short)));
            }
            // Mostly: nothing is there.
            Err(_) => {
                self.drained = lease::now();
                return None;
            }
        };
        let from = received.source;
        let (advert, covered) = match validate(&received, own, &self.config) {
            Ok(judged) => judged,
            Err(reason) => {
                let odd = self.mismatches.refused(reason, from, &self.config, lease::now());
                self.report_mismatches(odd);
                return Some(Err(self.refuse(reason)));
            }
        };
        self.reporter.count(|status| status.received += 1);
        let odd = self
            .mismatches
            .accepted((&advert, covered), from, &self.config, lease::now());
        self.report_mismatches(odd);
        // Only adverts of a master are noted by the packet path.
        let at = if advert.priority == 0 {
            lease::now()
        } else {
            // Whoever it is has sent from the addresses' own link-layer address.
            self.lingers = self.lingers.map(|_| lease::now());
            self.arrival(from)
        };
        Some(Ok((from, own, advert, at)))
    }

    fn refuse(&mut self, reason: Refused) -> Refused {
        self.reporter
            .count(|status| *status.refused.entry(reason).or_default() += 1);
        reason
    }

    fn report_mismatches(&mut self, odd: impl IntoIterator<Item = String>) {
        for cause in odd {
            self.reporter.tell(&self.config, Kind::VrrpAdvertMismatch, &cause);
        }
    }

    /// When the last advert of that balancer came. The packet path saw it, whatever this process did meanwhile.
    fn arrival(&self, from: IpAddr) -> Micros {
        let now = lease::now();
        let seen = self
            .transport
            .as_ref()
            .and_then(|transport| transport.lease.heard(from));
        // What is read now came after all was read the last time.
        seen.map_or(now, |seen| seen.max(self.drained).min(now))
    }

    /// The next answer of another balancer's packet path.
    pub(super) fn hear_answer(&mut self) -> Option<EchoReply> {
        let answer = self.transport.as_ref()?.echo.as_ref()?.receive()?;
        self.reporter.count(|status| status.answered += 1);
        if let Some(relay) = &mut self.relay {
            relay.answered(answer);
        }
        Some(answer)
    }

    /// Whether the packet path is there to see adverts, and saw none for so long.
    pub(super) fn saw_silence(&self, for_long: Micros) -> bool {
        let silence = self.transport.as_ref().and_then(|transport| transport.lease.silence());
        silence.is_some_and(|silence| silence >= for_long)
    }

    /// Carries out what the instance decided.
    pub(super) async fn carry_out(&mut self, action: Action) {
        match action {
            Action::SendAdvert(priority) => {
                if priority != 0 && self.reporter.role() != Role::Master {
                    self.prepare();
                }
                self.send(priority);
            }
            Action::Become(role, cause) => self.become_role(role, &cause).await,
            Action::Announce => {
                // Whoever yields to this one has connections too.
                self.begin_relay();
                self.announce_again();
            }
            Action::SendEcho(master) => self.ask(master),
        }
    }

    fn send(&mut self, priority: u8) {
        let Some(transport) = &self.transport else { return };
        let group = if transport.source.is_ipv4() {
            IpAddr::V4(GROUP_V4)
        } else {
            IpAddr::V6(GROUP_V6)
        };
        let to = if self.config.peers.is_empty() {
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
        // Nobody else is there to hear it, where the list has none but this one.
        let mut is_sent = to == [transport.source];
        // All balancers may have the same list.
        for destination in to.iter().filter(|destination| **destination != transport.source) {
            let message = advert.bytes(transport.source, *destination, self.config.checksum);
            is_sent |= transport.advertise(&message, *destination).is_ok();
        }
        // One that cannot be sent is one that is lost; and whoever is not heard holds no addresses for long.
        if is_sent {
            if priority != 0 {
                transport.lease.renew();
            }
            self.has_resigned = priority == 0;
            self.reporter.count(|status| status.sent += 1);
        }
    }

    fn ask(&mut self, master: IpAddr) {
        if let Some(echo) = self.transport.as_mut().and_then(|transport| transport.echo.as_mut()) {
            // One that cannot be asked does not answer.
            let _ = echo.ask(master);
            self.reporter.count(|status| status.asked += 1);
        }
    }

    async fn become_role(&mut self, role: Role, cause: &str) {
        if role == Role::Master {
            self.prepare();
        }
        if let Some(transport) = &mut self.transport {
            // From here on it is known.
            transport.had_addresses = false;
        }
        if let Some(transport) = &self.transport {
            if role == Role::Master {
                self.lingers = None;
                self.warn_of("its device", transport.set_device(&self.kernel.fast, true).await);
                for address in &self.config.addresses {
                    self.add(transport, *address).await;
                }
                self.has_resigned = false;
            } else {
                // Clients that still come here, with connections of others, go on to whoever is master now; and what comes to a
                // link-layer address that moves does until that one has sent from there.
                let least = transport.has_device().then_some(MOST_LINGERING);
                transport.lease.relay(self.relay_length().or(least));
                self.relay = None;
                self.announce_schedule.end();
                let is_awaited = self.has_resigned || transport.has_device();
                if self.reporter.role() == Role::Master && is_awaited {
                    if !self.has_resigned {
                        // Whoever is better has the addresses already.
                        self.give_up().await;
                    }
                    let length = (self.config.interval + LINGERING).min(MOST_LINGERING);
                    self.lingers = Some(lease::now() + length.as_micros() as Micros);
                } else if self.lingers.is_none() {
                    self.leave().await;
                }
            }
        }
        self.moved = lease::now();
        self.reporter.note(&self.config, role, cause);
    }

    /// Lets the packet path serve: from the first frame on that this balancer sends as master, switches lead clients here.
    fn prepare(&mut self) {
        self.begin_relay();
        if let Some(transport) = &self.transport {
            transport.lease.renew();
        }
    }

    /// Tells everybody where the addresses are, now and some more times.
    fn announce_again(&mut self) {
        self.announce();
        self.announce_schedule.begin(lease::now());
    }

    /// Lets connections of whoever was master before go on by way of it.
    fn begin_relay(&mut self) {
        let Some(transport) = &self.transport else { return };
        if let (Some(former), Some(length)) = (transport.lease.former(), self.relay_length()) {
            transport.lease.relay(Some(length));
            let length = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
            self.relay = Some(Relay::new(former, lease::now(), length));
        }
    }

    fn relay_length(&self) -> Option<Duration> {
        Some(self.config.relay).filter(|length| !length.is_zero())
    }

    /// Does what is due besides what the instance waits for.
    pub(super) async fn tick(&mut self, now: Micros) {
        if self.lingers.is_some_and(|until| until <= now) {
            self.leave().await;
        }
        match self.relay.as_mut().map(|relay| relay.tick(now)) {
            None | Some(Some(None)) => {}
            Some(Some(Some(former))) => self.ask(former),
            Some(None) => {
                self.relay = None;
                if let Some(transport) = &self.transport {
                    transport.lease.relay(None);
                }
            }
        }
        if self.announce_schedule.take_due(self.config.refresh(), now) {
            self.announce();
        }
    }

    fn announce(&self) {
        if let (Some(transport), Role::Master) = (&self.transport, self.reporter.role()) {
            for (address, error) in transport.announcer.announce(self.virtual_addresses.iter().copied()) {
                self.reporter
                    .warn(format_args!("{address} could not be announced: {error}"));
            }
        }
    }

    /// How each thing is that it depends on.
    pub(super) fn tracks(&self) -> Vec<TrackState> {
        self.track_result.borrow().states.clone()
    }

    /// Shows how things are. `of_group` is what all of its group depend on, where its priority moved.
    pub(super) fn show(&mut self, instance: &Instance, of_group: &[TrackState], now: Micros) {
        let track_result = self.track_result.borrow();
        let source = self.transport.as_ref().map(|transport| transport.source);
        self.reporter
            .show(&self.config, instance, source, (&track_result.states, of_group), now);
    }

    /// Forgets what the store shows. The packet path goes on with connections that it knows, and says so when it is asked.
    pub(super) async fn end(&mut self) {
        self.close().await;
        self.reporter.forget();
    }
}
