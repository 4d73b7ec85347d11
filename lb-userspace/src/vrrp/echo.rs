//! Echoes: datagrams that the XDP program of another balancer sends back, even if its controller is
//! dead. The reply contains the state of its lease.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use lb_common::router::echo;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use lb_core::vrrp::{
    advert::HOP_LIMIT,
    instance::{EchoReply, Micros},
};

/// How many invalid datagrams are read in one call. Anybody on the link may send some.
const MAX_INVALID: usize = 64;

/// Sends echoes and receives replies.
pub(super) struct Echo {
    socket: UdpSocket,
    interface: u32,
    router: u8,
    family: u8,
    /// Makes nonces that only this process knows.
    secret: u64,
    /// Number of echoes sent.
    sent: u64,
}

impl Echo {
    /// Opens a socket. `source` is the source of echoes.
    pub(super) fn open(name: &str, interface: u32, source: IpAddr, router: u8) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(source, 0)),
            Type::DGRAM.nonblocking(),
            Some(Protocol::UDP),
        )?;
        socket.bind_device(Some(name.as_bytes()))?;
        match source {
            // An echo with less has crossed a router and gets no reply.
            IpAddr::V4(_) => socket.set_ttl_v4(HOP_LIMIT.into())?,
            IpAddr::V6(_) => socket.set_unicast_hops_v6(HOP_LIMIT.into())?,
        }
        socket.bind(&scoped(source, 0, interface))?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            interface,
            router,
            family: if source.is_ipv4() { 4 } else { 6 },
            secret: RandomState::new().hash_one(router),
            sent: 0,
        })
    }

    /// Sends an echo to a balancer.
    pub(super) fn send(&mut self, master: IpAddr) -> io::Result<()> {
        self.sent += 1;
        let echo = message(self.router, self.family, self.secret ^ self.sent);
        let socket = socket2::SockRef::from(&self.socket);
        socket
            .send_to(&echo, &scoped(master, echo::PORT, self.interface))
            .map(drop)
    }

    /// Whether a reply may have come.
    pub(super) fn poll_ready(&self, context: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    /// Reads the next reply.
    pub(super) fn receive(&self) -> Option<EchoReply> {
        let mut buffer = [0; echo::LENGTH + 1];
        for _ in 0..MAX_INVALID {
            let (length, from) = match self.socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // For example an ICMP error about an echo: a host without our XDP program.
                Err(_) => continue,
            };
            if from.port() != echo::PORT {
                continue;
            }
            if let Some((holds_lease, lease_age)) = self.parse(&buffer[..length]) {
                return Some(EchoReply {
                    from: from.ip(),
                    holds_lease,
                    lease_age,
                });
            }
        }
        None
    }

    /// Parses a reply to one of the last echoes: whether the balancer holds the lease, and its age
    /// in microseconds.
    fn parse(&self, message: &[u8]) -> Option<(bool, Micros)> {
        let message: &[u8; echo::LENGTH] = message.try_into().ok()?;
        let number = |at: usize| {
            message[at..at + 8]
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let sent = number(echo::NONCE) ^ self.secret;
        let is_reply = message[..4] == echo::MAGIC.to_be_bytes()
            && message[echo::KIND] == echo::ANSWER
            && message[echo::ROUTER] == self.router
            && message[echo::FAMILY] == self.family
            // A reply to an old echo says nothing about now.
            && sent <= self.sent
            && sent + 4 > self.sent;
        is_reply.then(|| (message[echo::HOLDS] == 1, number(echo::AGE) / 1000))
    }
}

fn message(router: u8, family: u8, nonce: u64) -> [u8; echo::LENGTH] {
    let mut message = [0; echo::LENGTH];
    message[..4].copy_from_slice(&echo::MAGIC.to_be_bytes());
    message[echo::KIND] = echo::PROBE;
    message[echo::ROUTER] = router;
    message[echo::FAMILY] = family;
    message[echo::NONCE..echo::NONCE + 8].copy_from_slice(&nonce.to_be_bytes());
    message
}

fn scoped(address: IpAddr, port: u16, interface: u32) -> SockAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, interface).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_replies_to_recent_echoes_count() {
        let mut echo = Echo::open("lo", 1, [127, 0, 0, 1].into(), 7).unwrap();
        let reply = |number: u64, secret: u64| {
            let mut message = message(7, 4, secret ^ number);
            message[echo::KIND] = echo::ANSWER;
            message[echo::HOLDS] = 1;
            message[echo::AGE..].copy_from_slice(&5_000_000_u64.to_be_bytes());
            message
        };
        echo.sent = 10;
        let secret = echo.secret;
        assert_eq!(echo.parse(&reply(10, secret)), Some((true, 5000)));
        assert_eq!(echo.parse(&reply(7, secret)), Some((true, 5000)));
        for (number, secret) in [(6, secret), (11, secret), (10, !secret)] {
            assert_eq!(echo.parse(&reply(number, secret)), None);
        }
        assert_eq!(echo.parse(&message(7, 4, secret ^ 10)), None, "an echo");
        assert_eq!(echo.parse(&reply(10, secret)[..echo::LENGTH - 1]), None, "cut short");
        let mut other = reply(10, secret);
        other[echo::ROUTER] = 8;
        assert_eq!(echo.parse(&other), None, "of another virtual router");
    }
}
