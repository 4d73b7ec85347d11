//! Virtual routers of the configuration, and what they depend on.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::{
    config::CommandProbe,
    vrrp::{self, tracking::TrackRule, validation::ExpectedAdverts},
};

/// A virtual router that this balancer takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrrp {
    /// Name, unique in the file.
    pub name: String,
    /// Interface that adverts go through, and that has the addresses while this balancer is master.
    pub interface: String,
    /// Number of the virtual router, unique among those of an interface, a family and a version: 1 to 255.
    pub router: u8,
    /// The addresses, of one family, each with the length of its network.
    pub addresses: Vec<IpNet>,
    /// Version: 2 or 3.
    pub version: u8,
    /// 1 to 254; 255: the addresses are this balancer's own.
    pub priority: u8,
    /// The group whose virtual routers all move with it.
    pub group: Option<String>,
    /// From one advert to the next.
    pub interval: Duration,
    /// For how long after its controller's last sign of life a balancer keeps the addresses whose packet path goes on.
    pub grace: Duration,
    /// For how long connections go on by way of the balancer that was master before.
    pub relay: Duration,
    /// How often a master tells the link where the addresses are, without any reason; zero: never.
    pub refresh: Duration,
    /// Whom adverts are sent to, and taken from; empty: everybody, by multicast.
    pub peers: Vec<IpAddr>,
    /// Where adverts come from; `None`: the interface's first address, in IPv6 its link-local one.
    pub source: Option<IpAddr>,
    /// Whether it takes over from a master of lower priority.
    pub preempt: bool,
    /// For how long it hears such a master before it does.
    pub preempt_delay: Duration,
    /// Whether the kernel gets packets to the addresses that belong to no service; else they are dropped.
    pub accept: bool,
    /// Whether the addresses are at a link-layer address of their own, which moves with them.
    pub router_mac: bool,
    /// What checksums of version 3 over IPv4 cover.
    pub checksum: vrrp::advert::ChecksumCoverage,
    /// Version 2: what goes with each advert in the clear.
    pub password: Option<[u8; 8]>,
    /// What it depends on.
    pub tracks: Vec<Track>,
    /// What is run when its role changes.
    pub hook: Option<Hook>,
}

/// Something that a virtual router depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// What it is.
    pub what: Tracked,
    /// Negative: added to the priority while it is down; positive: while it is up. `None`: while it is down, this balancer takes
    /// no part.
    pub weight: Option<i16>,
}

impl Track {
    /// The condition, as the VRRP protocol needs it.
    pub fn rule(&self) -> TrackRule {
        TrackRule {
            what: self.what.to_string(),
            weight: self.weight,
        }
    }
}

/// What can be depended on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// An interface: up while it has a link.
    Interface(String),
    /// A service: up while so many of its backends are.
    Service {
        /// Its name.
        name: String,
        /// How many.
        quorum: u32,
    },
    /// A file: up while it is there, or while it is not.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether it has to be there.
        present: bool,
    },
    /// A command: up while it ends with status 0.
    Command(CommandTrack),
}

impl fmt::Display for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Service { name, .. } => write!(f, "service {name}"),
            Self::File { path, .. } => write!(f, "file {}", path.display()),
            Self::Command(track) => write!(f, "command {}", track.command.argv.first().map_or("", String::as_str)),
        }
    }
}

/// A command that is run again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTrack {
    /// The command.
    pub command: CommandProbe,
    /// From one run to the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Successes in a row that bring it up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
}

/// A command that is told of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The command.
    pub command: CommandProbe,
    /// How long it may take before it is killed.
    pub timeout: Duration,
}

impl Vrrp {
    /// The addresses, without the lengths of their networks.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr)
    }

    /// Those that move together have the same one.
    pub fn sync_group_key(&self) -> (bool, &str) {
        self.group.as_deref().map_or((false, &self.name), |group| (true, group))
    }

    /// What its adverts must, or should, contain.
    pub fn expected_adverts(&self) -> ExpectedAdverts {
        ExpectedAdverts {
            version: self.version,
            router: self.router,
            priority: self.priority,
            interval: micros(self.interval),
            peers: self.peers.clone(),
            password: self.password,
            checksum: self.checksum,
            addresses: self.hosts().collect(),
        }
    }

    /// Whether other balancers' packet paths are asked if they go on.
    pub fn sends_echoes(&self) -> bool {
        !(self.grace.is_zero() && self.relay.is_zero())
    }

    /// How often the link is told where the addresses are, without any reason; 0: never.
    pub fn refresh(&self) -> vrrp::Micros {
        micros(self.refresh)
    }

    /// What its instance follows.
    pub fn parameters(&self) -> vrrp::Parameters {
        vrrp::Parameters {
            version: self.version,
            priority: self.priority,
            interval: micros(self.interval),
            preempt: self.preempt,
            preempt_delay: micros(self.preempt_delay),
            grace: micros(self.grace),
        }
    }
}

fn micros(duration: Duration) -> vrrp::Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
