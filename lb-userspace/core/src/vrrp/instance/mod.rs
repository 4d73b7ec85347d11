//! Who is master of one virtual router: the state machine of RFC 9568, section 6.4. Pure, time is an argument.

use std::net::IpAddr;

use super::advert::Advert;

mod liveness;

/// Microseconds since some moment.
pub type Micros = u64;

/// The least time between two announcements because of other masters: their adverts may come without end, and may be forged.
const HEAL_AT_MOST: Micros = 100_000;
/// The priority of whoever owns the addresses: RFC 9568, section 5.2.4.
pub const OWNER: u8 = 255;

/// What an instance follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Version: 2 or 3.
    pub version: u8,
    /// 1 to 254; 255: the addresses are this balancer's own.
    pub priority: u8,
    /// From one advert to the next.
    pub interval: Micros,
    /// Whether it takes over from a master of lower priority.
    pub preempt: bool,
    /// For how long it hears such a master before it does.
    pub preempt_delay: Micros,
    /// For how long after its controller's last sign of life a master stays one whose packet path goes on; 0: not at all.
    pub grace: Micros,
}

/// What a balancer is to a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes no part: not yet, not any more, or something it needs is not there.
    Out,
    /// It listens.
    Backup,
    /// It has the addresses.
    Master,
}

impl Role {
    /// The word that API and CLI use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Out => "fault",
            Self::Backup => "backup",
            Self::Master => "master",
        }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// An advert goes out with this priority.
    SendAdvert(u8),
    /// The role is this from now on, for that reason.
    Become(Role, String),
    /// Everybody on the link is told where the addresses are.
    Announce,
    /// The packet path of this balancer, the master, is asked whether it goes on.
    SendEcho(IpAddr),
}

/// What the packet path of a master says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Whom it comes from.
    pub from: IpAddr,
    /// Whether it holds the lease of the addresses.
    pub holds: bool,
    /// How long ago its controller renewed the lease.
    pub age: Micros,
}

/// One virtual router, as this balancer sees it.
#[derive(Clone, Debug)]
pub struct Instance {
    parameters: Parameters,
    role: Role,
    /// When the next advert is due, or the master counts as gone.
    deadline: Option<Micros>,
    /// The interval that the master tells.
    master_interval: Micros,
    /// Whom adverts come from, and its priority: of two masters, the better one.
    master: Option<(IpAddr, u8)>,
    /// When that one's last advert came.
    heard: Micros,
    /// The master that gave up.
    resigned: Option<IpAddr>,
    /// Since when a master of lower priority is heard.
    lower_since: Option<Micros>,
    /// Until when it lets others be master, because an operator said so.
    hold: Option<Micros>,
    /// Whether it stays backup until an operator says otherwise.
    is_maintained: bool,
    /// When the master's packet path is asked next.
    ask: Option<Micros>,
    /// When it was asked last.
    asked: Option<Micros>,
    /// Questions since the last advert.
    questions: u32,
    /// Whether the master's packet path goes on: questions since the last answer that said so.
    path: Option<u32>,
    /// Whether its packet path answers still, but its controller is gone for longer than its grace.
    is_spent: bool,
    /// When it contradicted another master, as a master itself.
    contradicted: Option<Micros>,
    /// When it announced the addresses because of another master.
    healed: Option<Micros>,
    /// When it does so again, for adverts that came since.
    heal: Option<Micros>,
}

