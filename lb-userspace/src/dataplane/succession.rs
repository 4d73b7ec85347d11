//! Maps of former layouts: what of each can be taken over, said in one place.
//!
//! From one layout to the next most maps stay as they are, above all the flow tables. Those are pinned for this layout
//! too, so that both programs work on the same flows while interfaces go over from one to the other: nothing is copied,
//! and nothing that happens meanwhile is missed. Only maps that differ begin anew.

use aya::maps::MapData;
use lb_common::{
    abi::MAP_ABI_VERSION,
    maps::{self, Map},
};

use super::{DataplaneError, Pins, loader, spills};

/// A former layout whose flows can be taken over.
#[derive(Debug)]
pub struct Former {
    /// Its version.
    pub version: u32,
    /// Maps that it had not, or had with another meaning. All others are the same in both.
    anew: &'static [Map],
    /// Fills what is made anew with what makes it right for flows that there are, before a packet passes.
    fill: fn(&Pins) -> Result<(), DataplaneError>,
}

/// Every former layout whose flows can be taken over. Whoever raises [`MAP_ABI_VERSION`] adds the version before, and
/// what the change means to each one here; or moves it to [`LOST`].
const KNOWN: &[Former] = &[
    Former {
        version: 5,
        // It counted fewer outcomes, and knew nothing of link-layer addresses that move.
        anew: &[
            maps::OUTCOMES,
            maps::VIRTUAL_ROUTERS,
            maps::ROUTER_IDS,
            maps::ROUTER_ADDRESSES,
        ],
        fill: |_| Ok(()),
    },
    Former {
        version: 4,
        // It counted fewer outcomes, and knew nothing of VRRP.
        anew: &[
            maps::OUTCOMES,
            maps::VIRTUAL_ROUTERS,
            maps::ROUTER_IDS,
            maps::ROUTER_ADDRESSES,
        ],
        fill: |_| Ok(()),
    },
    Former {
        version: 3,
        // Besides, it counted fewer events, and nothing of SYNs that workers refuse or leave unanswered.
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
    Former {
        version: 2,
        // Besides, it read both buckets of every flow.
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

/// Former layouts whose flows cannot be taken over, and why.
const LOST: &[(u32, &str)] = &[(
    1,
    "its flows stood in hash maps of the kernel, which no later program reads",
)];

/// Why the flows of a version's maps cannot be taken over, in a few words.
pub(super) fn why_not(version: u32) -> String {
    match LOST.iter().find(|(lost, _)| *lost == version) {
        Some((_, reason)) => (*reason).to_owned(),
        None if version > MAP_ABI_VERSION => format!("a later lbd made it; this one knows up to {MAP_ABI_VERSION}"),
        None => "this lbd knows nothing of it".to_owned(),
    }
}

/// The former layout over which a version's programs run, if its flows can be taken over.
pub(super) fn known(version: u32) -> Option<&'static Former> {
    KNOWN.iter().find(|former| former.version == version)
}

impl Former {
    /// Pins this layout's maps: those of the former one where they are the same. What was pinned for this layout is
    /// removed: no link may use it. The rest is made, and filled, by [`load`](super::load).
    ///
    /// # Errors
    ///
    /// When a map is not as it should be, or cannot be pinned. Packets go on by the former program.
    pub fn share(&self, pins: &Pins) -> Result<(), DataplaneError> {
        let former = pins.of_version(self.version);
        let shared = |map: &Map| *map != maps::PROGRAMS && !self.anew.contains(map);
        // All are looked at before the first one is touched.
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

    /// Fills what was made anew.
    pub(super) fn fill(&self, pins: &Pins) -> Result<(), DataplaneError> {
        (self.fill)(pins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_former_layout_it_is_said_what_becomes_of_its_flows() {
        for version in 1..MAP_ABI_VERSION {
            let places = KNOWN.iter().filter(|former| former.version == version).count()
                + LOST.iter().filter(|(lost, _)| *lost == version).count();
            assert_eq!(places, 1, "layout {version} belongs into KNOWN or into LOST");
        }
        assert!(KNOWN.iter().all(|former| former.version < MAP_ABI_VERSION));
    }

    #[test]
    fn flow_tables_are_never_made_anew_in_a_layout_that_is_taken_over() {
        for former in KNOWN {
            for map in [maps::FLOWS_V4, maps::FLOWS_V6, maps::BACKENDS, maps::SETTINGS] {
                assert!(!former.anew.contains(&map), "{}", map.name);
            }
        }
    }
}
