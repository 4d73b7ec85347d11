//! Allocates space in the ring map for new rings beside those in use.

use std::collections::BTreeMap;

/// The free ranges of the ring map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RingSpace {
    /// Length by offset.
    free: BTreeMap<u32, u32>,
}

impl RingSpace {
    /// All `slots` except those of the used rings, given as (offset, length).
    pub(super) fn new(slots: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut used: Vec<_> = used.into_iter().filter(|(_, length)| *length > 0).collect();
        used.sort_unstable();
        let mut free = BTreeMap::new();
        let mut next = 0;
        for (offset, length) in used {
            if offset > next {
                free.insert(next, offset.min(slots) - next.min(slots));
            }
            next = next.max(offset.saturating_add(length));
        }
        if next < slots {
            free.insert(next, slots - next);
        }
        free.retain(|_, length| *length > 0);
        Self { free }
    }

    /// Allocates from the first range that is large enough; `None`: there is none. A ring without
    /// slots needs no space.
    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        if length == 0 {
            return Some(0);
        }
        let (&offset, &size) = self.free.iter().find(|(_, size)| **size >= length)?;
        self.free.remove(&offset);
        if size > length {
            self.free.insert(offset + length, size - length);
        }
        Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_placed_in_the_first_range_that_is_large_enough() {
        let mut space = RingSpace::new(100, [(10, 20), (40, 10), (90, 10), (5, 0)]);
        assert_eq!(space.take(10), Some(0));
        assert_eq!(space.take(11), Some(50));
        assert_eq!(space.take(10), Some(30));
        assert_eq!(space.take(0), Some(0));
        assert_eq!(space.take(30), None);
        assert_eq!(space.take(29), Some(61));
        assert_eq!(space.take(1), None);
    }

    #[test]
    fn overlapping_and_oversized_rings_of_a_broken_map_are_tolerated() {
        let mut space = RingSpace::new(50, [(0, 10), (5, 10), (45, u32::MAX)]);
        assert_eq!(space.take(30), Some(15));
        assert_eq!(space.take(1), None);
        assert_eq!(RingSpace::new(10, [(20, 5)]).take(10), Some(0));
    }
}
