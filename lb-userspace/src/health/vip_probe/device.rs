//! The tun device that the packets of checks are routed into. It exists as long as this process
//! holds it open.

use std::{
    fs::{File, OpenOptions},
    io,
    net::IpAddr,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

use futures_util::TryFutureExt;
use netlink_packet_route::route::RouteScope;
use nix::{
    ifaddrs::getifaddrs,
    libc,
    net::if_::{InterfaceFlags, if_indextoname, if_nametoindex},
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::io::{Interest, unix::AsyncFd};

use lb_core::health::PLACEHOLDER_PREFIXES;

/// MTU of the device, in bytes. RFC 8200, section 5: "IPv6 requires that every link in the Internet
/// have an MTU of 1280 octets or greater". With this minimum, packets still fit every link after a
/// tunnel header is added.
const MTU: u32 = 1280;
/// Metric of the routes to placeholders. It is high, so that routes of others to the same addresses
/// are preferred.
const METRIC: u32 = 4096;

/// The tun device.
pub(super) struct Device {
    file: AsyncFd<File>,
    /// Interface index.
    pub(super) index: u32,
}

impl Device {
    /// Creates the device and the routes that lead placeholders into it. Call it within a tokio
    /// runtime.
    pub(super) async fn open(name: &str) -> io::Result<Self> {
        let file = create(name)?;
        let index = if_nametoindex(name)?;
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let configured = configure(&handle, index).await;
        connection.abort();
        configured?;
        // SAFETY: the file owns its descriptor and keeps it open as long as it lives.
        let file = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?;
        Ok(Self { file, index })
    }

    /// Whether the device exists and is up. Reading from a deleted device does not fail, and a
    /// device that was set down has lost its routes, so this has to be checked.
    pub(super) fn is_up(&self) -> bool {
        let Ok(name) = if_indextoname(self.index) else {
            return false;
        };
        let Ok(mut all) = getifaddrs() else { return true };
        all.any(|one| name.to_str() == Ok(&one.interface_name) && one.flags.contains(InterfaceFlags::IFF_UP))
    }

    /// Waits for the next packet that is sent into the device; returns its length in bytes.
    pub(super) async fn packet(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file
            .async_io(Interest::READABLE, |file| Ok(nix::unistd::read(file, buffer)?))
            .await
    }
}

/// A tun device in the network namespace of the calling thread. Its packets begin with the IP
/// header.
fn create(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes a live `ifreq`, which is what this command takes.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Sets the device up and adds the routes to placeholders.
async fn configure(handle: &Handle, index: u32) -> io::Result<()> {
    let failed = |error: rtnetlink::Error| io::Error::other(error.to_string());
    let up = LinkUnspec::new_with_index(index).mtu(MTU).up().build();
    handle.link().set(up).execute().map_err(failed).await?;
    for (prefix, length) in PLACEHOLDER_PREFIXES {
        let route = match prefix {
            IpAddr::V4(prefix) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(prefix, length)
                .output_interface(index)
                .scope(RouteScope::Link)
                .priority(METRIC + index)
                .build(),
            IpAddr::V6(prefix) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(prefix, length)
                .output_interface(index)
                .priority(METRIC + index)
                .build(),
        };
        let added = handle.route().add(route).execute().map_err(failed).await;
        match added {
            Err(error) if prefix.is_ipv6() => {
                tracing::warn!(%error, "IPv6 checks with `target = \"virtual\"` are not possible")
            }
            added => added?,
        }
    }
    Ok(())
}
