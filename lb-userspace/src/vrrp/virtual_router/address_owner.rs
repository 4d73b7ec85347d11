//! The addresses that a virtual router has while it is master: kept, given up, left to the next one.

use std::collections::BTreeSet;

use super::{InterfaceSnapshot, Role, Transport, VirtualRouter, addresses, lease};

impl VirtualRouter {
    /// Puts addresses back that somebody took off while this balancer is master.
    pub(super) async fn keep_addresses(&mut self, ground: &InterfaceSnapshot) {
        let (Some(transport), Role::Master) = (&self.transport, self.reporter.role()) else {
            return;
        };
        if ground.at <= self.moved {
            return;
        }
        let is_missing = |address: &&ipnet::IpNet| ground.nets(transport.home(), address.addr()).next().is_none();
        let missing: Vec<_> = self.config.addresses.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        for address in missing {
            self.reporter
                .warn(format_args!("somebody took {address} off; it is put back"));
            self.add(transport, *address).await;
        }
        self.announce();
        self.moved = lease::now();
    }

    pub(super) async fn add(&self, transport: &Transport, address: ipnet::IpNet) {
        if let Err(error) = addresses::add(&self.kernel.fast, transport.home(), address).await {
            self.reporter
                .warn(format_args!("{address} could not be taken: {error}"));
        }
    }

    /// The addresses that are not this balancer's own, as they may be there.
    fn lent(&self, transport: &Transport) -> BTreeSet<ipnet::IpNet> {
        let lent = self.config.addresses.iter();
        let lent: Vec<_> = lent
            .filter(|address| !transport.owned.contains(&address.addr()))
            .collect();
        let ground = self.kernel.ground.borrow();
        // Another configuration may have had another length.
        let seen = ground.iter().flat_map(|ground| {
            lent.iter()
                .flat_map(|address| ground.nets(transport.home(), address.addr()))
        });
        seen.chain(lent.iter().map(|address| **address)).collect()
    }

    /// Answers for the addresses no more.
    pub(in super::super) async fn give_up(&mut self) {
        let Some(transport) = &self.transport else { return };
        transport.lease.give_up();
        let lent = self.lent(transport);
        let removed = addresses::remove(&self.kernel.fast, transport.home(), lent).await;
        self.warn_of("addresses could not be given up", removed);
    }

    /// Leaves all to the next master.
    pub(super) async fn leave(&mut self) {
        self.lingers = None;
        self.give_up().await;
        if let Some(transport) = &self.transport {
            self.warn_of("its device", transport.set_device(&self.kernel.slow, false).await);
        }
        self.moved = lease::now();
    }
}
