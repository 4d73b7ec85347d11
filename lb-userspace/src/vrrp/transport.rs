//! What a virtual router uses while its interface is up: sockets, the announcer, the device with
//! its MAC address, and its lease.

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
use lb_core::{config::Vrrp, vrrp::instance::OWNER};

/// Everything that is open on an interface.
pub(super) struct Transport {
    pub(super) link: Link,
    /// The device with the virtual router's MAC address, and its index. `None`: the interface has
    /// the addresses.
    device: Option<(RouterMac, u32)>,
    /// Source address of adverts.
    pub(super) source: IpAddr,
    /// Whether the addresses existed when the transport was opened.
    pub(super) had_addresses: bool,
    /// The addresses that the balancer owns: they stay, whichever balancer is master.
    pub(super) owned: BTreeSet<IpAddr>,
    pub(super) adverts: AdvertSocket,
    pub(super) announcer: Announcer,
    /// `None`: no echoes are sent.
    pub(super) echo: Option<Echo>,
    pub(super) lease: Lease,
}

impl Transport {
    /// Opens everything for a virtual router with these addresses.
    pub(super) async fn open(
        netlink: &NetlinkThreads,
        routers: &Arc<Routers>,
        config: &Vrrp,
        virtual_addresses: &BTreeSet<IpAddr>,
        link: Link,
        snapshot: &InterfaceSnapshot,
    ) -> io::Result<Self> {
        let present = snapshot.addresses(link.index);
        let source = source(routers, config, virtual_addresses, &link, snapshot)?;
        let router_mac = RouterMac {
            interface: link.index,
            family: if is_v4(virtual_addresses) { 4 } else { 6 },
            router: config.router,
        };
        let device = if config.router_mac {
            // A former configuration without `router_mac` may have left the addresses on the
            // interface.
            if virtual_addresses.iter().any(|address| present.contains(address)) {
                addresses::clear(&netlink.addresses, link.index, virtual_addresses).await?;
            }
            let index = router_mac.make(&netlink.devices, &link, &config.interface).await?;
            Some((router_mac, index))
        } else {
            router_mac.remove(&netlink.devices).await?;
            None
        };
        let home = device.map_or(link.index, |(_, index)| index);
        let present = match device {
            Some(_) => addresses::all(&netlink.addresses, home).await?,
            None => present.to_vec(),
        };
        let lease = Lease::register(Arc::clone(routers), &link, config, virtual_addresses).map_err(into_io)?;
        let echo = if config.sends_echoes() {
            Some(Echo::open(&config.interface, link.index, source, config.router)?)
        } else {
            None
        };
        remove_former_addresses(netlink, &lease, virtual_addresses, [link.index, home]).await?;
        Ok(Self {
            had_addresses: virtual_addresses.iter().all(|address| present.contains(address)),
            owned: owned(config, &present),
            adverts: AdvertSocket::open(&config.interface, link.index, source, config.peers.is_empty())?,
            announcer: Announcer::open(link.index, device.map_or(link.mac, |(device, _)| device.mac()))?,
            echo,
            lease,
            device,
            link,
            source,
        })
    }

    /// Whether this machine still has the source address of adverts.
    pub(super) fn has_source(&self, snapshot: &InterfaceSnapshot) -> bool {
        is_usable(self.source, self.link.index, snapshot)
    }

    /// Follows a change of the owner of the addresses.
    pub(super) async fn update_owned(&mut self, handle: &Handle, config: &Vrrp) -> io::Result<()> {
        self.owned = owned(config, &addresses::all(handle, self.home()).await?);
        Ok(())
    }

    /// Index of the interface or device that has the addresses on a master.
    pub(super) fn home(&self) -> u32 {
        self.device.map_or(self.link.index, |(_, index)| index)
    }

    /// Whether a device with the virtual router's MAC address has the addresses.
    pub(super) fn has_device(&self) -> bool {
        self.device.is_some()
    }

    /// Sets the device up or down. An up device accepts frames to the virtual router's MAC address.
    pub(super) async fn set_device(&self, handle: &Handle, is_up: bool) -> io::Result<()> {
        match self.device {
            Some((_, index)) => router_mac::set_up(handle, index, is_up).await,
            None => Ok(()),
        }
    }

    /// Name of the device.
    pub(super) fn device_name(&self) -> Option<String> {
        Some(self.device?.0.name())
    }

