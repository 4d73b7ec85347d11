//! Link state, XDP mode and addresses of an interface, read by netlink.

use std::{collections::BTreeSet, net::IpAddr};

use futures_util::TryStreamExt;
use netlink_packet_route::{
    address::{AddressAttribute, AddressMessage, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkXdp, XdpAttached},
};
use rtnetlink::Handle;

/// What the kernel knows of an interface.
pub(super) struct Facts {
    /// `native`, `generic`, `hardware` or `unknown`.
    pub(super) mode: &'static str,
    /// Whether it is up and has a carrier.
    pub(super) is_up: bool,
    /// Its addresses with prefix lengths, without link-local ones; `None`: not known.
    pub(super) addresses: Option<BTreeSet<(IpAddr, u8)>>,
}

impl Facts {
    /// Reads them for the interface with an index.
    pub(super) async fn of(ifindex: u32) -> Self {
        let unknown = Self {
            mode: "unknown",
            is_up: true,
            addresses: None,
        };
        let Ok((connection, handle, _)) = rtnetlink::new_connection() else {
            return unknown;
        };
        let connection = tokio::spawn(connection);
        let link = handle.link().get().match_index(ifindex).execute().try_next().await;
        let addresses = addresses(&handle, ifindex).await;
        connection.abort();
        let Ok(Some(link)) = link else { return unknown };
        let attached = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Xdp(details) => details.into_iter().find_map(|detail| match detail {
                LinkXdp::Attached(attached) => Some(attached),
                _ => None,
            }),
            _ => None,
        });
        Self {
            mode: match attached {
                Some(XdpAttached::Driver) => "native",
                Some(XdpAttached::SocketBuffer) => "generic",
                Some(XdpAttached::Hardware) => "hardware",
                _ => "unknown",
            },
            is_up: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            addresses,
        }
    }
}

async fn addresses(handle: &Handle, ifindex: u32) -> Option<BTreeSet<(IpAddr, u8)>> {
    let messages = handle.address().get().set_link_index_filter(ifindex).execute();
    let messages: Vec<AddressMessage> = messages.try_collect().await.ok()?;
    let is_of_node = |message: &AddressMessage| message.header.scope != AddressScope::Link;
    let address = |message: AddressMessage| {
        let length = message.header.prefix_len;
        // A point-to-point address has its own side in `Local`. IPv6 has only `Address`.
        let mut own = None;
        for attribute in message.attributes {
            match attribute {
                AddressAttribute::Local(address) => own = Some(address),
                AddressAttribute::Address(address) => own = own.or(Some(address)),
                _ => {}
            }
        }
        own.map(|own| (own, length))
    };
    Some(messages.into_iter().filter(is_of_node).filter_map(address).collect())
}
