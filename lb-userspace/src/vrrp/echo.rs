//! Asks the packet path of a master whether it goes on: a datagram that the other side's XDP program turns around.

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

/// How many datagrams that are no answers are read for one that is: anybody on the link may send some.
const MOST_AT_ONCE: usize = 64;

/// Asks, and hears the answers.
pub(super) struct Echo {
    socket: UdpSocket,
    interface: u32,
    router: u8,
    family: u8,
    /// Recognises answers to questions of this process.
    secret: u64,
    asked: u64,
}

impl Echo {
    /// Opens a socket that asks from `source`.
    pub(super) fn open(name: &str, interface: u32, source: IpAddr, router: u8) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(source, 0)),
            Type::DGRAM.nonblocking(),
            Some(Protocol::UDP),
        )?;
        socket.bind_device(Some(name.as_bytes()))?;
        match source {
            // Whatever crossed a router is not turned around: it has less.
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
            asked: 0,
        })
    }

    /// Asks a balancer.
    pub(super) fn ask(&mut self, master: IpAddr) -> io::Result<()> {
        self.asked += 1;
        let question = question(self.router, self.family, self.secret ^ self.asked);
        let socket = socket2::SockRef::from(&self.socket);
        socket
            .send_to(&question, &scoped(master, echo::PORT, self.interface))
            .map(drop)
    }

    /// Whether something may be there to receive.
    pub(super) fn poll_ready(&self, context: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    /// Takes the next answer that is there.
    pub(super) fn receive(&self) -> Option<EchoReply> {
        let mut buffer = [0; echo::LENGTH + 1];
        for _ in 0..MOST_AT_ONCE {
            let (length, from) = match self.socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Such as an ICMP error about a question: somebody is there who does not turn it around.
                Err(_) => continue,
            };
            if from.port() != echo::PORT {
                continue;
            }
            if let Some((holds, age)) = self.answer(&buffer[..length]) {
                return Some(EchoReply {
                    from: from.ip(),
                    holds,
                    age,
                });
            }
        }
        None
    }

    /// What an answer to one of the last questions says.
    fn answer(&self, message: &[u8]) -> Option<(bool, Micros)> {
        let message: &[u8; echo::LENGTH] = message.try_into().ok()?;
        let number = |at: usize| {
            message[at..at + 8]
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let asked = number(echo::NONCE) ^ self.secret;
        let is_answer = message[..4] == echo::MAGIC.to_be_bytes()
            && message[echo::KIND] == echo::ANSWER
            && message[echo::ROUTER] == self.router
            && message[echo::FAMILY] == self.family
            // What was asked long ago says nothing of now.
            && asked <= self.asked
            && asked + 4 > self.asked;
        is_answer.then(|| (message[echo::HOLDS] == 1, number(echo::AGE) / 1000))
    }
}

fn question(router: u8, family: u8, nonce: u64) -> [u8; echo::LENGTH] {
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
    async fn only_answers_to_late_questions_count() {
        let mut echo = Echo::open("lo", 1, [127, 0, 0, 1].into(), 7).unwrap();
        let answer = |number: u64, secret: u64| {
            let mut message = question(7, 4, secret ^ number);
            message[echo::KIND] = echo::ANSWER;
            message[echo::HOLDS] = 1;
            message[echo::AGE..].copy_from_slice(&5_000_000_u64.to_be_bytes());
            message
        };
        echo.asked = 10;
        let secret = echo.secret;
        assert_eq!(echo.answer(&answer(10, secret)), Some((true, 5000)));
        assert_eq!(echo.answer(&answer(7, secret)), Some((true, 5000)));
        for (number, secret) in [(6, secret), (11, secret), (10, !secret)] {
            assert_eq!(echo.answer(&answer(number, secret)), None);
        }
        assert_eq!(echo.answer(&question(7, 4, secret ^ 10)), None, "a question");
        assert_eq!(echo.answer(&answer(10, secret)[..echo::LENGTH - 1]), None, "cut short");
        let mut other = answer(10, secret);
        other[echo::ROUTER] = 8;
        assert_eq!(echo.answer(&other), None, "of another virtual router");
    }
}
