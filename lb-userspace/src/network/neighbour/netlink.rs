//! Netlink I/O: queries to the kernel, and its events.

use std::{fmt, io, net::IpAddr, time::Duration};

use futures_util::{Stream, StreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    sys::AsyncSocket,
};
use tokio::task::JoinSet;

use super::messages::{self, Recheck};
use lb_core::neighbour::resolve::{Link, Neighbour, NeighbourKey, Route};

/// The kernel answers at once. A missing answer was lost when the socket's buffer was full.
const PATIENCE: Duration = Duration::from_secs(1);

/// Buffer for events, in bytes. A storm of route changes overruns the default size.
const EVENT_BUFFER: i32 = 1 << 20;

const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

type Events = Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Sync + Unpin>;

/// Two netlink sockets, so that events cannot push answers out of a buffer.
pub struct Netlink {
    handle: Handle,
    events: Events,
    /// The tasks that transfer messages of the two sockets. They end with this value.
    _connections: JoinSet<()>,
}

/// Why a query has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The kernel refused, with this errno.
    Refused(i32),
    /// The answer was lost or unusable.
    Lost,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
            Self::Lost => f.write_str("the kernel's answer was lost"),
        }
    }
}

impl Netlink {
    /// Opens the sockets in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut connections = JoinSet::new();
        let (connection, handle, _) = rtnetlink::new_connection()?;
        connections.spawn(connection);
        let (mut connection, _, events) = rtnetlink::new_multicast_connection(&GROUPS)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(EVENT_BUFFER)?;
        connections.spawn(connection);
        let events = Box::new(events.map(|(message, _)| message));
        Ok(Self {
            handle,
            events,
            _connections: connections,
        })
    }

    /// Waits for an event that concerns the targets; `None`: the socket is broken.
    pub async fn event(&mut self) -> Option<Recheck> {
        loop {
            let recheck = match self.events.next().await?.payload {
                NetlinkPayload::InnerMessage(message) => messages::recheck(&message),
                // Events were lost: any of them may concern the targets.
                NetlinkPayload::Overrun(_) => Some(Recheck::Everything),
                _ => None,
            };
            if recheck.is_some() {
                return recheck;
            }
        }
    }

    /// The route to an address. A refusal is a route too: one that says why there is none.
    pub async fn route(&self, target: IpAddr) -> Result<Route, Unanswered> {
        match self.ask(messages::ask_route(target)).await {
            Ok(RouteNetlinkMessage::NewRoute(message)) => Ok(messages::route(&message)),
            Ok(_) => Err(Unanswered::Lost),
            Err(Unanswered::Refused(errno)) => Ok(messages::route_refused(errno)),
            Err(lost) => Err(lost),
        }
    }

    /// An interface; `None`: it does not exist.
    pub async fn link(&self, ifindex: u32) -> Result<Option<Link>, Unanswered> {
        match self.ask(messages::ask_link(ifindex)).await {
            Ok(RouteNetlinkMessage::NewLink(message)) => Ok(Some(messages::link(&message))),
            Ok(_) => Err(Unanswered::Lost),
            Err(Unanswered::Refused(_)) => Ok(None),
            Err(lost) => Err(lost),
        }
    }

    /// An entry of the neighbour table; `None`: it does not exist.
    pub async fn neighbour(&self, key: NeighbourKey) -> Result<Option<Neighbour>, Unanswered> {
        match self.ask(messages::ask_neighbour(key)).await {
            Ok(RouteNetlinkMessage::NewNeighbour(message)) => Ok(messages::neighbour(&message)),
            Ok(_) => Err(Unanswered::Lost),
            Err(Unanswered::Refused(_)) => Ok(None),
            Err(lost) => Err(lost),
        }
    }

    /// Has the kernel resolve or confirm a neighbour.
    pub async fn refresh(&self, key: NeighbourKey) -> Result<(), Unanswered> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        match self.request(messages::refresh(key), flags).await? {
            None => Ok(()),
            Some(_) => Err(Unanswered::Lost),
        }
    }

    async fn ask(&self, question: RouteNetlinkMessage) -> Result<RouteNetlinkMessage, Unanswered> {
        self.request(question, NLM_F_REQUEST).await?.ok_or(Unanswered::Lost)
    }

    /// Sends a message. The answer is `None` if the kernel only acknowledges.
    async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<RouteNetlinkMessage>, Unanswered> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        let mut answers = self.handle.clone().request(message).map_err(|_| Unanswered::Lost)?;
        match tokio::time::timeout(PATIENCE, answers.next()).await {
            Err(_) => Err(Unanswered::Lost),
            Ok(None) if flags & NLM_F_ACK != 0 => Ok(None),
            Ok(None) => Err(Unanswered::Lost),
            Ok(Some(answer)) => match answer.payload {
                NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
                NetlinkPayload::Error(error) => Err(Unanswered::Refused(error.raw_code().abs())),
                _ => Err(Unanswered::Lost),
            },
        }
    }
}
