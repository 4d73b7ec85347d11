//! Checks that this process has the capabilities that the controller needs, before the kernel
//! refuses something.

use std::fmt;

use caps::{CapSet, Capability, CapsHashSet};

/// A required capability: one of `any_of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The narrowest capability first, then wider ones that include it.
    pub any_of: &'static [Capability],
    /// What it is needed for.
    pub purpose: &'static str,
}

/// All required capabilities.
pub const NEEDS: [Need; 4] = [
    Need {
        any_of: &[Capability::CAP_BPF, Capability::CAP_SYS_ADMIN],
        purpose: "create maps and load the XDP program",
    },
    Need {
        any_of: &[Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN],
        purpose: "let the XDP program compute with packet pointers",
    },
    Need {
        any_of: &[Capability::CAP_NET_ADMIN],
        purpose: "attach to interfaces and resolve neighbours",
    },
    Need {
        any_of: &[Capability::CAP_NET_RAW],
        purpose: "send packets whose next hop is not resolved yet",
    },
];

/// Why the process cannot run the controller.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Capabilities are not in the effective set.
    #[error("{}", Explanation(.0))]
    Capabilities(Vec<Need>),
    /// The kernel does not report them.
    #[error("cannot read the capabilities of this process: {0}")]
    Unreadable(String),
}

/// Checks the effective capabilities of the calling thread.
///
/// # Errors
/// Names everything that is missing, its purpose, and how to grant it.
pub fn check() -> Result<(), Missing> {
    let effective = caps::read(None, CapSet::Effective).map_err(|error| Missing::Unreadable(error.to_string()))?;
    validate(&effective)
}

/// Checks a set of effective capabilities.
///
/// # Errors
/// As [`check`].
pub fn validate(effective: &CapsHashSet) -> Result<(), Missing> {
    let is_missing = |need: &Need| !need.any_of.iter().any(|capability| effective.contains(capability));
    let missing: Vec<_> = NEEDS.into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Missing::Capabilities(missing))
    }
}

/// The text of [`Missing::Capabilities`].
struct Explanation<'a>(&'a [Need]);

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("missing capabilities:")?;
        for need in self.0 {
            write!(f, "\n  ")?;
            for (i, capability) in need.any_of.iter().enumerate() {
                let separator = if i == 0 { "" } else { " (or " };
                write!(f, "{separator}{capability}")?;
            }
            let end = ")".repeat(need.any_of.len() - 1);
            write!(f, "{end}: to {}", need.purpose)?;
        }
        let narrow: Vec<_> = NEEDS.iter().map(|need| need.any_of[0].to_string()).collect();
        write!(
            f,
            "\nrun as root; or grant them by systemd: AmbientCapabilities={}; or by: setcap {}+ep PATH_OF_THIS_PROGRAM",
            narrow.join(" "),
            narrow.join(",").to_lowercase()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_CHROOT};

    fn missing(effective: &[Capability]) -> Vec<Capability> {
        match validate(&effective.iter().copied().collect()) {
            Ok(()) => vec![],
            Err(Missing::Capabilities(needs)) => needs.iter().map(|need| need.any_of[0]).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_need_is_missing_unless_a_capability_of_the_set_includes_it() {
        let table: [(&[Capability], &[Capability]); 6] = [
            (&[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW], &[]),
            (&[CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW], &[]),
            (&[], &[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW]),
            (&[CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW], &[CAP_PERFMON]),
            (&[CAP_SYS_ADMIN], &[CAP_NET_ADMIN, CAP_NET_RAW]),
            (&[CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_CHROOT], &[CAP_NET_RAW]),
        ];
        for (effective, expected) in table {
            assert_eq!(missing(effective), expected, "{effective:?}");
        }
    }

    #[test]
    fn the_error_names_what_is_missing_its_purpose_and_the_remedies() {
        let text = validate(&[CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW].into_iter().collect())
            .unwrap_err()
            .to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "missing capabilities:");
        assert_eq!(
            lines[1],
            "  CAP_PERFMON (or CAP_SYS_ADMIN): to let the XDP program compute with packet pointers"
        );
        assert_eq!(lines.len(), 3);
        for remedy in [
            "run as root",
            "AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_NET_RAW;",
            "setcap cap_bpf,cap_perfmon,cap_net_admin,cap_net_raw+ep",
        ] {
            assert!(lines[2].contains(remedy), "{remedy} in {}", lines[2]);
        }
    }

    #[test]
    fn the_set_of_this_thread_can_be_read() {
        assert!(!matches!(check(), Err(Missing::Unreadable(_))));
    }
}
