//! How full the maps are, and how much memory they use.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use lb_common::maps;
use serde::Serialize;

use super::{Access, DataplaneError, Pins, Tables, dump, tables};

/// How full a map is.
#[derive(Clone, Debug, Serialize)]
pub struct MapUsage {
    /// Name.
    pub name: String,
    /// Entries in use; `null`: they cannot be counted without disturbing the packet path.
    pub used: Option<u64>,
    /// Entries that the map is sized for; for a ring buffer, bytes.
    pub capacity: u64,
    /// Kernel memory of the map, in bytes.
    pub bytes: u64,
}

/// How full all pinned maps are.
///
/// # Errors
///
/// When one is not pinned or cannot be read.
pub fn usage(pins: &Pins) -> Result<Vec<MapUsage>, DataplaneError> {
    let all = Tables::open(pins, Access::Read)?;
    let [flows_v4, flows_v6] = all.count_flow_entries();
    let [capacity_v4, capacity_v6] = all.flow_capacity();
    let each = maps::ALL.iter().map(|map| {
        let failed = |cause: io::Error| DataplaneError::map(map.name, cause);
        let data = tables::open(pins, *map)?;
        let info = data.info().map_err(|cause| DataplaneError::map(map.name, cause))?;
        let bytes = memory(data.fd().as_fd().as_raw_fd()).map_err(failed)?;
        let (used, capacity) = match *map {
            // Each map entry of these holds several flow entries.
            maps::FLOWS_V4 => (Some(flows_v4), capacity_v4),
            maps::FLOWS_V6 => (Some(flows_v6), capacity_v6),
            _ => {
                let entries = dump::dump(pins, map.name, usize::MAX)?;
                (entries.map(|entries| entries.len() as u64), info.max_entries())
            }
        };
        Ok(MapUsage {
            name: map.name.to_owned(),
            used,
            capacity: u64::from(capacity),
            bytes,
        })
    });
    each.collect()
}

/// The memory of a map, in bytes, from the kernel's information on its descriptor.
fn memory(fd: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    let number = line.and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel does not report the memory of a map",
        )
    })
}
