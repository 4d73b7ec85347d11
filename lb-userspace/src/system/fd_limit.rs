//! How many files this process may have open at a time: as many as the system lets it, since checks of many backends at once
//! need one each.

use std::{io, sync::OnceLock};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use lb_core::config::Probe;

/// What this process needs besides checks: maps, programs and sockets, and connections to the admin API.
const OWN: u64 = 256;

/// So few files may be open that the controller cannot start.
#[derive(Debug, thiserror::Error)]
#[error(
    "at most {limit} files may be open at a time, expected at least {OWN} and one for each backend that is checked: raise the hard \
     limit (`LimitNOFILE=` of the unit, `ulimit -Hn`)"
)]
pub struct TooFew {
    limit: u64,
}

/// The soft limit that this process began with.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Lets this process have as many files open as it may allow itself.
///
/// # Errors
///
/// When that is not enough to start.
pub fn raise() -> Result<(), TooFew> {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        BEFORE.get_or_init(|| soft);
        tracing::debug!(soft, hard, "the limit of open files is raised to the hard one");
        Ok(())
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let limit = limit();
    if limit < OWN { Err(TooFew { limit }) } else { Ok(()) }
}

/// Gives a child process the limit that this one began with: programs that use select(2) can do nothing with a higher one. It
/// makes system calls alone.
pub(crate) fn restore() -> io::Result<()> {
    if let Some(soft) = BEFORE.get() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, *soft, hard)?;
    }
    Ok(())
}

/// How many files may be open while all these checks are made at a time.
pub(crate) fn needed<'a>(checks: impl Iterator<Item = &'a Probe>) -> u64 {
    let each = |probe: &Probe| match probe {
        // Both ends of a pipe, the process, and what forking takes.
        Probe::Command(_) => 4,
        _ => 1,
    };
    OWN + checks.map(each).sum::<u64>()
}

/// How many files may be open.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}
