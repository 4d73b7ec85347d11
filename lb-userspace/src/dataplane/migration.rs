//! Migration: which maps of a former layout this version adopts.
//!
//! Most maps, above all the flow tables, are the same in consecutive layouts. These are pinned for
//! this layout too. Both programs then use the same flows while interfaces switch from one to the
//! other: nothing is copied and no change is lost. Only maps that differ are created anew.

use aya::maps::MapData;
use lb_common::{
    abi::MAP_ABI_VERSION,
    maps::{self, Map},
};

use super::{DataplaneError, Pins, loader, spills};

/// A former layout whose flows can be adopted.
#[derive(Debug)]
pub struct FormerLayout {
    /// Version of the layout.
    pub version: u32,
    /// Maps that it did not have, or had with another meaning. All others are the same in both
    /// layouts.
    anew: &'static [Map],
    /// Fills the new maps so that they fit the existing flows, before the first packet.
    fill: fn(&Pins) -> Result<(), DataplaneError>,
}

/// Every former layout whose flows can be adopted. When you raise [`MAP_ABI_VERSION`], add the
/// former version here with its differences, and check the older entries; or add it to [`LOST`].
const KNOWN: &[FormerLayout] = &[
    FormerLayout {
        version: 5,
        // It had fewer outcomes, and no link-layer addresses that move.
        anew: &[
            maps::OUTCOMES,
            maps::VIRTUAL_ROUTERS,
            maps::ROUTER_IDS,
            maps::ROUTER_ADDRESSES,
        ],
        fill: |_| Ok(()),
    },
    FormerLayout {
        version: 4,
        // It had fewer outcomes, and no VRRP.
        anew: &[
            maps::OUTCOMES,
            maps::VIRTUAL_ROUTERS,
            maps::ROUTER_IDS,
            maps::ROUTER_ADDRESSES,
        ],
        fill: |_| Ok(()),
    },
    FormerLayout {
        version: 3,
        // In addition it had fewer events, and did not count SYNs that workers refuse or ignore.
        anew: &[
            maps::OUTCOMES,
            maps::VIRTUAL_ROUTERS,
            maps::ROUTER_IDS,
            maps::ROUTER_ADDRESSES,
            maps::BACKEND_SIGNALS,
            maps::EVENTS,
        ],
        fill: |_| Ok(()),
    },
    FormerLayout {
        version: 2,
        // In addition it read both buckets of every flow.
        anew: &[
            maps::OUTCOMES,
            maps::VIRTUAL_ROUTERS,
            maps::ROUTER_IDS,
            maps::ROUTER_ADDRESSES,
            maps::BACKEND_SIGNALS,
            maps::EVENTS,
            maps::SPILLS_V4,
            maps::SPILLS_V6,
        ],
        fill: spills::mark_all,
    },
];

/// Former layouts whose flows cannot be adopted, and why.
const LOST: &[(u32, &str)] = &[(1, "its flows are in kernel hash maps, which no later program reads")];

/// Why the flows of a layout cannot be adopted, as text.
pub(super) fn why_not(version: u32) -> String {
    match LOST.iter().find(|(lost, _)| *lost == version) {
        Some((_, reason)) => (*reason).to_owned(),
        None if version > MAP_ABI_VERSION => {
            format!("a newer lbd made it; this one knows layouts up to {MAP_ABI_VERSION}")
        }
        None => "this lbd does not know it".to_owned(),
    }
}

/// The former layout with a version, if its flows can be adopted.
pub(super) fn known(version: u32) -> Option<&'static FormerLayout> {
    KNOWN.iter().find(|former| former.version == version)
}

impl FormerLayout {
    /// Pins the maps of the former layout that are the same in this one. Removes what was pinned
    /// for this layout: no link may use it. [`load`](super::load) creates and fills the rest.
    ///
    /// # Errors
    ///
    /// When a map has an unexpected layout or cannot be pinned. The former program keeps
    /// forwarding.
    pub fn share(&self, pins: &Pins) -> Result<(), DataplaneError> {
        let former = pins.of_version(self.version);
        let shared = |map: &Map| *map != maps::PROGRAMS && !self.anew.contains(map);
        // All maps are checked before the first one is changed.
        loader::check_layout(&former, &shared)?;
        pins.remove_maps()?;
        for map in maps::ALL.iter().filter(|map| shared(map)) {
            MapData::from_pin(former.map(map.name))
                .map_err(|cause| DataplaneError::map(map.name, cause))?
                .pin(pins.map(map.name))
                .map_err(|cause| DataplaneError::map(map.name, cause))?;
        }
        Ok(())
    }

    /// Fills the maps that were created anew.
    pub(super) fn fill(&self, pins: &Pins) -> Result<(), DataplaneError> {
        (self.fill)(pins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_former_layout_says_what_happens_to_its_flows() {
        for version in 1..MAP_ABI_VERSION {
            let places = KNOWN.iter().filter(|former| former.version == version).count()
                + LOST.iter().filter(|(lost, _)| *lost == version).count();
            assert_eq!(places, 1, "layout {version} belongs into KNOWN or into LOST");
        }
        assert!(KNOWN.iter().all(|former| former.version < MAP_ABI_VERSION));
    }

    #[test]
    fn an_adopted_layout_never_creates_flow_tables_anew() {
        for former in KNOWN {
            for map in [maps::FLOWS_V4, maps::FLOWS_V6, maps::BACKENDS, maps::SETTINGS] {
                assert!(!former.anew.contains(&map), "{}", map.name);
            }
        }
    }
}
