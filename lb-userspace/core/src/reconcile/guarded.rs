//! Allow and deny lists: the source prefixes that a service accepts or refuses.

use ipnet::IpNet;
use lb_common::service::{GUARD_ALLOW, GUARD_DENY};

/// A source prefix in the lists of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guarded {
    /// Index of the service.
    pub service: u32,
    /// The source prefix, without host bits.
    pub sources: IpNet,
}

/// What a service does with a source prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuardVerdict {
    /// It may begin flows.
    Allow,
    /// It may not.
    Deny,
}

impl GuardVerdict {
    /// The value in the map.
    pub const fn number(self) -> u32 {
        match self {
            Self::Allow => GUARD_ALLOW,
            Self::Deny => GUARD_DENY,
        }
    }

    /// From the value in the map.
    pub const fn from_number(number: u32) -> Self {
        match number {
            GUARD_ALLOW => Self::Allow,
            _ => Self::Deny,
        }
    }

    /// The word in files and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}
