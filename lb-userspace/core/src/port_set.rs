//! Sets of ports, in the kernel's text format `1,5-9`. Pure.

use std::fmt;

use crate::config::PortRange;

/// A set of ports.
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet(Box<[u64; WORDS]>);

const WORDS: usize = 65536 / 64;

/// Why a text is not a list of ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{item}` is not a port or a range of ports, as in `80,8000-8999`")]
pub struct BadPorts {
    item: String,
}

impl PortSet {
    /// No port.
    pub fn empty() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Reads a list such as `1,5-9`. White space around items and an empty list are valid.
    ///
    /// # Errors
    /// Returns the item that is not a port or a range.
    pub fn parse(text: &str) -> Result<Self, BadPorts> {
        let mut set = Self::empty();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            match (low.trim().parse(), high.trim().parse()) {
                (Ok(low), Ok(high)) if low <= high => set.insert(PortRange { low, high }),
                _ => return Err(BadPorts { item: item.to_owned() }),
            }
        }
        Ok(set)
    }

    fn insert(&mut self, range: PortRange) {
        for port in range.low..=range.high {
            self.0[usize::from(port) / 64] |= 1 << (port % 64);
        }
    }

    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64] & 1 << (port % 64) != 0
    }

    /// Ports of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }

    /// Ports of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    /// Ports of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    fn combine(&self, other: &Self, word: impl Fn(u64, u64) -> u64) -> Self {
        let mut result = Self::empty();
        for ((result, a), b) in result.0.iter_mut().zip(self.0.iter()).zip(other.0.iter()) {
            *result = word(*a, *b);
        }
        result
    }

    /// Number of ports.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The set as ranges in ascending order, as few as possible.
    pub fn ranges(&self) -> Vec<PortRange> {
        let mut ranges: Vec<PortRange> = Vec::new();
        for port in (0..=u16::MAX).filter(|port| self.contains(*port)) {
            match ranges.last_mut() {
                Some(last) if last.high.checked_add(1) == Some(port) => last.high = port,
                _ => ranges.push(PortRange { low: port, high: port }),
            }
        }
        ranges
    }
}

impl From<PortRange> for PortSet {
    fn from(range: PortRange) -> Self {
        let mut set = Self::empty();
        set.insert(range);
        set
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, PortRange { low, high }) in self.ranges().into_iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            if low == high {
                write!(f, "{separator}{low}")?;
            } else {
                write!(f, "{separator}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_and_written_in_the_shortest_form() {
        let table = [
            ("", ""),
            ("\n", ""),
            ("80", "80"),
            ("1,5-9\n", "1,5-9"),
            (" 8080 , 8081 - 8090 ", "8080-8090"),
            ("9,1,2,3", "1-3,9"),
            ("5-7,6-9", "5-9"),
            ("0,65535", "0,65535"),
            ("0-65535", "0-65535"),
        ];
        for (text, expected) in table {
            assert_eq!(PortSet::parse(text).unwrap().to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_list_of_ports_is_named() {
        for (text, item) in [
            ("x", "x"),
            ("1,9-5", "9-5"),
            ("1,65536", "65536"),
            ("1-", "1-"),
            ("1-2-3,4", "1-2-3"),
        ] {
            assert_eq!(PortSet::parse(text), Err(BadPorts { item: item.to_owned() }));
        }
    }

    fn any_set() -> impl Strategy<Value = PortSet> {
        let range = prop_oneof![
            (any::<u16>(), 0_u16..200).prop_map(|(low, more)| PortRange {
                low,
                high: low.saturating_add(more)
            }),
            (0_u16..100, 0_u16..10).prop_map(|(low, more)| PortRange { low, high: low + more }),
        ];
        prop::collection::vec(range, 0..12).prop_map(|ranges| {
            ranges
                .into_iter()
                .map(PortSet::from)
                .fold(PortSet::empty(), |set, one| set.union(&one))
        })
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(set in any_set()) {
            prop_assert_eq!(PortSet::parse(&set.to_string()).unwrap(), set);
        }

        /// What is added to a list can be taken back exactly.
        #[test]
        fn what_was_added_can_be_taken_back(before in any_set(), range in any_set()) {
            let added = range.difference(&before);
            let during = before.union(&range);
            prop_assert_eq!(during.difference(&added), before);
        }

        #[test]
        fn counts_and_sets_agree_port_by_port(a in any_set(), b in any_set()) {
            let ports = |set: &PortSet| (0..=u16::MAX).filter(|port| set.contains(*port)).count();
            for (set, rule) in [
                (a.union(&b), (|a, b| a || b) as fn(bool, bool) -> bool),
                (a.intersection(&b), |a, b| a && b),
                (a.difference(&b), |a, b| a && !b),
            ] {
                prop_assert!((0..=u16::MAX).all(|port| set.contains(port) == rule(a.contains(port), b.contains(port))));
                prop_assert_eq!(set.count() as usize, ports(&set));
            }
        }
    }
}
