//! Whether this process may do what a balancer does; said once and precisely, before the kernel says `EPERM`.

use std::fmt;

use caps::{CapSet, Capability, CapsHashSet};

/// A privilege that is needed: one of `any_of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The narrow capability first, then wider ones that include it.
    pub any_of: &'static [Capability],
    /// What it is for.
    pub purpose: &'static str,
}

/// All that is needed.
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

/// Why the process may not do what a balancer does.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Capabilities are not in the effective set.
    #[error("{}", Explanation(.0))]
    Capabilities(Vec<Need>),
    /// The kernel does not tell.
    #[error("cannot read the capabilities of this process: {0}")]
    Unreadable(String),
}

/// Checks the effective capabilities of the calling thread.
///
/// # Errors
/// Names all that is missing, what each is for, and how to give it.
pub fn check() -> Result<(), Missing> {
    let effective = caps::read(None, CapSet::Effective).map_err(|error| Missing::Unreadable(error.to_string()))?;
    judge(&effective)
}

/// Checks a set of effective capabilities.
///
/// # Errors
/// As [`check`].
pub fn judge(effective: &CapsHashSet) -> Result<(), Missing> {
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
            "\nrun as root; or give them by systemd: AmbientCapabilities={}; or by: setcap {}+ep PATH_OF_THIS_PROGRAM",
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
        match judge(&effective.iter().copied().collect()) {
            Ok(()) => vec![],
            Err(Missing::Capabilities(needs)) => needs.iter().map(|need| need.any_of[0]).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn sets_lack_what_they_do_not_hold_or_include() {
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
    fn the_error_names_what_is_missing_what_for_and_the_remedies() {
        let text = judge(&[CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW].into_iter().collect())
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