    /// Removes the device.
    pub(super) async fn remove_device(&self, handle: &Handle) -> io::Result<()> {
        match self.device {
            Some((device, _)) => device.remove(handle).await,
            None => Ok(()),
        }
    }

    /// Sends an advert.
    pub(super) fn send_advert(&self, message: &[u8], destination: IpAddr) -> io::Result<()> {
        match self.device {
            None if !destination.is_multicast() => self.adverts.send(message, destination),
            // A balancer that lost the source address still resigns, by a frame of its own.
            None => self
                .adverts
                .send(message, destination)
                .or_else(|_| self.announcer.send_advert(message, self.source, destination)),
            Some(_) => self.announcer.send_advert(message, self.source, destination),
        }
    }

    /// Whether an advert or echo reply may have come.
    pub(super) fn poll_ready(&self, context: &mut task::Context<'_>) -> task::Poll<()> {
        let adverts = self.adverts.poll_ready(context);
        let replies = match &self.echo {
            Some(echo) => echo.poll_ready(context),
            None => task::Poll::Pending,
        };
        if adverts.is_ready() || replies.is_ready() {
            return task::Poll::Ready(());
        }
        task::Poll::Pending
    }
}

fn into_io(error: DataplaneError) -> io::Error {
    io::Error::other(error.to_string())
}

fn is_v4(virtual_addresses: &BTreeSet<IpAddr>) -> bool {
    virtual_addresses.first().is_none_or(IpAddr::is_ipv4)
}

/// The source address of adverts: the configured one, or the first that the interface has.
fn source(
    routers: &Routers,
    config: &Vrrp,
    virtual_addresses: &BTreeSet<IpAddr>,
    link: &Link,
    snapshot: &InterfaceSnapshot,
) -> io::Result<IpAddr> {
    if let Some(source) = config.source {
        if is_usable(source, link.index, snapshot) {
            return Ok(source);
        }
        let cause = format!("{} has no address {source} (`source`)", config.interface);
        return Err(io::Error::other(cause));
    }
    // Addresses of other virtual routers leave when this balancer is no longer their master.
    let moving = routers.addresses_on(link.index).map_err(into_io)?;
    let stays = |address: &IpAddr| !moving.contains(address) && !virtual_addresses.contains(address);
    let present = snapshot.addresses(link.index);
    first(present, is_v4(virtual_addresses), stays)
        .ok_or_else(|| io::Error::other("the interface has no address to send adverts from"))
}

/// The first address of a family that adverts may come from. RFC 9568, section 5.1.2.1: "The IPv6
/// link-local address of the interface".
fn first(present: &[IpAddr], is_v4: bool, stays: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let is_of_family = |address: &IpAddr| match address {
        IpAddr::V4(_) => is_v4,
        IpAddr::V6(v6) => !is_v4 && v6.is_unicast_link_local(),
    };
    let mut present = present.iter().copied();
    present.find(|address| is_of_family(address) && stays(address))
}

/// Whether this machine has an address, on any interface. A link-local one must be on the interface
/// with that index.
fn is_usable(address: IpAddr, index: u32, snapshot: &InterfaceSnapshot) -> bool {
    // With `ip_nonlocal_bind` set, every address can be bound.
    if !snapshot.has(address) {
        return false;
    }
    let at = match address {
        IpAddr::V4(_) => SocketAddr::new(address, 0),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, index).into(),
    };
    // Nothing is sent. Binding shows whether the kernel accepts the address as its own.
    UdpSocket::bind(at).map_or_else(|error| error.kind() != io::ErrorKind::AddrNotAvailable, |_| true)
}

/// Removes addresses that a former controller had for this virtual router, and that are not
/// configured any longer.
async fn remove_former_addresses(
    netlink: &NetlinkThreads,
    lease: &Lease,
    virtual_addresses: &BTreeSet<IpAddr>,
    indexes: [u32; 2],
) -> io::Result<()> {
    let former: BTreeSet<_> = lease.former_addresses.difference(virtual_addresses).copied().collect();
    if !former.is_empty() {
        for index in BTreeSet::from(indexes) {
            addresses::clear(&netlink.addresses, index, &former).await?;
        }
    }
    Ok(())
}

/// The virtual addresses that the balancer owns.
fn owned(config: &Vrrp, present: &[IpAddr]) -> BTreeSet<IpAddr> {
    let is_own = |address: &IpAddr| config.priority == OWNER && present.contains(address);
    config.hosts().filter(is_own).collect()
}
