//! Who may do what: rights by user and group of the caller.

use std::{io, os::fd::AsRawFd, sync::Arc};

use nix::{libc, unistd};
use tokio::net::UnixStream;

/// What a caller may do. Each right includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and change.
    Admin,
}

/// Who opened a connection.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// A process of this machine.
    Local(Arc<Peer>),
    /// A caller over TCP, whose requests have a token.
    Remote,
}

/// The process at the other end of a Unix socket, with the rights that it had when it connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// User id; `None` if the kernel did not say.
    user: Option<u32>,
    /// Group ids, primary and supplementary.
    groups: Vec<u32>,
}

impl Peer {
    /// Asks the kernel.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        let mut groups = supplementary_groups(stream)?;
        groups.push(peer.gid());
        Ok(Self {
            user: Some(peer.uid()),
            groups,
        })
    }
}

/// The groups whose members may use the socket, as group ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    /// Members may read.
    pub(super) read: u32,
    /// Members may change things too.
    pub(super) admin: Option<u32>,
}

impl Groups {
    /// What a user with these groups may do. `own` is the user of this process.
    fn access(self, user: u32, groups: &[u32], own: u32) -> Access {
        if user == 0 || user == own || self.admin.is_some_and(|admin| groups.contains(&admin)) {
            Access::Admin
        } else if groups.contains(&self.read) {
            Access::Read
        } else {
            Access::None
        }
    }

    /// What a process may do.
    pub(super) fn access_of(self, peer: &Peer) -> Access {
        let own = unistd::geteuid().as_raw();
        peer.user
            .map_or(Access::None, |user| self.access(user, &peer.groups, own))
    }
}

/// The supplementary groups of the process at the other end (`SO_PEERGROUPS`, since Linux 4.13).
fn supplementary_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX of the kernel: no process has more.
    const MOST_GROUPS: usize = 65_536;
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes to `groups`, which has that many, and
        // then their number.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        if result == 0 {
            groups.truncate(bytes as usize / size_of::<u32>());
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || groups.len() >= MOST_GROUPS {
            return Err(error);
        }
        groups.resize(MOST_GROUPS, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_depend_on_user_and_groups() {
        let groups = Groups {
            read: 50,
            admin: Some(60),
        };
        for (user, member_of, then) in [
            (0, &[][..], Access::Admin),
            (7, &[], Access::Admin),
            (1000, &[1000], Access::None),
            (1000, &[1000, 50], Access::Read),
            (1000, &[60, 50], Access::Admin),
        ] {
            assert_eq!(groups.access(user, member_of, 7), then, "{user} {member_of:?}");
        }
        let no_admins = Groups { read: 50, admin: None };
        assert_eq!(no_admins.access(1000, &[0, 60], 7), Access::None);
    }
}
