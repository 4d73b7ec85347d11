//! Parameters of a virtual router, and the times that follow from them (RFC 9568, section 6.1).

/// Time in microseconds, on a clock that never goes back. All instances of a process use the same
/// clock.
pub type Micros = u64;

/// Priority of the balancer that owns the addresses (RFC 9568, section 5.2.4).
pub const OWNER: u8 = 255;

/// How this balancer behaves in one virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Version of VRRP: 2 or 3.
    pub version: u8,
    /// Priority of this balancer: 1 to 254, or 255 if it owns the addresses.
    pub priority: u8,
    /// Time between two adverts of this balancer, in microseconds.
    pub interval: Micros,
    /// Whether this balancer takes over from a master of lower priority.
    pub preempt: bool,
    /// How long such a master is heard before this balancer takes over, in microseconds.
    pub preempt_delay: Micros,
    /// How long an orphan keeps the addresses after the last sign of life of its controller, in
    /// microseconds. 0: an orphan keeps them only as long as VRRP itself allows.
    pub grace: Micros,
}

impl Parameters {
    /// Whether this balancer owns the addresses. An owner yields to nobody. RFC 9568, section 7.1:
    /// a receiver "MUST verify that [...] the local router is not the IPvX address owner (Priority
    /// = 255 (decimal))".
    pub fn is_owner(&self) -> bool {
        self.priority == OWNER
    }

    /// Whether this balancer takes over from a master with that priority. RFC 9568, section 6.1: an
    /// owner "always preempts, independent of the setting of this flag".
    pub(super) fn preempts(&self, priority: u8) -> bool {
        self.is_owner() || (self.preempt && priority < self.priority)
    }

    /// RFC 9568, section 6.1: "Skew_Time = (((256 - Priority) * Active_Adver_Interval) / 256)".
    /// RFC 3768 uses one second as the interval.
    pub(super) fn skew_time(&self, master_interval: Micros) -> Micros {
        let interval = if self.version == 2 { 1_000_000 } else { master_interval };
        (256 - u64::from(self.priority)) * interval / 256
    }

    /// RFC 9568, section 6.1: "Active_Down_Interval = (3 * Active_Adver_Interval) + Skew_time".
    pub(super) fn down_interval(&self, master_interval: Micros) -> Micros {
        3 * master_interval + self.skew_time(master_interval)
    }
}
