//! Who may do what: decided by who is at the other end of the Unix socket, or by the token of a request.

use std::{io, os::fd::AsRawFd, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use nix::{libc, unistd};
use tokio::{net::UnixStream, sync::watch};

use super::entrance::Ways;
use crate::api::Problem;

/// What somebody may do. The greater includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and change.
    Admin,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// A process of this machine.
    Local(Arc<Peer>),
    /// Somebody whose requests bring a token.
    Remote,
}

/// The process at the other end of a Unix socket, as it was when it connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Its user; none: not known.
    user: Option<u32>,
    groups: Vec<u32>,
}

impl Peer {
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

/// The groups whose members may use the socket, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    /// May read.
    pub(super) read: u32,
    /// May change things too.
    pub(super) admin: Option<u32>,
}

impl Groups {
    /// What a user in these groups may do, where `own` is the user of this process.
    fn access(self, user: u32, groups: &[u32], own: u32) -> Access {
        if user == 0 || user == own || self.admin.is_some_and(|admin| groups.contains(&admin)) {
            Access::Admin
        } else if groups.contains(&self.read) {
            Access::Read
        } else {
            Access::None
        }
    }

    /// What the process at the other end of the socket may do.
    pub(super) fn access_of(self, peer: &Peer) -> Access {
        let own = unistd::geteuid().as_raw();
        peer.user
            .map_or(Access::None, |user| self.access(user, &peer.groups, own))
    }
}

/// The supplementary groups of the process at the other end (`SO_PEERGROUPS`, since Linux 4.13).
fn supplementary_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    // The kernel's NGROUPS_MAX: no process has more.
    const MOST_GROUPS: usize = 65_536;
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes to `groups`, which has that many, and then their number.
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

/// What a request needs: whatever is not reading is changing.
fn needed(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Access::Read,
        _ => Access::Admin,
    }
}

/// Lets through what the caller may do as things are now.
pub(super) async fn authorize(
    State(ways): State<watch::Receiver<Arc<Ways>>>,
    request: Request,
    next: Next,
) -> Response {
    let now = Arc::clone(&ways.borrow());
    let caller = request.extensions().get::<Caller>().cloned();
    let access = match &caller {
        // A connection without a caller would be a fault of the server; then nobody is let in.
        None => Access::None,
        Some(Caller::Local(peer)) => now.groups.access_of(peer),
        Some(Caller::Remote) => match bearer(request.headers()).map(|token| match &now.remote {
            Some(remote) => remote.credentials.access(token),
            None => Access::None,
        }) {
            None => return unauthorized("the request has no `authorization: Bearer TOKEN`", false),
            Some(Access::None) => return unauthorized("the token is not known here", true),
            Some(access) => access,
        },
    };
    if access >= needed(request.method()) {
        return next.run(request).await;
    }
    let detail = match (access, caller) {
        (Access::None, _) => {
            "your user may not use this API: use sudo, or join the group that `read_group` or `admin_group` names"
        }
        (_, Some(Caller::Remote)) => "this token may read, but not change anything: use the admin token",
        _ => "your user may read, but not change anything: use sudo, or join the group that `admin_group` names",
    };
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

/// RFC 6750, section 2.1: "Authorization: Bearer"; RFC 9110, section 11.1: the scheme is case-insensitive.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// RFC 9110, section 15.5.2: "The server generating a 401 response MUST send a WWW-Authenticate header field".
fn unauthorized(detail: &str, wrong: bool) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let challenge = if wrong {
        "Bearer realm=\"lbd\", error=\"invalid_token\""
    } else {
        "Bearer realm=\"lbd\""
    };
    let challenge = HeaderValue::from_static(challenge);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_do_what_depends_on_user_and_groups() {
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

    #[test]
    fn whatever_is_not_reading_is_changing() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(needed(&method), Access::Read);
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE", "WHATEVER"] {
            assert_eq!(needed(&method.parse().unwrap()), Access::Admin, "{method}");
        }
    }
}
