//! Checked `[[vrrp]]` tables: virtual routers, their tracks and hooks.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::{
    config::CommandProbe,
    vrrp::{self, tracking::TrackRule, validation::ExpectedAdverts},
};

/// A virtual router of this balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrrp {
    /// Name, unique in the file.
    pub name: String,
    /// Interface for adverts, and for the addresses on a master.
    pub interface: String,
    /// Number of the virtual router (VRID): 1 to 255, unique for an interface and address family.
    pub router: u8,
    /// Virtual addresses with their prefix lengths: 1 to 20, of one family.
    pub addresses: Vec<IpNet>,
    /// Version of VRRP: 2 or 3.
    pub version: u8,
    /// Priority of this balancer: 1 to 254, or 255 if it owns the addresses.
    pub priority: u8,
    /// Name of the sync group. `None`: the virtual router moves alone.
    pub group: Option<String>,
    /// Time between two adverts: 10 ms to 40.95 s, in version 2 whole seconds to 255 s.
    pub interval: Duration,
    /// How long an orphan keeps the addresses after the last sign of life of its controller: 0 to
    /// 10 min.
    pub grace: Duration,
    /// How long connections are relayed to the former master: 0 to 24 h. 0: they are not.
    pub relay: Duration,
    /// Time between two announcements of the addresses without a reason: 1 s to 24 h. 0: never.
    pub refresh: Duration,
    /// Balancers that adverts are sent to and accepted from: at most 16. Empty: multicast.
    pub peers: Vec<IpAddr>,
    /// Source address of adverts. `None`: the first address of the interface, for IPv6 its
    /// link-local one.
    pub source: Option<IpAddr>,
    /// Whether this balancer takes over from a master of lower priority.
    pub preempt: bool,
    /// How long such a master is heard before this balancer takes over: 0 to 1 h.
    pub preempt_delay: Duration,
    /// Whether the kernel gets packets to the addresses that belong to no service. `false`: a
    /// master drops them.
    pub accept: bool,
    /// Whether the addresses have the virtual router's MAC address, which moves with them.
    pub router_mac: bool,
    /// What sent checksums of version 3 over IPv4 cover.
    pub checksum: vrrp::advert::ChecksumCoverage,
    /// Version 2: password that each advert carries in clear text, padded with zero bytes.
    pub password: Option<[u8; 8]>,
    /// Conditions that it depends on.
    pub tracks: Vec<Track>,
    /// Command for changes of the role.
    pub hook: Option<Hook>,
}

/// A condition that a virtual router depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// What is tracked.
    pub what: Tracked,
    /// Negative (-253 to -1): added to the priority while the condition is down. Positive (1 to
    /// 253): added while it is up. `None`: the virtual router is in a fault while the condition is
    /// down.
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

/// What a track observes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// An interface: up while it has a link.
    Interface(String),
    /// A service: up while at least `quorum` of its backends are up.
    Service {
        /// Name of the service.
        name: String,
        /// Number of backends: 1 to 10,000.
        quorum: u32,
    },
    /// A file: up while it exists, or while it does not.
    File {
        /// Absolute path of the file.
        path: PathBuf,
        /// Whether the file must exist.
        present: bool,
    },
    /// A command: up while it exits with status 0.
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

/// A command that runs periodically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTrack {
    /// The command.
    pub command: CommandProbe,
    /// Time from one run to the next: 10 ms to 1 h.
    pub interval: Duration,
    /// How long a run may take: 1 ms to `interval`. A longer run is a failure.
    pub timeout: Duration,
    /// Successes in a row that change the state to up: 1 to 100.
    pub rise: u32,
    /// Failures in a row that change the state to down: 1 to 100.
    pub fall: u32,
}

/// A command that runs when a role changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The command.
    pub command: CommandProbe,
    /// How long a run may take before it is killed: 1 ms to 1 h.
    pub timeout: Duration,
}

impl Vrrp {
    /// The virtual addresses without their prefix lengths.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr)
    }

    /// Key of the sync group. Virtual routers that move together have the same key.
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

    /// Whether echoes are sent to the packet paths of other balancers.
    pub fn sends_echoes(&self) -> bool {
        !(self.grace.is_zero() && self.relay.is_zero())
    }

    /// Time between two announcements without a reason, in microseconds. 0: never.
    pub fn refresh(&self) -> vrrp::Micros {
        micros(self.refresh)
    }

    /// Parameters of its instance.
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
