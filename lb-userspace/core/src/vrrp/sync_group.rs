//! Sync groups: virtual routers that move together. A virtual router without `group` is a sync
//! group of one.
//!
//! 1. All virtual routers of a sync group have the same role.
//! 2. One that cannot be active keeps the others inactive.
//! 3. One that yields makes the others yield.
//! 4. None becomes master while another one still hears a master, because that master has all
//!    addresses.
//!
//! Pure, as [`Instance`] is.

use std::net::IpAddr;

use super::{
    advert::Advert,
    instance::{Action, EchoReply, Inactive, Instance, Micros, Parameters, Role},
};

#[cfg(test)]
mod tests;

/// An action of the virtual router with this index.
pub type RouterAction = (usize, Action);

/// One virtual router of the group.
#[derive(Clone, Debug)]
struct Router {
    name: String,
    instance: Instance,
    /// Whether it can be active, and then, whether it holds the lease of its addresses. `None`: it
    /// cannot.
    ready: Option<bool>,
}

/// The virtual routers of a sync group, as this balancer sees them.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    routers: Vec<Router>,
}

/// Start and stop.
impl SyncGroup {
    /// A group of virtual routers with these names and parameters, all in the state Initialize.
    pub fn new(routers: impl IntoIterator<Item = (String, Parameters)>) -> Self {
        let routers = routers.into_iter().map(|(name, parameters)| Router {
            name,
            instance: Instance::new(parameters),
            ready: None,
        });
        Self {
            routers: routers.collect(),
        }
    }

    /// Number of virtual routers.
    pub fn len(&self) -> usize {
        self.routers.len()
    }

    /// Whether the group has no virtual routers.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
    }

    /// The instance of the virtual router with that index.
    pub fn instance(&self, index: usize) -> &Instance {
        &self.routers[index].instance
    }

    /// Name of a virtual router that cannot be active, and so keeps the others inactive.
    pub fn waits_for(&self) -> Option<&str> {
        let missing = self.routers.iter().find(|router| router.ready.is_none())?;
        Some(&missing.name)
    }

    /// A virtual router can be active from now on. The last one of the group starts all of them.
    pub fn ready(&mut self, index: usize, now: Micros, holds_lease: bool) -> Vec<RouterAction> {
        self.routers[index].ready = Some(holds_lease);
        if self.routers.iter().any(|router| router.ready.is_none()) {
            return Vec::new();
        }
        let start = |router: &mut Router| {
            let holds_lease = router.ready.replace(false).unwrap_or(false);
            router.instance.start(now, holds_lease)
        };
        self.together(now, |group| group.each(start))
    }

    /// A virtual router cannot be active, so none of the group can.
    pub fn deactivate(&mut self, index: usize, why: Inactive, cause: &str) -> Vec<RouterAction> {
        self.routers[index].ready = None;
        let name = self.routers[index].name.clone();
        let own = self.act(index, |instance| instance.stop(why, cause));
        let others = self.each(|router| {
            let cause = format!("{name} of the sync group: {cause}");
            router.instance.stop(why, &cause)
        });
        own.into_iter().chain(others).collect()
    }

    /// Stops all virtual routers for good. Nothing is wrong.
    pub fn shutdown(&mut self, cause: &str) -> Vec<RouterAction> {
        self.each(|router| router.instance.stop(Inactive::Waiting, cause))
    }
}

/// Operators and reloads.
impl SyncGroup {
    /// See [`Instance::release`].
    pub fn release(&mut self, now: Micros) -> Vec<RouterAction> {
        self.each(|router| router.instance.release(now))
    }

    /// See [`Instance::take`].
    pub fn take(&mut self, now: Micros) -> Vec<RouterAction> {
        self.each(|router| router.instance.take(now, "taken by an operator"))
    }

    /// See [`Instance::maintain`].
    pub fn maintain(&mut self, is_maintained: bool, now: Micros) -> Vec<RouterAction> {
        self.each(|router| router.instance.maintain(is_maintained, now))
    }

    /// See [`Instance::change`]. One element of `parameters` for each virtual router.
    pub fn change(&mut self, parameters: impl IntoIterator<Item = Parameters>, now: Micros) -> Vec<RouterAction> {
        let mut parameters = parameters.into_iter();
        self.each(|router| match parameters.next() {
            Some(parameters) => router.instance.change(parameters, now),
            None => Vec::new(),
        })
    }
}

/// Time, adverts and echoes.
impl SyncGroup {
    /// When [`SyncGroup::tick`] has something to do.
    pub fn deadline(&self) -> Option<Micros> {
        let deadlines = self.routers.iter().map(|router| router.instance.deadline());
        deadlines.flatten().min()
    }

