//! When each test runs: which tests run beside each other, and which run only at night.

use super::programs::{Program, Test};

/// Which tests run at the same time. Groups run one after the other, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// One test per CPU: tests that compute.
    Compute,
    /// Several tests per CPU: tests that mostly wait for processes in namespaces.
    Network,
    /// One test at a time: tests that measure time, or keep all CPUs busy.
    Alone,
}

impl Group {
    /// How many of its tests run at the same time on a machine with that many CPUs.
    pub(super) fn width(self, cpus: usize) -> usize {
        match self {
            Self::Compute => cpus,
            Self::Network => 2 * cpus,
            Self::Alone => 1,
        }
    }
}

/// An exception from the defaults: unit tests compute, integration tests wait.
struct Rule {
    /// The beginning of the names of tests, after the label of their program.
    tests: &'static str,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    In(Group),
    /// Only with `--all`, alone.
    Nightly,
}

const RULES: &[Rule] = &[
    Rule {
        tests: "packets ",
        place: Place::In(Group::Compute),
    },
    Rule {
        tests: "packets hammer::",
        place: Place::In(Group::Alone),
    },
    Rule {
        tests: "traffic upgrade::ten_thousand_services",
        place: Place::In(Group::Alone),
    },
    Rule {
        tests: "vrrp stalls::busy_processors",
        place: Place::In(Group::Alone),
    },
    Rule {
        tests: "vrrp pair::a_clean_stop_is_heard_on_both_sides",
        place: Place::Nightly,
    },
];

/// The last rule that fits a test.
fn rule(id: &str) -> Option<Place> {
    let mut latest_first = RULES.iter().rev();
    latest_first
        .find(|rule| id.starts_with(rule.tests))
        .map(|rule| rule.place)
}

/// The group of a test.
pub(super) fn group(test: &Test<'_>, is_area: bool) -> Group {
    match rule(&test.id()) {
        Some(Place::In(group)) => group,
        Some(Place::Nightly) => Group::Alone,
        None if is_area => Group::Network,
        None => Group::Compute,
    }
}

/// Whether a test runs only with `--all`.
pub(super) fn is_nightly(test: &Test<'_>) -> bool {
    matches!(rule(&test.id()), Some(Place::Nightly))
}

/// Rules that fit none of the tests of these programs, although a program of that label is among
/// them.
pub(super) fn stale<'a>(programs: &'a [Program], tests: &'a [Test<'_>]) -> impl Iterator<Item = &'static str> {
    let concerned = |rule: &&Rule| {
        let label = rule.tests.split(' ').next();
        programs.iter().any(|program| Some(program.label.as_str()) == label)
    };
    let fits = |rule: &Rule| tests.iter().any(|test| test.id().starts_with(rule.tests));
    RULES
        .iter()
        .filter(concerned)
        .filter(move |rule| !fits(rule))
        .map(|rule| rule.tests)
}
