//! Owns the virtual addresses while this balancer is master: adds, announces and removes them, and
//! relays connections of the former master.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;

use super::{InterfaceSnapshot, Micros, Relay, Role, Transport, VirtualRouter, addresses, lease};
use lb_core::vrrp::relay::RelayStep;

/// How long a balancer waits for the next master beyond an interval, in which that one takes over.
const LINGER_EXTRA: Duration = Duration::from_millis(100);
/// How long it waits at most.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Roles.
impl VirtualRouter {
    /// Enters a role.
    pub(super) async fn become_role(&mut self, role: Role, cause: &str) {
        if role == Role::Master {
            self.prepare();
        }
        if let Some(transport) = &mut self.transport {
            // From here on, the role says whether it has them.
            transport.had_addresses = false;
        }
        if role == Role::Master {
            self.own_addresses().await;
        } else {
            self.disown_addresses().await;
        }
        self.changed = lease::now();
        self.reporter.set_role(&self.config, role, cause);
    }

    /// Lets the packet path serve. From the first frame that this balancer sends as master,
    /// switches lead clients here.
    pub(super) fn prepare(&mut self) {
        self.begin_relay();
        if let Some(transport) = &self.transport {
            transport.lease.renew();
        }
    }

    async fn own_addresses(&mut self) {
        let Some(transport) = &self.transport else { return };
        self.lingers_until = None;
        let done = transport.set_device(&self.netlink.addresses, true).await;
        self.warn_if_failed("its device", done);
        for address in &self.config.addresses {
            self.add_address(transport, *address).await;
        }
        self.has_resigned = false;
    }

    async fn disown_addresses(&mut self) {
        let Some(transport) = &self.transport else { return };
        let has_device = transport.has_device();
        // Packets of unknown connections that still come here are relayed to the next master: those
        // of clients, and those to the virtual router's MAC address, until the next master has sent
        // from it.
        let least = has_device.then_some(LINGER_MAX);
        transport.lease.relay(self.relay_length().or(least));
        self.relay = None;
        self.announce_schedule.end();
        let is_next_awaited = self.has_resigned || has_device;
        if self.reporter.role() == Role::Master && is_next_awaited {
            if !self.has_resigned {
                // The better master has the addresses already.
                self.remove_addresses().await;
            }
            let length = (self.config.interval + LINGER_EXTRA).min(LINGER_MAX);
            self.lingers_until = Some(lease::now() + length.as_micros() as Micros);
        } else if self.lingers_until.is_none() {
            self.leave().await;
        }
    }

    /// Leaves everything to the next master.
    pub(super) async fn leave(&mut self) {
        self.lingers_until = None;
        self.remove_addresses().await;
        if let Some(transport) = &self.transport {
            let done = transport.set_device(&self.netlink.devices, false).await;
            self.warn_if_failed("its device", done);
        }
        self.changed = lease::now();
    }
}

/// Addresses.
impl VirtualRouter {
    /// Adds addresses that were removed from a master by somebody else.
    pub(super) async fn restore_addresses(&mut self, snapshot: &InterfaceSnapshot) {
        let (Some(transport), Role::Master) = (&self.transport, self.reporter.role()) else {
            return;
        };
        if snapshot.at <= self.changed {
            return;
        }
        let is_missing = |address: &&IpNet| snapshot.nets(transport.home(), address.addr()).next().is_none();
        let missing: Vec<_> = self.config.addresses.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        for address in missing {
            self.reporter
                .warn(format_args!("{address} was removed and is added again"));
            self.add_address(transport, *address).await;
        }
        self.announce();
        self.changed = lease::now();
    }

    pub(super) async fn add_address(&self, transport: &Transport, address: IpNet) {
        if let Err(error) = addresses::add(&self.netlink.addresses, transport.home(), address).await {
            self.reporter
                .warn(format_args!("{address} could not be added: {error}"));
        }
    }

    /// Gives up the lease, and removes the addresses that the balancer does not own.
    pub(in super::super) async fn remove_addresses(&mut self) {
        let Some(transport) = &self.transport else { return };
        transport.lease.release();
        let moving = self.moving_addresses(transport);
        let removed = addresses::remove(&self.netlink.addresses, transport.home(), moving).await;
        self.warn_if_failed("addresses could not be removed", removed);
    }

    /// The addresses that the balancer does not own, with each prefix length that the interface may
    /// have for them.
    fn moving_addresses(&self, transport: &Transport) -> BTreeSet<IpNet> {
        let all = self.config.addresses.iter();
        let moving: Vec<_> = all
            .filter(|address| !transport.owned.contains(&address.addr()))
            .collect();
        let snapshot = self.netlink.interfaces.borrow();
        // A former configuration may have had another prefix length.
        let seen = snapshot.iter().flat_map(|snapshot| {
            moving
                .iter()
                .flat_map(|address| snapshot.nets(transport.home(), address.addr()))
        });
        seen.chain(moving.iter().map(|address| **address)).collect()
    }

    /// Announces the addresses now, and repeats it as scheduled.
    pub(super) fn announce_repeatedly(&mut self) {
        self.announce();
        self.announce_schedule.begin(lease::now());
    }

    pub(super) fn announce(&self) {
        if let (Some(transport), Role::Master) = (&self.transport, self.reporter.role()) {
            for (address, error) in transport.announcer.announce(self.virtual_addresses.iter().copied()) {
                self.reporter
                    .warn(format_args!("{address} could not be announced: {error}"));
            }
        }
    }
}

/// Relay of connections to the former master.
impl VirtualRouter {
    pub(super) fn begin_relay(&mut self) {
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

    pub(super) fn tick_relay(&mut self, now: Micros) {
        let Some(relay) = &mut self.relay else { return };
        match relay.tick(now) {
            RelayStep::Wait => {}
            RelayStep::SendEcho(former) => self.send_echo(former),
            RelayStep::End => {
                self.relay = None;
                if let Some(transport) = &self.transport {
                    transport.lease.relay(None);
                }
            }
        }
    }
}