impl Instance {
    /// Takes no part yet.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            master_interval: parameters.interval,
            parameters,
            role: Role::Out,
            deadline: None,
            master: None,
            heard: 0,
            resigned: None,
            lower_since: None,
            hold: None,
            is_maintained: false,
            ask: None,
            asked: None,
            questions: 0,
            path: None,
            is_spent: false,
            contradicted: None,
            healed: None,
            heal: None,
        }
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The priority that it has now.
    pub fn priority(&self) -> u8 {
        self.parameters.priority
    }

    /// When [`Instance::tick`] is to be called.
    pub fn deadline(&self) -> Option<Micros> {
        self.due().into_iter().chain(self.ask).chain(self.heal).min()
    }

    /// When the next advert is due, or this balancer takes over.
    pub fn due(&self) -> Option<Micros> {
        match self.role {
            // A packet path that stops answering is told by questions, not by time: this balancer may be the one that stalls.
            Role::Backup if self.is_maintained || self.path.is_some() => None,
            Role::Out | Role::Backup | Role::Master => self.deadline,
        }
    }

    /// The master that is heard, and its priority.
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        self.master
    }

    /// Whether the master's adverts are missing, and only its packet path says that it is there.
    pub fn is_graced(&self, now: Micros) -> bool {
        // A group may wait for longer, because of another member's master.
        self.role == Role::Backup && now >= self.heard + self.down_interval() && self.path.is_some()
    }

    /// Whether the addresses are this balancer's own: it yields to nobody, whatever adverts say. RFC 9568, section 7.1: a receiver
    /// "MUST verify that [...] the local router is not the IPvX address owner (Priority = 255 (decimal))".
    pub fn is_owner(&self) -> bool {
        self.parameters.priority == OWNER
    }

    /// Whether it takes over from a master of that priority. RFC 9568, section 6.1: an owner "always preempts, independent of the
    /// setting of this flag".
    fn preempts(&self, priority: u8) -> bool {
        self.is_owner() || (self.parameters.preempt && priority < self.parameters.priority)
    }

    /// Until when at least a master that is heard, or whose packet path answers, keeps this balancer from taking over.
    pub fn kept_until(&self, now: Micros) -> Option<Micros> {
        let follows = |(_, priority)| !self.preempts(priority);
        if self.role != Role::Backup || !self.master.is_some_and(follows) {
            return None;
        }
        // Until the next question, where only the packet path is there.
        let until = self.due().unwrap_or(now + self.pause());
        Some(until).filter(|until| now < *until)
    }

    /// RFC 9568, section 6.1: "Skew_Time = (((256 - Priority) * Active_Adver_Interval) / 256)"; RFC 3768 takes one second for
    /// the interval.
    fn skew(&self) -> Micros {
        let interval = if self.parameters.version == 2 {
            1_000_000
        } else {
            self.master_interval
        };
        (256 - u64::from(self.parameters.priority)) * interval / 256
    }

    /// RFC 9568, section 6.1: "Active_Down_Interval = (3 * Active_Adver_Interval) + Skew_time".
    pub fn down_interval(&self) -> Micros {
        3 * self.master_interval + self.skew()
    }

    /// Begins to take part. One that still holds the lease of the addresses was master until just now, and goes on as such.
    pub fn start(&mut self, now: Micros, holds_lease: bool) -> Vec<Action> {
        if self.role != Role::Out {
            return Vec::new();
        }
        if holds_lease && !self.is_maintained {
            return self.become_master(now, "it still holds the lease of the addresses");
        }
        if self.is_owner() && !self.is_maintained {
            return self.become_master(now, "it owns the addresses");
        }
        self.master_interval = self.parameters.interval;
        self.become_backup(now + self.down_interval(), "it listens")
    }

    /// Takes no part any more. A master says so, so that another one takes over at once.
    pub fn stop(&mut self, cause: &str) -> Vec<Action> {
        let was = self.role;
        if was == Role::Out {
            return Vec::new();
        }
        self.turn(Role::Out, None);
        self.hold = None;
        // RFC 9568, section 6.4.3: "If a Shutdown event is received, then: [...] Send an ADVERTISEMENT with Priority = 0".
        let farewell = (was == Role::Master).then_some(Action::SendAdvert(0));
        farewell
            .into_iter()
            .chain([Action::Become(Role::Out, cause.to_owned())])
            .collect()
    }

    /// Hands over now, and lets others be master for a while.
    pub fn release(&mut self, now: Micros) -> Vec<Action> {
        if self.role != Role::Master {
            return Vec::new();
        }
        self.master_interval = self.parameters.interval;
        let hold = now + 2 * self.down_interval();
        self.hold = Some(hold);
        self.hand_over(hold, "released by an operator")
    }

    /// Hands over now, because others of its group are backups.
    pub fn follow(&mut self, now: Micros, cause: &str) -> Vec<Action> {
        self.master_interval = self.parameters.interval;
        let deadline = now + self.down_interval();
        self.hand_over(deadline, cause)
    }

    fn hand_over(&mut self, deadline: Micros, cause: &str) -> Vec<Action> {
        if self.role != Role::Master {
            return Vec::new();
        }
        self.master_interval = self.parameters.interval;
        let mut actions = vec![Action::SendAdvert(0)];
        actions.extend(self.become_backup(deadline, cause));
        actions
    }

    /// Finds itself master without the lease: it slept. Whoever took over meanwhile stays master, as far as the parameters let it.
    pub fn lapse(&mut self, now: Micros) -> Vec<Action> {
        if self.role != Role::Master || self.is_owner() {
            return Vec::new();
        }
        self.master_interval = self.parameters.interval;
        self.become_backup(now + self.down_interval(), "its lease ended while its controller slept")
    }

    /// Becomes master now; a master of higher priority takes it back.
    pub fn take(&mut self, now: Micros, cause: &str) -> Vec<Action> {
        match self.role {
            Role::Backup if !self.is_maintained => self.become_master(now, cause),
            Role::Out | Role::Backup | Role::Master => Vec::new(),
        }
    }

    /// Hands over and stays backup, or takes part as before.
    pub fn maintain(&mut self, is_maintained: bool, now: Micros) -> Vec<Action> {
        if self.is_maintained == is_maintained {
            return Vec::new();
        }
        self.is_maintained = is_maintained;
        self.master_interval = self.parameters.interval;
        let deadline = now + self.down_interval();
        if self.role == Role::Backup {
            self.deadline = Some(deadline);
        }
        self.hand_over(deadline, "an operator maintains it")
    }

    /// Whether it stays backup until an operator says otherwise.
    pub fn is_maintained(&self) -> bool {
        self.is_maintained
    }

    /// Follows other parameters from now on, but for those that make it another virtual router.
    pub fn change(&mut self, parameters: Parameters, now: Micros) -> Vec<Action> {
        let tells = self.role == Role::Master && self.parameters != parameters;
        self.parameters = parameters;
        // Whoever is better now than this master hears of it at once; and all hear a new interval, by which the next one comes.
        tells.then(|| self.advertise(now)).into_iter().collect()
    }

    /// An advert now, and the next one an interval later.
    fn advertise(&mut self, now: Micros) -> Action {
        self.deadline = Some(now + self.parameters.interval);
        Action::SendAdvert(self.parameters.priority)
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Micros) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ask.is_some_and(|ask| ask <= now) {
            actions.extend(self.ask_now(now));
        }
        if self.heal.is_some_and(|heal| heal <= now) {
            actions.push(self.announce(now));
        }
        if self.due().is_none_or(|due| now < due) {
            return actions;
        }
        match self.role {
            Role::Out => {}
            Role::Backup if self.has_yet_to_ask() => actions.extend(self.ask_now(now)),
            Role::Backup => actions.extend(self.become_master(now, &self.why_now(now))),
            Role::Master => {
                let on_time = self.deadline.map(|due| due + self.parameters.interval);
                actions.push(self.advertise(now));
                // One that was late makes those after it no later.
                self.deadline = on_time.filter(|next| *next > now).or(self.deadline);
            }
        }
        actions
    }

    /// Why it takes over.
    fn why_now(&self, now: Micros) -> String {
        match (self.master, self.resigned) {
            (Some((master, priority)), _) if self.hears_master(now) => format!("{master} has priority {priority}"),
            (Some((master, _)), _) if self.is_spent => format!("the controller of {master} did not return"),
            (Some((master, _)), _) => format!("no advert of {master} comes any more"),
            (None, Some(former)) => format!("{former} gave up"),
            (None, None) => "no master is heard".to_owned(),
        }
    }

    /// Whether a master is there, by its adverts.
    fn hears_master(&self, now: Micros) -> bool {
        self.master.is_some() && now <= self.heard + 3 * self.master_interval
    }

    /// Waits until then before it takes over.
    pub fn postpone(&mut self, until: Micros) {
        if self.role == Role::Backup {
            self.deadline = self.deadline.max(Some(until));
        }
    }

    /// Waits for another interval before it takes over.
    pub fn wait(&mut self, now: Micros) {
        self.postpone(now + self.master_interval);
    }

    /// An advert has come, which is right and about this virtual router.
    pub fn advert(&mut self, from: IpAddr, own: IpAddr, advert: &Advert, now: Micros) -> Vec<Action> {
        match self.role {
            Role::Out => Vec::new(),
            Role::Backup => self.listen(from, advert, now),
            Role::Master => self.contend(from, own, advert, now),
        }
    }

    /// RFC 9568, section 6.4.2.
    fn listen(&mut self, from: IpAddr, advert: &Advert, now: Micros) -> Vec<Action> {
        if advert.priority == 0 {
            // "If the Priority in the ADVERTISEMENT is 0, then: Set the Active_Down_Timer to Skew_Time". Of two masters, the one
            // that yields says nothing about the other.
            if self.follows(from) {
                self.resigned(now);
                self.resigned = Some(from);
            }
            return Vec::new();
        }
        let is_other = |(master, priority)| master != from && (priority, master) > (advert.priority, from);
        let is_late = now > self.heard + 2 * self.master_interval;
        if is_late || !self.master.is_some_and(is_other) {
            self.master = Some((from, advert.priority));
            self.heard = now;
        }
        (self.path, self.is_spent, self.questions) = (None, false, 0);
        let preempts = self.preempts(advert.priority);
        if !preempts {
            self.lower_since = None;
        }
        if preempts && self.hold.is_none_or(|hold| hold <= now) {
            let since = *self.lower_since.get_or_insert(now);
            if now.saturating_sub(since) >= self.parameters.preempt_delay {
                // "else: Discard the ADVERTISEMENT": the timer goes on.
                self.ask = None;
                return Vec::new();
            }
        }
        // "If Preempt_Mode is False, or if the Priority in the ADVERTISEMENT is greater than or equal to the local
        // Priority, then: Set Active_Adver_Interval to Max Advertise Interval contained in the ADVERTISEMENT; [...] Reset
        // the Active_Down_Timer to Active_Down_Interval".
        self.master_interval = advert.interval.max(1);
        self.deadline = Some(now + self.down_interval());
        if self.parameters.grace == 0 {
            return Vec::new();
        }
        self.ask_at_ease(now)
    }

    /// Whether that balancer is the master, as far as this one knows.
    pub fn follows(&self, other: IpAddr) -> bool {
        self.master.is_none_or(|(master, _)| master == other)
    }

    /// The master gives up.
    pub fn resigned(&mut self, now: Micros) {
        if self.role != Role::Backup {
            return;
        }
        self.resigned = self.master.take().map(|(master, _)| master).or(self.resigned);
        self.forget_path();
        self.hold = self.hold.filter(|hold| *hold > now);
        let soon = now + self.skew();
        // Whom an operator told to let others be master comes after all others that are there.
        let last = |hold: Micros| hold.min(soon + self.master_interval);
        self.deadline = Some(self.hold.map_or(soon, last));
    }

    /// Whether it is master, and stays so whatever that advert of another one says.
    pub fn outdoes(&self, from: IpAddr, own: IpAddr, advert: &Advert) -> bool {
        let is_better = (advert.priority, from) > (self.parameters.priority, own);
        self.role == Role::Master && advert.priority != 0 && (self.is_owner() || !is_better)
    }

    /// RFC 9568, section 6.4.3.
    fn contend(&mut self, from: IpAddr, own: IpAddr, advert: &Advert, now: Micros) -> Vec<Action> {
        if advert.priority == 0 {
            return self.contradict(now).into_iter().collect();
        }
        // "If the Priority in the ADVERTISEMENT is greater than the local Priority, or [...] equal to the local Priority
        // and the primary IPvX address of the sender is greater than the local primary IPvX address".
        if !self.outdoes(from, own, advert) {
            self.master_interval = advert.interval.max(1);
            let deadline = now + self.down_interval();
            // The better one may not have heard that there were two: a last advert lets it announce the addresses again, so
            // that no client stays with us.
            let mut actions = vec![Action::SendAdvert(self.parameters.priority)];
            actions.extend(self.become_backup(deadline, &format!("{from} has priority {}", advert.priority)));
            self.master = Some((from, advert.priority));
            self.heard = now;
            return actions;
        }
        // "Discard the ADVERTISEMENT; Send an ADVERTISEMENT immediately to assert the Active state to the sending VRRP
        // Router, and to update any learning bridges". Whoever believed the other one hears of us, too.
        self.contradict(now).into_iter().chain(self.heal(now)).collect()
    }

    /// Lets another master hear of this one: the first time at once, and twice in an interval while its adverts go on.
    fn contradict(&mut self, now: Micros) -> Option<Action> {
        let is_soon = |last| now < last + self.parameters.interval / 2;
        if self.contradicted.is_some_and(is_soon) {
            return None;
        }
        self.contradicted = Some(now);
        Some(self.advertise(now))
    }

    /// Lets clients that believed another master hear of this one: the first time at once, and again after its last advert.
    fn heal(&mut self, now: Micros) -> Option<Action> {
        let next = self.healed.map(|last| last + HEAL_AT_MOST).filter(|next| now < *next);
        if next.is_some() {
            self.heal = next;
            return None;
        }
        Some(self.announce(now))
    }

    fn announce(&mut self, now: Micros) -> Action {
        (self.healed, self.heal) = (Some(now), None);
        Action::Announce
    }

    /// Has another role from now on, and knows of nobody.
    fn turn(&mut self, role: Role, deadline: Option<Micros>) {
        (self.role, self.deadline) = (role, deadline);
        (self.master, self.resigned, self.lower_since) = (None, None, None);
        (self.contradicted, self.healed, self.heal) = (None, None, None);
        self.forget_path();
    }

    fn become_master(&mut self, now: Micros, cause: &str) -> Vec<Action> {
        let is_served = self.hears_master(now);
        self.turn(Role::Master, None);
        self.hold = None;
        let mut actions = vec![
            self.advertise(now),
            Action::Become(Role::Master, cause.to_owned()),
            Action::Announce,
        ];
        if is_served {
            // Whoever is master serves until it hears the advert: all is in place by then.
            actions.swap(0, 1);
        }
        actions
    }

    fn become_backup(&mut self, deadline: Micros, cause: &str) -> Vec<Action> {
        self.turn(Role::Backup, Some(deadline));
        vec![Action::Become(Role::Backup, cause.to_owned())]
    }
}

#[cfg(test)]
mod tests;
