//! Virtual routers that move together: those of a sync group, or one alone. Pure, as [`Instance`] is.
//!
//! All members have one role. One that cannot take part keeps the others from it; one that yields takes the others along; and
//! none becomes master while another one still hears a master, since that one has them all.

use std::net::IpAddr;

use super::{
    advert::Advert,
    instance::{Action, EchoReply, Instance, Micros, Parameters, Role},
};

/// What the member with this index is to do.
pub type RouterAction = (usize, Action);

/// A member.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    instance: Instance,
    /// Whether it can take part; then, whether it holds the lease of its addresses.
    ready: Option<bool>,
}

/// The virtual routers of a group, as this balancer sees them.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    members: Vec<Member>,
}

impl SyncGroup {
    /// From the names and parameters of its members, none of which takes part yet.
    pub fn new(members: impl IntoIterator<Item = (String, Parameters)>) -> Self {
        let members = members.into_iter().map(|(name, parameters)| Member {
            name,
            instance: Instance::new(parameters),
            ready: None,
        });
        Self {
            members: members.collect(),
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member as it is.
    pub fn member(&self, index: usize) -> &Instance {
        &self.members[index].instance
    }

    /// When [`SyncGroup::tick`] is to be called.
    pub fn deadline(&self) -> Option<Micros> {
        self.members
            .iter()
            .filter_map(|member| member.instance.deadline())
            .min()
    }

    /// Why a member that could take part does not: who keeps it from it.
    pub fn waits_for(&self) -> Option<&str> {
        let missing = self.members.iter().find(|member| member.ready.is_none())?;
        Some(&missing.name)
    }

    /// A member can take part from now on; the last one of its group brings all in.
    pub fn ready(&mut self, index: usize, now: Micros, holds_lease: bool) -> Vec<RouterAction> {
        self.members[index].ready = Some(holds_lease);
        if self.members.iter().any(|member| member.ready.is_none()) {
            return Vec::new();
        }
        let start = |member: &mut Member| {
            let holds_lease = member.ready.replace(false).unwrap_or(false);
            member.instance.start(now, holds_lease)
        };
        self.together(now, |group| group.each(start))
    }

    /// A member cannot take part any more, and so none of the group can.
    pub fn lost(&mut self, index: usize, cause: &str) -> Vec<RouterAction> {
        self.members[index].ready = None;
        let name = self.members[index].name.clone();
        let own = self.act(index, |instance| instance.stop(cause));
        let others = self.each(|member| member.instance.stop(&format!("{name} of its group: {cause}")));
        own.into_iter().chain(others).collect()
    }

    /// All end.
    pub fn end(&mut self, cause: &str) -> Vec<RouterAction> {
        self.each(|member| member.instance.stop(cause))
    }

    /// See [`Instance::release`].
    pub fn release(&mut self, now: Micros) -> Vec<RouterAction> {
        self.each(|member| member.instance.release(now))
    }

    /// The lease of the addresses has lapsed while this balancer slept: another one is master by now, or may become it.
    pub fn lapse(&mut self, now: Micros) -> Vec<RouterAction> {
        self.each(|member| member.instance.lapse(now))
    }

    /// See [`Instance::take`].
    pub fn take(&mut self, now: Micros) -> Vec<RouterAction> {
        self.each(|member| member.instance.take(now, "taken by an operator"))
    }

    /// See [`Instance::maintain`].
    pub fn maintain(&mut self, is_maintained: bool, now: Micros) -> Vec<RouterAction> {
        self.each(|member| member.instance.maintain(is_maintained, now))
    }

    /// See [`Instance::change`]; one for each member.
    pub fn change(&mut self, parameters: impl IntoIterator<Item = Parameters>, now: Micros) -> Vec<RouterAction> {
        let mut parameters = parameters.into_iter();
        self.each(|member| {
            parameters
                .next()
                .map_or_else(Vec::new, |parameters| member.instance.change(parameters, now))
        })
    }

    /// See [`Instance::tick`].
    pub fn tick(&mut self, now: Micros) -> Vec<RouterAction> {
        for index in 0..self.members.len() {
            let heard = self.heard_elsewhere(index, now);
            if let Some(until) = heard {
                self.members[index].instance.postpone(until);
            }
        }
        self.together(now, |group| group.each(|member| member.instance.tick(now)))
    }

    /// Waits for another interval before it takes over, because adverts may have been missed.
    pub fn wait(&mut self, now: Micros) {
        for member in &mut self.members {
            member.instance.wait(now);
        }
    }

    /// Until when another member's master at least keeps this one from taking over, if one does.
    fn heard_elsewhere(&self, index: usize, now: Micros) -> Option<Micros> {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != index);
        others.filter_map(|(_, member)| member.instance.kept_until(now)).min()
    }

    /// See [`Instance::advert`].
    pub fn advert(
        &mut self,
        index: usize,
        from: IpAddr,
        own: IpAddr,
        advert: &Advert,
        now: Micros,
    ) -> Vec<RouterAction> {
        if advert.priority == 0 && self.members[index].instance.follows(from) {
            // Its group gives up with it.
            for member in &mut self.members {
                member.instance.resigned(now);
            }
        }
        self.together(now, |group| {
            group.act(index, |instance| instance.advert(from, own, advert, now))
        })
    }

    /// See [`Instance::answered`].
    pub fn answered(&mut self, index: usize, answer: EchoReply, now: Micros) {
        self.members[index].instance.answered(answer, now);
    }

    /// Carries something out, and lets all follow the one that changed its role.
    fn together(&mut self, now: Micros, change: impl FnOnce(&mut Self) -> Vec<RouterAction>) -> Vec<RouterAction> {
        let before: Vec<_> = self.members.iter().map(|member| member.instance.role()).collect();
        let mut actions = change(self);
        let became = |group: &Self, role| {
            let changed = group.members.iter().zip(&before);
            let mut changed = changed.filter(|(member, before)| member.instance.role() == role && **before != role);
            changed.next().map(|(member, _)| member.name.clone())
        };
        let yielded = became(self, Role::Backup).filter(|_| before.contains(&Role::Master));
        if let Some(name) = yielded {
            actions.extend(self.each(|member| member.instance.follow(now, &format!("{name} of its group yielded"))));
        } else if let Some(name) = became(self, Role::Master) {
            actions.extend(self.each(|member| {
                let cause = format!("{name} of its group became master");
                member.instance.take(now, &cause)
            }));
            let is_place = |action: &Action| matches!(action, Action::Become(Role::Master, _));
            let is_sent = |action: &Action| matches!(action, Action::SendAdvert(_));
            let first = |is: &dyn Fn(&Action) -> bool| actions.iter().position(|(_, action)| is(action));
            if first(&is_place) < first(&is_sent) {
                // Whoever is master gives all of them up when it hears of one.
                actions.sort_by_key(|(_, action)| !is_place(action));
            }
        }
        actions
    }

    fn each(&mut self, mut act: impl FnMut(&mut Member) -> Vec<Action>) -> Vec<RouterAction> {
        let members = self.members.iter_mut().enumerate();
        members
            .flat_map(|(index, member)| act(member).into_iter().map(move |action| (index, action)))
            .collect()
    }

    fn act(&mut self, index: usize, act: impl FnOnce(&mut Instance) -> Vec<Action>) -> Vec<RouterAction> {
        let actions = act(&mut self.members[index].instance);
        actions.into_iter().map(|action| (index, action)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Micros = 100_000;

    fn parameters(priority: u8) -> Parameters {
        Parameters {
            version: 3,
            priority,
            interval: INTERVAL,
            preempt: true,
            preempt_delay: 0,
            grace: 0,
        }
    }

    fn advert(priority: u8) -> Advert {
        Advert {
            version: 3,
            router: 1,
            priority,
            interval: INTERVAL,
            addresses: Vec::new(),
            password: None,
        }
    }

    fn pair() -> SyncGroup {
        pair_of(parameters(100))
    }

    fn pair_of(parameters: Parameters) -> SyncGroup {
        let mut group = SyncGroup::new(["a", "b"].map(|name| (name.to_owned(), parameters.clone())));
        assert_eq!(group.ready(0, 0, false), []);
        assert_eq!((group.waits_for(), group.member(0).role()), (Some("b"), Role::Out));
        group.ready(1, 0, false);
        assert_eq!(roles(&group), [Role::Backup; 2]);
        group
    }

    fn roles(group: &SyncGroup) -> Vec<Role> {
        (0..group.len()).map(|index| group.member(index).role()).collect()
    }

    fn hear(group: &mut SyncGroup, index: usize, priority: u8, now: Micros) -> Vec<RouterAction> {
        group.advert(
            index,
            [192, 0, 2, 9].into(),
            [192, 0, 2, 1].into(),
            &advert(priority),
            now,
        )
    }

    #[test]
    fn all_members_become_master_with_the_first_one() {
        let mut group = pair();
        let deadline = group.deadline().unwrap();
        let actions = group.tick(deadline);
        assert_eq!(roles(&group), [Role::Master; 2]);
        assert_eq!(
            actions.iter().filter(|(_, action)| *action == Action::Announce).count(),
            2
        );
    }

    #[test]
    fn none_becomes_master_while_another_one_hears_a_master() {
        let mut group = pair();
        for tenth in 1..100 {
            let now = tenth * INTERVAL;
            hear(&mut group, 0, 200, now);
            group.tick(now);
            assert_eq!(roles(&group), [Role::Backup; 2], "after {tenth} intervals");
        }
        let deadline = group.deadline().unwrap();
        group.tick(deadline);
        assert_eq!(roles(&group), [Role::Master; 2]);
    }

    #[test]
    fn none_becomes_master_while_the_packet_path_of_another_one_s_master_answers() {
        let mut group = pair_of(Parameters {
            grace: 100 * INTERVAL,
            ..parameters(100)
        });
        for index in [0, 1] {
            hear(&mut group, index, 200, INTERVAL);
        }
        let answer = |now| EchoReply {
            from: [192, 0, 2, 9].into(),
            holds: true,
            age: now,
        };
        let mut masters_at = None;
        while masters_at.is_none() {
            let now = group.deadline().unwrap();
            group.tick(now);
            // It answers in one of the networks alone.
            if now < 50 * INTERVAL {
                group.answered(1, answer(now), now);
            }
            masters_at = roles(&group).contains(&Role::Master).then_some(now);
        }
        assert_eq!(roles(&group), [Role::Master; 2]);
        let until = 50 * INTERVAL..54 * INTERVAL;
        assert!(masters_at.is_some_and(|at| until.contains(&at)), "{masters_at:?}");
    }

    #[test]
    fn one_that_yields_takes_the_others_along_and_they_say_so() {
        let mut group = pair();
        group.tick(4 * INTERVAL);
        let actions = hear(&mut group, 0, 200, 5 * INTERVAL);
        assert_eq!(roles(&group), [Role::Backup; 2]);
        assert!(actions.contains(&(1, Action::SendAdvert(0))), "{actions:?}");
        assert!(
            !actions.contains(&(0, Action::SendAdvert(0))),
            "a better master is there: {actions:?}"
        );
    }

    #[test]
    fn an_owner_s_group_yields_to_nobody() {
        let mut group = SyncGroup::new(["a", "b"].map(|name| (name.to_owned(), parameters(255))));
        group.ready(0, 0, false);
        group.ready(1, 0, false);
        assert_eq!(roles(&group), [Role::Master; 2]);
        let actions = hear(&mut group, 0, 255, INTERVAL);
        assert_eq!(roles(&group), [Role::Master; 2]);
        assert_eq!(actions[0], (0, Action::SendAdvert(255)), "{actions:?}");
    }

    #[test]
    fn whoever_takes_over_from_a_master_that_serves_has_all_in_place_before_its_first_advert() {
        let mut group = pair();
        let mut actions = Vec::new();
        for tenth in 1..=5 {
            for index in [0, 1] {
                actions.extend(hear(&mut group, index, 50, tenth * INTERVAL));
            }
            actions.extend(group.tick(tenth * INTERVAL));
        }
        let is_place = |(_, action): &RouterAction| matches!(action, Action::Become(Role::Master, _));
        let [places, sends] = [is_place, |(_, action): &RouterAction| {
            matches!(action, Action::SendAdvert(_))
        }]
        .map(|is: fn(&RouterAction) -> bool| {
            actions
                .iter()
                .enumerate()
                .filter(|(_, act)| is(act))
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        });
        assert_eq!(roles(&group), [Role::Master; 2]);
        assert!(places.len() == 2 && places[1] < sends[0], "{actions:?}");
    }

    #[test]
    fn one_that_is_lost_keeps_all_out_until_it_is_back() {
        let mut group = pair();
        group.tick(4 * INTERVAL);
        let actions = group.lost(1, "the interface is down");
        assert_eq!(roles(&group), [Role::Out; 2]);
        assert!(actions.contains(&(0, Action::SendAdvert(0))), "{actions:?}");
        let told = "b of its group: the interface is down".to_owned();
        assert!(actions.contains(&(0, Action::Become(Role::Out, told))), "{actions:?}");
        group.ready(1, 9 * INTERVAL, false);
        assert_eq!(roles(&group), [Role::Backup; 2]);
    }

    #[test]
    fn a_master_that_gives_one_up_gives_up_all() {
        let mut group = pair();
        hear(&mut group, 0, 200, INTERVAL);
        hear(&mut group, 1, 200, INTERVAL);
        hear(&mut group, 1, 0, 2 * INTERVAL);
        let deadline = group.deadline().unwrap();
        assert!(deadline < 3 * INTERVAL, "it need not wait for three intervals");
        group.tick(deadline);
        assert_eq!(roles(&group), [Role::Master; 2]);
    }

    #[test]
    fn one_that_is_maintained_stays_backup() {
        let mut group = pair();
        group.tick(4 * INTERVAL);
        let actions = group.maintain(true, 5 * INTERVAL);
        assert_eq!(
            actions
                .iter()
                .filter(|(_, action)| *action == Action::SendAdvert(0))
                .count(),
            2
        );
        assert_eq!((roles(&group), group.deadline()), (vec![Role::Backup; 2], None));
        assert_eq!(group.take(6 * INTERVAL), []);
        group.maintain(false, 7 * INTERVAL);
        let deadline = group.deadline().unwrap();
        group.tick(deadline);
        assert_eq!(roles(&group), [Role::Master; 2]);
    }
}
