//! Who is master of one virtual router: the state machine of RFC 9568, section 6.4. Pure, time is an argument.

use std::net::IpAddr;

use super::wire::Advert;

/// Microseconds since some moment.
pub type Micros = u64;

/// What an instance follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
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
    Send(u8),
    /// The role is this from now on, for that reason.
    Become(Role, String),
    /// Everybody on the link is told where the addresses are.
    Announce,
}

/// One virtual router, as this balancer sees it.
#[derive(Clone, Debug)]
pub struct Instance {
    rules: Rules,
    role: Role,
    /// When the next advert is due, or the master counts as gone.
    deadline: Option<Micros>,
    /// The interval that the master tells.
    master_interval: Micros,
    /// Whom adverts came from last, and its priority.
    master: Option<(IpAddr, u8)>,
    /// Since when a master of lower priority is heard.
    lower_since: Option<Micros>,
    /// Until when it lets others be master, because an operator said so.
    hold: Option<Micros>,
}

impl Instance {
    /// Takes no part yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            master_interval: rules.interval,
            rules,
            role: Role::Out,
            deadline: None,
            master: None,
            lower_since: None,
            hold: None,
        }
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// When [`Instance::tick`] is to be called.
    pub fn deadline(&self) -> Option<Micros> {
        self.deadline
    }

    /// The master that is heard, and its priority.
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        self.master
    }

    /// RFC 9568, section 6.1: "Skew_Time = (((256 - Priority) * Active_Adver_Interval) / 256)"; RFC 3768 takes one second for
    /// the interval.
    fn skew(&self) -> Micros {
        let interval = if self.rules.version == 2 {
            1_000_000
        } else {
            self.master_interval
        };
        (256 - u64::from(self.rules.priority)) * interval / 256
    }

    /// RFC 9568, section 6.1: "Active_Down_Interval = (3 * Active_Adver_Interval) + Skew_time".
    fn down_interval(&self) -> Micros {
        3 * self.master_interval + self.skew()
    }

    /// Begins to take part. One that was master until just now, and still has the addresses, does not wait for a master that
    /// is perhaps itself longer than it takes to hear another one.
    pub fn start(&mut self, now: Micros, has_addresses: bool) -> Vec<Action> {
        if self.role != Role::Out {
            return Vec::new();
        }
        if self.rules.priority == 255 {
            return self.become_master(now, "it owns the addresses");
        }
        self.master_interval = self.rules.interval;
        let patience = if has_addresses {
            self.rules.interval + self.skew()
        } else {
            self.down_interval()
        };
        self.become_backup(now + patience, "it listens")
    }

    /// Takes no part any more. A master says so, so that another one takes over at once.
    pub fn stop(&mut self, cause: &str) -> Vec<Action> {
        let was = self.role;
        if was == Role::Out {
            return Vec::new();
        }
        self.role = Role::Out;
        self.deadline = None;
        self.master = None;
        self.lower_since = None;
        self.hold = None;
        // RFC 9568, section 6.4.3: "If a Shutdown event is received, then: [...] Send an ADVERTISEMENT with Priority = 0".
        let farewell = (was == Role::Master).then_some(Action::Send(0));
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
        self.master_interval = self.rules.interval;
        let hold = now + 2 * self.down_interval();
        self.hold = Some(hold);
        let mut actions = vec![Action::Send(0)];
        actions.extend(self.become_backup(hold, "released by an operator"));
        actions
    }

    /// Becomes master now; a master of higher priority takes it back.
    pub fn take(&mut self, now: Micros) -> Vec<Action> {
        match self.role {
            Role::Backup => self.become_master(now, "taken by an operator"),
            Role::Out | Role::Master => Vec::new(),
        }
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Micros) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.role {
            Role::Out => Vec::new(),
            Role::Backup => self.become_master(now, "no master is heard"),
            Role::Master => {
                self.deadline = Some(now + self.rules.interval);
                vec![Action::Send(self.rules.priority)]
            }
        }
    }

    /// An advert has come, which is right and about this virtual router.
    pub fn advert(&mut self, from: IpAddr, own: IpAddr, advert: &Advert, now: Micros) -> Vec<Action> {
        match self.role {
            Role::Out => Vec::new(),
            Role::Backup => {
                self.listen(from, advert, now);
                Vec::new()
            }
            Role::Master => self.contend(from, own, advert, now),
        }
    }

    /// RFC 9568, section 6.4.2.
    fn listen(&mut self, from: IpAddr, advert: &Advert, now: Micros) {
        if advert.priority == 0 {
            // "If the Priority in the ADVERTISEMENT is 0, then: Set the Active_Down_Timer to Skew_Time".
            self.hold = self.hold.filter(|hold| *hold > now);
            self.deadline = Some(self.hold.unwrap_or(now + self.skew()));
            return;
        }
        self.master = Some((from, advert.priority));
        let is_lower = advert.priority < self.rules.priority;
        if !is_lower {
            self.lower_since = None;
        }
        if is_lower && self.rules.preempt && self.hold.is_none_or(|hold| hold <= now) {
            let since = *self.lower_since.get_or_insert(now);
            if now.saturating_sub(since) >= self.rules.preempt_delay {
                // "else: Discard the ADVERTISEMENT": the timer goes on.
                return;
            }
        }
        // "If Preempt_Mode is False, or if the Priority in the ADVERTISEMENT is greater than or equal to the local
        // Priority, then: Set Active_Adver_Interval to Max Advertise Interval contained in the ADVERTISEMENT; [...] Reset
        // the Active_Down_Timer to Active_Down_Interval".
        self.master_interval = advert.interval.max(1);
        self.deadline = Some(now + self.down_interval());
    }

    /// RFC 9568, section 6.4.3.
    fn contend(&mut self, from: IpAddr, own: IpAddr, advert: &Advert, now: Micros) -> Vec<Action> {
        if advert.priority == 0 {
            self.deadline = Some(now + self.rules.interval);
            return vec![Action::Send(self.rules.priority)];
        }
        // "If the Priority in the ADVERTISEMENT is greater than the local Priority, or [...] equal to the local Priority
        // and the primary IPvX address of the sender is greater than the local primary IPvX address".
        if (advert.priority, from) > (self.rules.priority, own) {
            self.master_interval = advert.interval.max(1);
            self.master = Some((from, advert.priority));
            let deadline = now + self.down_interval();
            // The better one may not have heard that there were two: a last advert lets it announce the addresses again, so
            // that no client stays with us.
            let mut actions = vec![Action::Send(self.rules.priority)];
            actions.extend(self.become_backup(deadline, &format!("{from} has priority {}", advert.priority)));
            return actions;
        }
        // "Discard the ADVERTISEMENT; Send an ADVERTISEMENT immediately to assert the Active state to the sending VRRP
        // Router, and to update any learning bridges". Whoever believed the other one hears of us, too.
        self.deadline = Some(now + self.rules.interval);
        vec![Action::Send(self.rules.priority), Action::Announce]
    }

    fn become_master(&mut self, now: Micros, cause: &str) -> Vec<Action> {
        self.role = Role::Master;
        self.deadline = Some(now + self.rules.interval);
        self.master = None;
        self.lower_since = None;
        self.hold = None;
        vec![
            Action::Send(self.rules.priority),
            Action::Become(Role::Master, cause.to_owned()),
            Action::Announce,
        ]
    }

    fn become_backup(&mut self, deadline: Micros, cause: &str) -> Vec<Action> {
        self.role = Role::Backup;
        self.deadline = Some(deadline);
        self.lower_since = None;
        vec![Action::Become(Role::Backup, cause.to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn rules(priority: u8) -> Rules {
        Rules {
            version: 3,
            priority,
            interval: SECOND,
            preempt: true,
            preempt_delay: 0,
        }
    }

    fn advert(priority: u8) -> Advert {
        Advert {
            version: 3,
            router: 1,
            priority,
            interval: SECOND,
            addresses: Vec::new(),
            password: None,
        }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// A backup of that priority that has just begun, at 0.
    fn backup(rules: Rules) -> Instance {
        let mut instance = Instance::new(rules);
        instance.start(0, false);
        assert_eq!(instance.role(), Role::Backup);
        instance
    }

    #[test]
    fn a_backup_takes_over_when_no_master_is_heard() {
        let mut instance = backup(rules(100));
        // 3 intervals and (256 - 100) / 256 of one.
        assert_eq!(instance.deadline(), Some(3_609_375));
        assert_eq!(instance.tick(3_609_374), []);
        let actions = instance.tick(3_609_375);
        assert_eq!(actions[0], Action::Send(100));
        assert!(matches!(&actions[1], Action::Become(Role::Master, _)));
        assert_eq!(actions[2], Action::Announce);
        assert_eq!(instance.deadline(), Some(4_609_375));
        assert_eq!(instance.tick(4_609_375), [Action::Send(100)]);
    }

    #[test]
    fn what_a_backup_makes_of_adverts() {
        // Own priority, preempt, delay in seconds; priority heard at 1 s; then the deadline.
        for (priority, preempt, delay, heard, deadline) in [
            (100, true, 0, 100, SECOND + 3_609_375),
            (100, true, 0, 200, SECOND + 3_609_375),
            (100, true, 0, 99, 3_609_375),
            (100, false, 0, 99, SECOND + 3_609_375),
            (100, true, 5, 99, SECOND + 3_609_375),
            (100, true, 0, 0, SECOND + 609_375),
        ] {
            let given = Rules {
                preempt,
                preempt_delay: delay * SECOND,
                ..rules(priority)
            };
            let mut instance = backup(given);
            assert_eq!(instance.advert(address(9), address(1), &advert(heard), SECOND), []);
            assert_eq!(
                instance.deadline(),
                Some(deadline),
                "{priority} {preempt} {delay} {heard}"
            );
        }
    }

    #[test]
    fn a_delayed_preemption_comes_when_the_delay_is_over() {
        let given = Rules {
            preempt_delay: 5 * SECOND,
            ..rules(100)
        };
        let mut instance = backup(given);
        for second in 1..=5 {
            instance.advert(address(9), address(1), &advert(50), second * SECOND);
        }
        let deadline = instance.deadline().unwrap();
        instance.advert(address(9), address(1), &advert(50), 6 * SECOND);
        assert_eq!(instance.deadline(), Some(deadline), "the timer goes on");
        assert!(!instance.tick(deadline).is_empty());
        assert_eq!(instance.role(), Role::Master);
    }

    #[test]
    fn a_master_yields_to_who_is_better_and_tells_who_is_not() {
        for (heard, from, yields) in [(101, 9, true), (100, 9, true), (100, 0, false), (99, 9, false)] {
            let mut instance = backup(rules(100));
            instance.tick(4 * SECOND);
            let actions = instance.advert(address(from), address(1), &advert(heard), 5 * SECOND);
            if yields {
                assert!(
                    matches!(&actions[..], [Action::Send(100), Action::Become(Role::Backup, _)]),
                    "{heard} {from}"
                );
                assert_eq!(instance.deadline(), Some(5 * SECOND + 3_609_375));
            } else {
                assert_eq!(actions, [Action::Send(100), Action::Announce], "{heard} {from}");
            }
        }
        let mut instance = backup(rules(100));
        instance.tick(4 * SECOND);
        let actions = instance.advert(address(9), address(1), &advert(0), 5 * SECOND);
        assert_eq!(
            actions,
            [Action::Send(100)],
            "who gives up hears that somebody is there"
        );
    }

    #[test]
    fn a_master_that_stops_says_so_and_an_owner_begins_as_master() {
        let mut instance = Instance::new(rules(255));
        let actions = instance.start(0, false);
        assert_eq!(actions[0], Action::Send(255));
        assert_eq!(instance.role(), Role::Master);
        let actions = instance.stop("the daemon ends");
        assert_eq!(actions[0], Action::Send(0));
        assert!(matches!(&actions[1], Action::Become(Role::Out, _)));
        assert_eq!((instance.role(), instance.deadline()), (Role::Out, None));
        assert_eq!(instance.tick(9 * SECOND), []);
        assert_eq!(backup(rules(1)).stop("x").len(), 1, "a backup has nothing to give up");
    }

    #[test]
    fn who_still_has_the_addresses_does_not_wait_for_itself() {
        let mut instance = Instance::new(rules(100));
        instance.start(0, true);
        assert_eq!(instance.deadline(), Some(SECOND + 609_375));
    }

    #[test]
    fn an_operator_hands_over_and_takes() {
        let mut instance = backup(rules(200));
        instance.tick(4 * SECOND);
        let actions = instance.release(5 * SECOND);
        assert_eq!(actions[0], Action::Send(0));
        assert_eq!(instance.role(), Role::Backup);
        // The other one is of lower priority, and is let be for a while.
        for second in 6..12 {
            instance.advert(address(9), address(1), &advert(100), second * SECOND);
            assert_eq!(instance.tick(second * SECOND), []);
        }
        let until = (12..30).find(|second| {
            instance.advert(address(9), address(1), &advert(100), second * SECOND);
            !instance.tick(second * SECOND).is_empty()
        });
        assert!(until.is_some(), "it takes over again");
        let mut instance = backup(rules(50));
        assert_eq!(instance.take(SECOND)[0], Action::Send(50));
        assert_eq!(instance.role(), Role::Master);
    }
}
