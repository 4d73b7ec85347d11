//! Adds, removes and lists addresses of an interface by netlink.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use nix::libc;
use rtnetlink::{AddressMessageBuilder, Handle};

/// How often a list of addresses is requested before it counts as failed.
const MAX_LISTINGS: usize = 10;

/// The link of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
    /// Whether it is up and has a carrier.
    pub(super) is_running: bool,
}

/// The interface with that name. `None`: it does not exist.
pub(super) async fn link(handle: &Handle, name: &str) -> io::Result<Option<Link>> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    match found.try_next().await {
        Ok(message) => Ok(message.as_ref().and_then(as_link)),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

pub(super) fn as_link(message: &LinkMessage) -> Option<Link> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(address) => address.as_slice().try_into().ok(),
        _ => None,
    });
    let wanted = LinkFlags::Up | LinkFlags::LowerUp;
    Some(Link {
        index: message.header.index,
        mac: mac?,
        is_running: message.header.flags.contains(wanted),
    })
}

/// The name of the interface with that index. `None`: it does not exist.
pub(super) async fn name(handle: &Handle, index: u32) -> io::Result<Option<String>> {
    let mut found = handle.link().get().match_index(index).execute();
    let message = match found.try_next().await {
        Ok(message) => message,
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => None,
        Err(error) => return Err(io::Error::other(error.to_string())),
    };
    let attributes = message.into_iter().flat_map(|message| message.attributes);
    Ok(attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    }))
}

/// The addresses of an interface.
pub(super) async fn all(handle: &Handle, index: u32) -> io::Result<Vec<IpAddr>> {
    let messages = messages(handle, index).await?;
    Ok(messages.iter().filter_map(address).collect())
}

fn message(index: u32, address: IpNet) -> AddressMessage {
    match address.addr() {
        IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(v4, address.prefix_len())
            .build(),
        IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(v6, address.prefix_len())
            .build(),
    }
}

/// Adds an address to an interface. It may have it already.
pub(super) async fn add(handle: &Handle, index: u32, address: IpNet) -> io::Result<()> {
    let mut message = message(index, address);
    // The interface's own address brings the route of the network, if there is one. Without
    // duplicate address detection the address is usable at once.
    let mut flags = AddressFlags::Noprefixroute;
    if address.addr().is_ipv6() {
        flags |= AddressFlags::Nodad;
        // RFC 4862, section 5.5.4: a deprecated address "SHOULD NOT be used as the source address
        // in new communications". This balancer's own requests use its own address, because replies
        // find that one, whichever balancer is master.
        let mut times = CacheInfo::default();
        (times.ifa_preferred, times.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(times));
    }
    message.attributes.push(AddressAttribute::Flags(flags));
    let mut request = handle.address().add(index, address.addr(), address.prefix_len());
    *request.message_mut() = message;
    done_or(request.replace().execute().await, libc::EEXIST)
}

/// Removes addresses from an interface. It may not have them.
pub(super) async fn remove(handle: &Handle, index: u32, nets: BTreeSet<IpNet>) -> io::Result<()> {
    for net in nets {
        let message = message(index, net);
        done_or(handle.address().del(message).execute().await, libc::EADDRNOTAVAIL)?;
    }
    Ok(())
}

/// Removes addresses from an interface, whatever their prefix lengths.
pub(super) async fn clear(handle: &Handle, index: u32, addresses: &BTreeSet<IpAddr>) -> io::Result<()> {
    for message in messages(handle, index).await? {
        if address(&message).is_some_and(|address| addresses.contains(&address)) {
            done_or(handle.address().del(message).execute().await, libc::EADDRNOTAVAIL)?;
        }
    }
    Ok(())
}

async fn messages(handle: &Handle, index: u32) -> io::Result<Vec<AddressMessage>> {
    let mut failed = None;
    // The kernel interrupts a list when addresses change, for example by another virtual router of
    // this balancer.
    for _ in 0..MAX_LISTINGS {
        let found = handle.address().get().set_link_index_filter(index).execute();
        match found.try_collect().await {
            Ok(messages) => return Ok(messages),
            Err(error) => failed = Some(error),
        }
    }
    Err(io::Error::other(
        failed.map_or_else(String::new, |error| error.to_string()),
    ))
}

pub(super) fn address(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

/// Result of a netlink request. The error `fine` counts as success.
fn done_or(response: Result<(), rtnetlink::Error>, fine: i32) -> io::Result<()> {
    match response {
        Ok(()) => Ok(()),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -fine => Ok(()),
        Err(rtnetlink::Error::NetlinkError(error)) => Err(error.to_io()),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}
