//! Which sources a service takes or refuses.

use ipnet::IpNet;
use lb_common::service::{GUARD_ALLOW, GUARD_DENY};

/// Some sources, and the service that judges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guarded {
    /// Index of the service.
    pub service: u32,
    /// The sources, without host bits.
    pub sources: IpNet,
}

/// What a service does with sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuardVerdict {
    /// They may begin flows.
    Allow,
    /// They may not.
    Deny,
}

impl GuardVerdict {
    /// The number in the map.
    pub const fn number(self) -> u32 {
        match self {
            Self::Allow => GUARD_ALLOW,
            Self::Deny => GUARD_DENY,
        }
    }

    /// From the number in a map.
    pub const fn from_number(number: u32) -> Self {
        match number {
            GUARD_ALLOW => Self::Allow,
            _ => Self::Deny,
        }
    }

    /// The word that files and commands use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}
