//! Raw sockets that receive and send adverts.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
};

use lb_common::wire::ipv4;
use lb_core::vrrp::{
    advert::{GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL},
    validation::Received,
};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Size of the receive buffer in bytes. The largest advert with its IP header is smaller.
const BUFFER_SIZE: usize = 2048;

/// Raw sockets on one interface.
pub(super) struct AdvertSocket {
    /// Receives. The runtime handles a raw socket as a UDP socket.
    socket: UdpSocket,
    /// Sends. It is bound to the source address; a socket so bound receives no multicast.
    out: Socket,
    is_v4: bool,
    index: u32,
}

impl AdvertSocket {
    /// Opens the sockets. `source` is the source of sent adverts.
    pub(super) fn open(interface: &str, index: u32, source: IpAddr, multicast: bool) -> io::Result<Self> {
        let socket = open(interface, source)?;
        let out = open(interface, source)?;
        // Received packets are read from the other one.
        out.set_recv_buffer_size(0)?;
        match source {
            IpAddr::V4(_) => {
                out.bind(&SocketAddr::new(source, 0).into())?;
                out.set_ttl_v4(HOP_LIMIT.into())?;
                out.set_multicast_ttl_v4(HOP_LIMIT.into())?;
                out.set_multicast_loop_v4(false)?;
                socket.set_multicast_all_v4(false)?;
                if multicast {
                    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
                }
            }
            IpAddr::V6(v6) => {
                out.bind(&SocketAddrV6::new(v6, 0, 0, index).into())?;
                out.set_unicast_hops_v6(HOP_LIMIT.into())?;
                out.set_multicast_hops_v6(HOP_LIMIT.into())?;
                out.set_multicast_loop_v6(false)?;
                out.set_multicast_if_v6(index)?;
                socket.set_recv_hoplimit_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                if multicast {
                    socket.join_multicast_v6(&GROUP_V6, index)?;
                }
            }
        }
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            out,
            is_v4: source.is_ipv4(),
            index,
        })
    }

    /// Sends a message with hop limit 255.
    pub(super) fn send(&self, message: &[u8], destination: IpAddr) -> io::Result<()> {
        let destination: SockAddr = match destination {
            IpAddr::V4(_) => SocketAddr::new(destination, 0).into(),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, self.index).into(),
        };
        self.out.send_to(message, &destination).map(drop)
    }

    /// Whether a packet may have come.
    pub(super) fn poll_ready(&self, context: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    /// Reads the next packet. The error is [`io::ErrorKind::WouldBlock`] if there is none, and
    /// [`io::ErrorKind::InvalidData`] if it is too short.
    pub(super) fn receive(&self) -> io::Result<Received> {
        self.socket.try_io(Interest::READABLE, || {
            let mut buffer = [0; BUFFER_SIZE];
            let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, nix::libc::c_int);
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let got = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            )?;
            let (mut destination, mut hop_limit) = (None, 0);
            for message in got.cmsgs()? {
                match message {
                    ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).unwrap_or(0),
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        destination = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                    }
                    _ => {}
                }
            }
            let length = got.bytes;
            let source = got.address.and_then(|address| {
                let v6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
                v6.or_else(|| address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip())))
            });
            let packet = &buffer[..length];
            let received = if self.is_v4 {
                without_header(packet)
            } else {
                source.map(|source| Received {
                    source,
                    destination,
                    hop_limit,
                    message: packet.to_vec(),
                })
            };
            received.ok_or_else(|| io::ErrorKind::InvalidData.into())
        })
    }
}

/// Splits an IPv4 packet into header fields and message.
fn without_header(packet: &[u8]) -> Option<Received> {
    let header = packet.first_chunk::<{ ipv4::LENGTH }>()?;
    let address = |at: usize| -> IpAddr { [header[at], header[at + 1], header[at + 2], header[at + 3]].into() };
    Some(Received {
        source: address(ipv4::SOURCE),
        destination: Some(address(ipv4::DESTINATION)),
        hop_limit: header[ipv4::TTL],
        message: packet.get(usize::from(header[0] & 15) * 4..)?.to_vec(),
    })
}

fn open(interface: &str, like: IpAddr) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(PROTOCOL));
    let domain = Domain::for_address(SocketAddr::new(like, 0));
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}
