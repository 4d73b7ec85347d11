//! Follows the interface and the configuration of a virtual router: opens, checks and closes its
//! transport.

use std::{collections::BTreeSet, sync::Arc};

use super::{Echo, InterfaceSnapshot, Lease, Role, TrackedRouter, Transport, VirtualRouter, addresses, lease};
use crate::vrrp::addresses::Link;
use lb_core::config::Vrrp;

impl VirtualRouter {
    /// Follows a new snapshot: opens the transport, and puts back what is missing. Returns a cause
    /// if the transport has to be closed.
    pub(in super::super) async fn refresh(&mut self, snapshot: &InterfaceSnapshot) -> Option<String> {
        let link = snapshot.link(&self.config.interface).cloned();
        self.forget_former_interface(link.as_ref().map(|link| link.index));
        let cause = match link {
            None => format!("interface {} does not exist", self.config.interface),
            Some(link) if !link.is_running => format!("interface {} is down", self.config.interface),
            Some(link) => match &self.transport {
                None => {
                    self.open(link, snapshot).await;
                    return None;
                }
                Some(transport) if transport.link == link => match self.check_transport(snapshot).await {
                    Some(cause) => cause,
                    None => {
                        self.restore_addresses(snapshot).await;
                        return None;
                    }
                },
                Some(_) => "the interface changed".to_owned(),
            },
        };
        self.closed_for = cause;
        self.transport.is_some().then(|| self.closed_for.clone())
    }

    /// Removes the entry of an interface that does not exist any longer. A new interface of that
    /// name has another index.
    fn forget_former_interface(&mut self, index: Option<u32>) {
        if self.registered.is_some_and(|key| Some(key.interface) != index)
            && let Some(key) = self.registered.take()
            && let Err(error) = self.routers.forget(&key)
        {
            self.reporter.warn(format_args!("{error}"));
        }
    }

    async fn open(&mut self, link: Link, snapshot: &InterfaceSnapshot) {
        let opened = Transport::open(
            &self.netlink,
            &self.routers,
            &self.config,
            &self.virtual_addresses,
            link,
            snapshot,
        );
        match opened.await {
            Ok(transport) => {
                self.registered = Some(transport.lease.key);
                self.transport = Some(transport);
                self.changed = lease::now();
                self.closed_for.clear();
            }
            Err(error) => self.closed_for = error.to_string(),
        }
    }

    /// Checks the transport of an interface that is up. Returns why it is not usable any longer.
    async fn check_transport(&mut self, snapshot: &InterfaceSnapshot) -> Option<String> {
        let transport = self.transport.as_ref()?;
        if !transport.has_source(snapshot) {
            let interface = &self.config.interface;
            return Some(format!(
                "{interface} has lost {}, the source of adverts",
                transport.source
            ));
        }
        if snapshot.at <= self.changed {
            // The snapshot is older than the last change.
            return None;
        }
        let name = transport.device_name()?;
        match snapshot.is_up(&name) {
            None => Some(format!("{name} was removed")),
            Some(false) if self.reporter.role() == Role::Master => {
                self.reporter
                    .warn(format_args!("{name} was set down and is set up again"));
                let done = transport.set_device(&self.netlink.addresses, true).await;
                self.warn_if_failed("its device", done);
                self.announce();
                self.changed = lease::now();
                None
            }
            _ => None,
        }
    }

    /// Closes the transport. The actions before this are carried out.
    pub(in super::super) async fn close(&mut self) {
        if self.lingers_until.is_some() {
            self.leave().await;
        }
        if let Some(transport) = self.transport.take() {
            let done = transport.remove_device(&self.netlink.devices).await;
            self.warn_if_failed("its device", done);
        }
    }

    /// Follows a changed configuration of the same virtual router.
    pub(in super::super) async fn change(&mut self, tracked: TrackedRouter) {
        self.track_result = tracked.track_result;
        let before = std::mem::replace(&mut self.config, tracked.config);
        self.virtual_addresses = self.config.hosts().collect();
        self.expected = self.config.expected_adverts();
        self.change_transport();
        self.change_owner(&before).await;
        self.change_addresses(&before).await;
    }

    /// Registers the lease anew, and opens or closes the echo socket.
    fn change_transport(&mut self) {
        let Some(transport) = &mut self.transport else { return };
        let routers = Arc::clone(&self.routers);
        match Lease::register(routers, &transport.link, &self.config, &self.virtual_addresses) {
            Ok(lease) => transport.lease = lease,
            Err(error) => self.reporter.warn(format_args!("{error}")),
        }
        if !self.config.sends_echoes() {
            transport.echo = None;
        } else if transport.echo.is_none() {
            let interface = &self.config.interface;
            match Echo::open(interface, transport.link.index, transport.source, self.config.router) {
                Ok(echo) => transport.echo = Some(echo),
                Err(error) => {
                    let sentence = format_args!("no echoes can be sent to the packet path of an orphan: {error}");
                    self.reporter.warn(sentence);
                }
            }
        }
    }

    /// Follows a change of the owner of the addresses.
    async fn change_owner(&mut self, before: &Vrrp) {
        let Some(transport) = &mut self.transport else { return };
        if before.priority != self.config.priority
            && let Err(error) = transport.update_owned(&self.netlink.addresses, &self.config).await
        {
            self.reporter.warn(format_args!("{error}"));
        }
    }

    /// Removes addresses that are not configured any longer, and adds new ones on a master.
    async fn change_addresses(&mut self, before: &Vrrp) {
        let Some(transport) = &self.transport else { return };
        let former: BTreeSet<_> = before.hosts().collect();
        let kept = &self.virtual_addresses | &transport.owned;
        let former = former.difference(&kept).copied().collect();
        let removed = addresses::clear(&self.netlink.addresses, transport.home(), &former).await;
        self.warn_if_failed("addresses could not be removed", removed);
        if self.reporter.role() == Role::Master && before.addresses != self.config.addresses {
            for address in &self.config.addresses {
                self.add_address(transport, *address).await;
            }
            self.announce_repeatedly();
        }
        self.changed = lease::now();
    }
}
