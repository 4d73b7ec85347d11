//! What a virtual router works through while its interface is there: sockets, announcements, its lease.

use std::{collections::BTreeSet, io, net::IpAddr, sync::Arc, task};

use rtnetlink::Handle;

use super::{
    addresses::{self, Link},
    announce::Announcer,
    echo::Echo,
    lease::Lease,
    socket::Adverts,
};
use crate::{config::Vrrp, dataplane::Routers};

/// The priority of the balancer whose own the addresses are: RFC 9568, section 5.2.4.
const OWNER: u8 = 255;

/// Everything that is open on an interface.
pub(super) struct Ports {
    pub(super) link: Link,
    /// Where adverts come from.
    pub(super) source: IpAddr,
    /// Whether the interface had the addresses when it came.
    pub(super) had_addresses: bool,
    /// Those of the addresses that the interface has anyway: they stay, whoever is master.
    pub(super) owned: BTreeSet<IpAddr>,
    pub(super) adverts: Adverts,
    pub(super) announcer: Announcer,
    pub(super) echo: Option<Echo>,
    pub(super) lease: Lease,
}

impl Ports {
    /// Opens all of it for a virtual router with these addresses.
    pub(super) async fn open(
        handle: &Handle,
        routers: &Arc<Routers>,
        config: &Vrrp,
        virtual_addresses: &BTreeSet<IpAddr>,
        link: Link,
    ) -> io::Result<Self> {
        let is_v4 = virtual_addresses.first().is_none_or(IpAddr::is_ipv4);
        let there = addresses::all(handle, link.index).await?;
        let source = match config.source {
            Some(source) => source,
            None => there
                .iter()
                .copied()
                .filter(|address| address.is_ipv4() == is_v4 && !virtual_addresses.contains(address))
                // RFC 9568, section 5.1.2.1: "The IPv6 link-local address of the interface".
                .find(|address| !matches!(address, IpAddr::V6(v6) if !v6.is_unicast_link_local()))
                .ok_or_else(|| io::Error::other("the interface has no address to send adverts from"))?,
        };
        let multicast = config.peers.is_empty();
        let lease = Lease::register(Arc::clone(routers), link.index, config, virtual_addresses)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let echo = if config.asks() {
            Some(Echo::open(&config.interface, link.index, source, config.router)?)
        } else {
            None
        };
        let owned = |address: &&IpAddr| config.priority == OWNER && !lease.was_held() && there.contains(*address);
        Ok(Self {
            had_addresses: virtual_addresses.iter().all(|address| there.contains(address)),
            owned: virtual_addresses.iter().filter(owned).copied().collect(),
            adverts: Adverts::open(&config.interface, link.index, source, multicast)?,
            announcer: Announcer::open(link.index, link.mac)?,
            echo,
            lease,
            link,
            source,
        })
    }

    /// Whether something may be there to hear.
    pub(super) fn poll_ready(&self, context: &mut task::Context<'_>) -> task::Poll<()> {
        let adverts = self.adverts.poll_ready(context);
        let answers = self
            .echo
            .as_ref()
            .map_or(task::Poll::Pending, |echo| echo.poll_ready(context));
        if adverts.is_ready() || answers.is_ready() {
            return task::Poll::Ready(());
        }
        task::Poll::Pending
    }
}