    /// Does what is due, see [`Instance::tick`].
    pub fn tick(&mut self, now: Micros) -> Vec<RouterAction> {
        for index in 0..self.routers.len() {
            if let Some(until) = self.deferred_by_others(index, now) {
                self.routers[index].instance.postpone(until);
            }
        }
        self.together(now, |group| group.each(|router| router.instance.tick(now)))
    }

    /// Until when the masters of the other virtual routers at least keep this one from taking over.
    fn deferred_by_others(&self, index: usize, now: Micros) -> Option<Micros> {
        let others = self.routers.iter().enumerate().filter(|(other, _)| *other != index);
        others.filter_map(|(_, other)| other.instance.defers_until(now)).min()
    }

    /// Takes over after another advert interval or later, because adverts may have been missed.
    pub fn postpone_by_interval(&mut self, now: Micros) {
        for router in &mut self.routers {
            router.instance.postpone_by_interval(now);
        }
    }

    /// The lease of the addresses expired while the controller slept, see [`Instance::lease_lost`].
    pub fn lease_lost(&mut self, now: Micros) -> Vec<RouterAction> {
        self.each(|router| router.instance.lease_lost(now))
    }

    /// Handles an advert, see [`Instance::handle_advert`].
    pub fn handle_advert(
        &mut self,
        index: usize,
        from: IpAddr,
        own: IpAddr,
        advert: &Advert,
        now: Micros,
    ) -> Vec<RouterAction> {
        if advert.priority == 0 && self.routers[index].instance.follows(from) {
            // The master resigns in all virtual routers of its sync group.
            for router in &mut self.routers {
                router.instance.master_resigned(now);
            }
        }
        self.together(now, |group| {
            group.act(index, |instance| instance.handle_advert(from, own, advert, now))
        })
    }

    /// Handles an echo reply, see [`Instance::handle_echo_reply`].
    pub fn handle_echo_reply(&mut self, index: usize, reply: EchoReply, now: Micros) {
        self.routers[index].instance.handle_echo_reply(reply, now);
    }

    /// Makes a change. If the role of one virtual router changed by it, the others follow.
    fn together(&mut self, now: Micros, change: impl FnOnce(&mut Self) -> Vec<RouterAction>) -> Vec<RouterAction> {
        let before = self.roles();
        let mut actions = change(self);
        let yielded = self.entered(Role::Backup, &before);
        if let Some(name) = yielded.filter(|_| before.contains(&Role::Master)) {
            let cause = format!("{name} of the sync group yielded");
            actions.extend(self.each(|router| router.instance.yield_with_group(now, &cause)));
        } else if let Some(name) = self.entered(Role::Master, &before) {
            let cause = format!("{name} of the sync group became master");
            actions.extend(self.each(|router| router.instance.take(now, &cause)));
            become_before_adverts(&mut actions);
        }
        actions
    }

    fn roles(&self) -> Vec<Role> {
        self.routers.iter().map(|router| router.instance.role()).collect()
    }

    /// Name of a virtual router that entered this role.
    fn entered(&self, role: Role, before: &[Role]) -> Option<String> {
        let mut routers = self.routers.iter().zip(before);
        let entered = routers.find(|(router, before)| router.instance.role() == role && **before != role);
        Some(entered?.0.name.clone())
    }

    fn each(&mut self, mut act: impl FnMut(&mut Router) -> Vec<Action>) -> Vec<RouterAction> {
        let routers = self.routers.iter_mut().enumerate();
        routers
            .flat_map(|(index, router)| act(router).into_iter().map(move |action| (index, action)))
            .collect()
    }

    fn act(&mut self, index: usize, act: impl FnOnce(&mut Instance) -> Vec<Action>) -> Vec<RouterAction> {
        let actions = act(&mut self.routers[index].instance);
        actions.into_iter().map(|action| (index, action)).collect()
    }
}

/// If the first virtual router is made ready before its first advert, makes all of them ready
/// before any advert: a present master resigns in all of them when it hears one advert.
fn become_before_adverts(actions: &mut [RouterAction]) {
    let is_become = |action: &Action| matches!(action, Action::Become(Role::Master, _));
    let is_advert = |action: &Action| matches!(action, Action::SendAdvert(_));
    let first = |is: &dyn Fn(&Action) -> bool| actions.iter().position(|(_, action)| is(action));
    if first(&is_become) < first(&is_advert) {
        actions.sort_by_key(|(_, action)| !is_become(action));
    }
}
