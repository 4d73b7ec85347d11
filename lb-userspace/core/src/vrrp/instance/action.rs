//! What an instance exchanges with its driver: roles, actions, echo replies.

use std::net::IpAddr;

use super::Micros;

/// The role of this balancer in a virtual router, as API, CLI and hooks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not active: it starts, waits or is shut down. Nothing is wrong.
    Initialize,
    /// Not active, because something that it needs is missing or down. In terms of RFC 9568 the
    /// state is Initialize.
    Fault,
    /// Listens for adverts of the master.
    Backup,
    /// Has the addresses.
    Master,
}

impl Role {
    /// The word that API, CLI and hooks use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Fault => "fault",
            Self::Backup => "backup",
            Self::Master => "master",
        }
    }

    /// Whether this balancer neither listens nor sends: the state Initialize of RFC 9568.
    pub const fn is_inactive(self) -> bool {
        matches!(self, Self::Initialize | Self::Fault)
    }
}

/// Why a virtual router is in the state Initialize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inactive {
    /// It starts, waits or is shut down. Nothing is wrong.
    Waiting,
    /// Something that it needs is missing or down.
    Fault,
}

impl From<Inactive> for Role {
    fn from(inactive: Inactive) -> Self {
        match inactive {
            Inactive::Waiting => Self::Initialize,
            Inactive::Fault => Self::Fault,
        }
    }
}

/// What the driver has to do. It carries out the actions of a list in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advert with this priority. 0: this balancer resigns.
    SendAdvert(u8),
    /// Enter this role. The text is the cause.
    Become(Role, String),
    /// Announce the addresses by gratuitous ARP or unsolicited neighbour advertisements.
    Announce,
    /// Send an echo to the packet path of this master.
    SendEcho(IpAddr),
}

/// Reply of another balancer's packet path to an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Address of that balancer.
    pub from: IpAddr,
    /// Whether that balancer holds the lease of the addresses.
    pub holds_lease: bool,
    /// Time since its controller renewed the lease, in microseconds.
    pub lease_age: Micros,
}
