//! The limit of open files: raised to the hard limit, because many simultaneous checks need one
//! descriptor each.

use std::{io, sync::OnceLock};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use lb_core::config::Probe;

/// Descriptors that this process needs besides checks: maps, programs, sockets, connections of the
/// admin API.
const OWN: u64 = 256;

/// The limit of open files is too low to start.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, expected at least {OWN} and one for each checked backend: raise the hard limit \
     (`LimitNOFILE=` of the unit, `ulimit -Hn`)"
)]
pub struct TooFew {
    limit: u64,
}

/// The soft limit at the start of this process.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit of open files to the hard limit.
///
/// # Errors
///
/// When the hard limit is too low to start.
pub fn raise() -> Result<(), TooFew> {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        BEFORE.get_or_init(|| soft);
        tracing::debug!(soft, hard, "raised the limit of open files to the hard limit");
        Ok(())
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
    let limit = limit();
    if limit < OWN { Err(TooFew { limit }) } else { Ok(()) }
}

/// Restores the original limit in a child process: programs that use select(2) fail with a higher
/// one. Only makes system calls.
pub(crate) fn restore() -> io::Result<()> {
    if let Some(soft) = BEFORE.get() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, *soft, hard)?;
    }
    Ok(())
}

/// Number of descriptors for all these checks at the same time.
pub(crate) fn needed<'a>(checks: impl Iterator<Item = &'a Probe>) -> u64 {
    let each = |probe: &Probe| match probe {
        // Both ends of a pipe, the process, and what fork needs.
        Probe::Command(_) => 4,
        _ => 1,
    };
    OWN + checks.map(each).sum::<u64>()
}

/// The present limit.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}
