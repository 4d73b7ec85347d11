//! Every default of the file, declared once.

use std::{path::PathBuf, time::Duration};

use lb_common::{Mode, OnBackendDown, Scheduler, maps};

use super::{Capacity, PortRange, Protocol, Timeouts, Tunnel};

/// Priority of a virtual router.
pub(super) const PRIORITY: u32 = 100;
/// Advertisement interval. RFC 9568, section 5.2.7: "The default is 100 centiseconds (1 second)".
pub(super) const ADVERT_INTERVAL: Duration = Duration::from_secs(1);

/// Grace of a virtual router. Longer than a restart takes.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How long connections continue through the former master.
pub(super) const RELAY: Duration = Duration::from_secs(10 * 60);
/// How often a master repeats gratuitous ARP and unsolicited NA.
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// Interval of a tracked command, and its timeout.
pub(super) const TRACK_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout of a hook.
pub(super) const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Mount point of the BPF file system.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// Protocol of a service.
pub(super) const PROTOCOL: Protocol = Protocol::Tcp;
/// Forwarding mode of a service.
pub(super) const MODE: Mode = Mode::Nat;
/// Scheduler of a service.
pub(super) const SCHEDULER: Scheduler = Scheduler::RoundRobin;
/// What happens to flows of a dead backend.
pub(super) const ON_BACKEND_DOWN: OnBackendDown = OnBackendDown::Reset;

/// SYN flood rate, in new flows per second, for the modes that can forward without flow entries.
pub(super) const FLOOD_RATE: u32 = 50_000;

/// How long flows of a backend continue after a reload removed it.
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

/// State folder of the node `name`.
pub(super) fn state_dir(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/lib/lbd/{name}"))
}

/// Folder of the admin sockets.
pub const SOCKETS: &str = "/run/lbd";

/// Admin socket of the node `name`.
pub(super) fn socket(name: &str) -> PathBuf {
    PathBuf::from(format!("{SOCKETS}/{name}.sock"))
}

impl Default for PortRange {
    /// Source ports of `nat`.
    fn default() -> Self {
        Self {
            low: 20000,
            high: 56999,
        }
    }
}

impl Default for Tunnel {
    /// No sources. The port is the one in the kernel's documentation of GUE.
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
