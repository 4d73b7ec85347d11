//! Writes the node's settings to the map `SETTINGS`, and reads the clock of the flow table.

use std::{fs::File, io, io::Read};

use aya::{
    maps::MapData,
    programs::{TestRun, TestRunOptions, Xdp},
};
use lb_common::{Settings, flow, flow_table::Meta, maps};
use nix::time::{ClockId, clock_getres, clock_gettime};

use super::{DataplaneError, SharedArray};
use lb_core::config::PortRange;

/// Silence after which a flow may be replaced by a new one, whatever the timeouts of its service,
/// in seconds.
const EXPIRY: u64 = 24 * 3600;

/// Writes the settings. Values that an existing flow table depends on are kept.
///
/// `clock` is the program that returns the kernel's jiffies. `buckets` are the numbers of buckets
/// for IPv4 and IPv6.
pub(super) fn write(map: &MapData, clock: &Xdp, buckets: [u32; 2], nat_ports: PortRange) -> Result<(), DataplaneError> {
    let failed = |cause: io::Error| DataplaneError::map(maps::SETTINGS.name, cause);
    let settings: SharedArray<Settings> = SharedArray::map(map.fd(), 1, true).map_err(failed)?;
    let old = settings.read(0).unwrap_or(Settings::ZERO);
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(|error| failed(error.into()))?;
    let jiffy = resolution.tv_nsec().max(1) as u64;
    let jiffies_per_second = (1_000_000_000 / jiffy) as u32;
    let tick_shift = flow::tick_shift(jiffies_per_second);
    // The frame is not read: it only has to be long enough for Ethernet.
    let run = clock.test_run(TestRunOptions {
        data_in: Some(&[0; 64]),
        ..TestRunOptions::new()
    });
    let jiffies = run
        .map_err(|error| DataplaneError::map(maps::SETTINGS.name, error))?
        .return_value;
    let since_zero = monotonic().map_err(failed)? / jiffy;
    settings.publish(
        0,
        &Settings {
            hash_seed: if old.hash_seed == 0 {
                random().map_err(failed)?
            } else {
                old.hash_seed
            },
            // Flows may still use ports of a former range.
            nat_port_low: if old.hash_seed == 0 {
                nat_ports.low
            } else {
                nat_ports.low.min(old.nat_port_low)
            },
            nat_port_high: nat_ports.high.max(old.nat_port_high),
            tick_shift,
            expiry: ticks(EXPIRY, jiffies_per_second, tick_shift),
            spill_mark: old.spill_mark,
            jiffies_base: u64::from(jiffies).wrapping_sub(since_zero),
            buckets_v4: buckets[0],
            buckets_v6: buckets[1],
            jiffies_per_second,
            reserved: 0,
        },
    );
    Ok(())
}

fn ticks(seconds: u64, jiffies_per_second: u32, shift: u32) -> u32 {
    u32::try_from((seconds * u64::from(jiffies_per_second)) >> shift)
        .unwrap_or(u32::MAX)
        .min(Meta::TICKS / 2)
}

/// The kernel's coarse monotonic clock in nanoseconds. The packet path reads it too.
///
/// # Errors
///
/// When the clock cannot be read.
pub fn monotonic() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A random number that is not zero and cannot be guessed.
fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes) | 1)
}

/// The clock of the flow table. Its unit is the tick.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    jiffies_base: u64,
    jiffies_per_second: u32,
    tick_shift: u32,
}

impl Clock {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            jiffies_base: settings.jiffies_base,
            jiffies_per_second: settings.jiffies_per_second.max(1),
            tick_shift: settings.tick_shift,
        }
    }

    /// Now, in ticks.
    ///
    /// # Errors
    ///
    /// When the clock cannot be read.
    pub fn now(&self) -> io::Result<u32> {
        let jiffy = 1_000_000_000 / u64::from(self.jiffies_per_second);
        // The program returns only the lower 32 bits of the jiffies, so only the lower 32 bits of
        // the sum are valid.
        let jiffies = self.jiffies_base.wrapping_add(monotonic()? / jiffy) as u32;
        Ok(flow::tick(u64::from(jiffies), self.tick_shift))
    }

    /// The length of a tick.
    pub fn tick(&self) -> std::time::Duration {
        std::time::Duration::from_secs(1) * (1 << self.tick_shift) / self.jiffies_per_second
    }
}
