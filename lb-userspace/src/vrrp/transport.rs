//! What a virtual router works through while its interface is there: sockets, announcements, its lease.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket},
    sync::Arc,
    task,
};

use rtnetlink::Handle;

use super::{
    addresses::{self, Link},
    advert_socket::AdvertSocket,
    announce::Announcer,
    echo::Echo,
    interface_snapshot::InterfaceSnapshot,
    lease::Lease,
    netlink_threads::NetlinkThreads,
    router_mac::{self, RouterMac},
};
use crate::dataplane::{DataplaneError, Routers};
use lb_core::config::Vrrp;
use lb_core::vrrp::instance::OWNER;

/// Everything that is open on an interface.
pub(super) struct Transport {
    pub(super) link: Link,
    /// The device that has the addresses, and its index, where that is not the interface.
    device: Option<(RouterMac, u32)>,
    /// Where adverts come from.
    pub(super) source: IpAddr,
    /// Whether the interface had the addresses when it came.
    pub(super) had_addresses: bool,
    /// Those of the addresses that the interface has anyway: they stay, whoever is master.
    pub(super) owned: BTreeSet<IpAddr>,
    pub(super) adverts: AdvertSocket,
    pub(super) announcer: Announcer,
    pub(super) echo: Option<Echo>,
    pub(super) lease: Lease,
}

impl Transport {
    /// Opens all of it for a virtual router with these addresses.
    pub(super) async fn open(
        kernel: &NetlinkThreads,
        routers: &Arc<Routers>,
        config: &Vrrp,
        virtual_addresses: &BTreeSet<IpAddr>,
        link: Link,
        ground: &InterfaceSnapshot,
    ) -> io::Result<Self> {
        let is_v4 = virtual_addresses.first().is_none_or(IpAddr::is_ipv4);
        let there = ground.addresses(link.index);
        let source = match config.source {
            Some(source) if has(source, link.index, ground) => source,
            Some(source) => {
                let cause = format!("{} has no address {source} (`source`)", config.interface);
                return Err(io::Error::other(cause));
            }
            None => {
                // Those of other virtual routers are there as long as these are master.
                let moving = routers.addresses_on(link.index).map_err(told)?;
                let is_own = |address: &IpAddr| !moving.contains(address) && !virtual_addresses.contains(address);
                first(there, is_v4, is_own)
                    .ok_or_else(|| io::Error::other("the interface has no address to send adverts from"))?
            }
        };
        let router_mac = RouterMac {
            interface: link.index,
            family: if is_v4 { 4 } else { 6 },
            router: config.router,
        };
        let device = if config.router_mac {
            // Where they were before the configuration changed, while nothing ran.
            if virtual_addresses.iter().any(|address| there.contains(address)) {
                addresses::clear(&kernel.fast, link.index, virtual_addresses).await?;
            }
            let index = router_mac.make(&kernel.slow, &link, &config.interface).await?;
            Some((router_mac, index))
        } else {
            router_mac.remove(&kernel.slow).await?;
            None
        };
        let home = device.map_or(link.index, |(_, index)| index);
        let there = match device {
            Some(_) => addresses::all(&kernel.fast, home).await?,
            None => there.to_vec(),
        };
        let multicast = config.peers.is_empty();
        let lease = Lease::register(Arc::clone(routers), &link, config, virtual_addresses).map_err(told)?;
        let echo = if config.asks() {
            Some(Echo::open(&config.interface, link.index, source, config.router)?)
        } else {
            None
        };
        // What a former controller of this virtual router had, and this one has not.
        let former: BTreeSet<_> = lease.former_addresses.difference(virtual_addresses).copied().collect();
        if !former.is_empty() {
            for index in BTreeSet::from([link.index, home]) {
                addresses::clear(&kernel.fast, index, &former).await?;
            }
        }
        Ok(Self {
            had_addresses: virtual_addresses.iter().all(|address| there.contains(address)),
            owned: owned(config, &there),
            adverts: AdvertSocket::open(&config.interface, link.index, source, multicast)?,
            announcer: Announcer::open(link.index, device.map_or(link.mac, |(device, _)| device.mac()))?,
            echo,
            lease,
            device,
            link,
            source,
        })
    }

    /// Whether the interface still has the address that adverts come from.
    pub(super) fn has_source(&self, ground: &InterfaceSnapshot) -> bool {
        has(self.source, self.link.index, ground)
    }

    /// Follows a change of who owns the addresses.
    pub(super) async fn look_whose(&mut self, handle: &Handle, config: &Vrrp) -> io::Result<()> {
        self.owned = owned(config, &addresses::all(handle, self.home()).await?);
        Ok(())
    }

    /// Index of what has the addresses while this balancer is master.
    pub(super) fn home(&self) -> u32 {
        self.device.map_or(self.link.index, |(_, index)| index)
    }

    /// Whether a device of their own has the addresses.
    pub(super) fn has_device(&self) -> bool {
        self.device.is_some()
    }

    /// Lets it take frames that are for the addresses' own link-layer address, or not.
    pub(super) async fn set_device(&self, handle: &Handle, is_up: bool) -> io::Result<()> {
        match self.device {
            Some((_, index)) => router_mac::set_up(handle, index, is_up).await,
            None => Ok(()),
        }
    }

    /// The name of the device that has the addresses.
    pub(super) fn device_name(&self) -> Option<String> {
        Some(self.device?.0.name())
    }

    /// Removes the device that has the addresses.
    pub(super) async fn remove_device(&self, handle: &Handle) -> io::Result<()> {
        match self.device {
            Some((device, _)) => device.remove(handle).await,
            None => Ok(()),
        }
    }

    /// Sends an advert.
    pub(super) fn advertise(&self, message: &[u8], destination: IpAddr) -> io::Result<()> {
        match self.device {
            None if !destination.is_multicast() => self.adverts.send(message, destination),
            // Whoever has lost the address that adverts come from still says that it gives up.
            None => self
                .adverts
                .send(message, destination)
                .or_else(|_| self.announcer.advert(message, self.source, destination)),
            Some(_) => self.announcer.advert(message, self.source, destination),
        }
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

fn told(error: DataplaneError) -> io::Error {
    io::Error::other(error.to_string())
}

/// The first address of a family that adverts may come from: RFC 9568, section 5.1.2.1, "The IPv6 link-local address of the
/// interface".
fn first(there: &[IpAddr], is_v4: bool, is_own: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let of_family = |address: &IpAddr| match address {
        IpAddr::V4(_) => is_v4,
        IpAddr::V6(v6) => !is_v4 && v6.is_unicast_link_local(),
    };
    there
        .iter()
        .copied()
        .find(|address| of_family(address) && is_own(address))
}

/// Whether this machine has an address: a link-local one on the interface with that index.
fn has(address: IpAddr, index: u32, ground: &InterfaceSnapshot) -> bool {
    // Where `ip_nonlocal_bind` is set, all can be used.
    if !ground.has(address) {
        return false;
    }
    let at = match address {
        IpAddr::V4(_) => SocketAddr::new(address, 0),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, index).into(),
    };
    // Nothing is sent: the kernel says whose an address is by letting it be used.
    UdpSocket::bind(at).map_or_else(|error| error.kind() != io::ErrorKind::AddrNotAvailable, |_| true)
}

/// Those of the virtual addresses that are the balancer's own.
fn owned(config: &Vrrp, there: &[IpAddr]) -> BTreeSet<IpAddr> {
    let is_own = |address: &IpAddr| config.priority == OWNER && there.contains(address);
    config.hosts().filter(is_own).collect()
}
