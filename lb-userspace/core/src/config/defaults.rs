//! Every default of the file, declared once.

use std::{path::PathBuf, time::Duration};

use lb_common::{Mode, OnBackendDown, Scheduler, maps};

use super::{Capacity, PortRange, Protocol, Timeouts, Tunnel};

/// Priority in a virtual router.
pub(super) const PRIORITY: u32 = 100;
/// From one VRRP advert to the next: RFC 9568, section 5.2.7: "The default is 100 centiseconds (1 second)".
pub(super) const ADVERT_INTERVAL: Duration = Duration::from_secs(1);

/// For how long a packet path keeps its addresses without its controller: a restart takes less.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// For how long connections of a former master go on by way of it.
pub(super) const RELAY: Duration = Duration::from_secs(10 * 60);
/// How often a master tells the link where the addresses are.
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// From one run of a tracked command to the next, and how long one may take.
pub(super) const TRACK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a hook may take.
pub(super) const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Mount point of the BPF file system.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// How services work unless they say otherwise.
pub(super) const PROTOCOL: Protocol = Protocol::Tcp;
/// See [`PROTOCOL`].
pub(super) const MODE: Mode = Mode::Nat;
/// See [`PROTOCOL`].
pub(super) const SCHEDULER: Scheduler = Scheduler::RoundRobin;
/// See [`PROTOCOL`].
pub(super) const ON_BACKEND_DOWN: OnBackendDown = OnBackendDown::Reset;

/// New flows a second above which a service that can do so spreads them by hash, without entries of their own.
pub(super) const FLOOD_RATE: u32 = 50_000;

/// How long the flows of a backend go on that a reload removes.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Weight of a backend.
pub(super) const WEIGHT: u32 = 1;

/// From the start of one health check to the start of the next.
pub(super) const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
/// The timeout of a health check, unless the interval is shorter.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// Successes in a row that bring a backend up.
pub(super) const RISE: u32 = 2;
/// Failures in a row that take a backend down.
pub(super) const FALL: u32 = 3;
/// The jitter of intervals, in percent.
pub(super) const JITTER: u32 = 10;
/// The period for which falls of a backend are counted.
pub(super) const FLAP_PERIOD: Duration = Duration::from_secs(5 * 60);
/// The user that runs the commands of checks.
pub(super) const COMMAND_USER: &str = "nobody";
/// Method of an HTTP check.
pub(super) const METHOD: &str = "GET";
/// Path of an HTTP check.
pub(super) const PATH: &str = "/";
/// Status codes that are a success of an HTTP check.
pub(super) const STATUS: (u16, u16) = (200, 399);

/// Folder for what survives a restart of the node `name`.
pub(super) fn state_dir(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/lib/lbd/{name}"))
}

/// Where admin sockets are.
pub const SOCKETS: &str = "/run/lbd";

/// Admin socket of the node `name`.
pub(super) fn socket(name: &str) -> PathBuf {
    PathBuf::from(format!("{SOCKETS}/{name}.sock"))
}

impl Default for PortRange {
    /// The source ports that `nat` uses unless told otherwise.
    fn default() -> Self {
        Self {
            low: 20000,
            high: 56999,
        }
    }
}

impl Default for Tunnel {
    /// No sources, and the port that the kernel's documents use for `gue`.
    fn default() -> Self {
        Self {
            source_v4: None,
            source_v6: None,
            gue_port: 6080,
        }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        let entries = |map: maps::Map| map.capacity as u32;
        Self {
            flows_v4: entries(maps::FLOWS_V4),
            flows_v6: entries(maps::FLOWS_V6),
            services: entries(maps::SERVICES),
            backends: entries(maps::BACKENDS),
            ring_slots: entries(maps::RINGS),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            opening: Duration::from_secs(10),
            established: Duration::from_secs(60 * 60),
            closing: Duration::from_secs(2 * 60),
            time_wait: Duration::from_secs(60),
            closed: Duration::from_secs(10),
            udp: Duration::from_secs(2 * 60),
        }
    }
}
