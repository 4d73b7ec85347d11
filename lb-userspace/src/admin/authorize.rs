//! Refuses requests that the caller may not make.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::watch;

use super::{
    access::{Access, Caller},
    access_rules::AccessRules,
};
use crate::api::Problem;

/// The right that a method needs. A method that is not known to read needs the right to change.
fn needed(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Access::Read,
        _ => Access::Admin,
    }
}

/// Refuses a request that the caller may not make by the rules in force.
pub(super) async fn authorize(
    State(rules): State<watch::Receiver<Arc<AccessRules>>>,
    request: Request,
    next: Next,
) -> Response {
    let rules = Arc::clone(&rules.borrow());
    let caller = request.extensions().get::<Caller>().cloned();
    let access = match &caller {
        // The server sets a caller for each connection. A missing one would be a bug, so refuse.
        None => Access::None,
        Some(Caller::Local(peer)) => rules.groups.access_of(peer),
        Some(Caller::Remote) => match bearer(request.headers()).map(|token| match &rules.tcp {
            Some(tcp) => tcp.credentials.access(token),
            None => Access::None,
        }) {
            None => return unauthorized("the request has no header `authorization: Bearer TOKEN`", false),
            Some(Access::None) => return unauthorized("the token is unknown", true),
            Some(access) => access,
        },
    };
    if access >= needed(request.method()) {
        return next.run(request).await;
    }
    let detail = match (access, caller) {
        (Access::None, _) => {
            "your user may not use this API: use sudo, or join the group in `read_group` or `admin_group`"
        }
        (_, Some(Caller::Remote)) => "this token may only read: use the admin token",
        _ => "your user may only read: use sudo, or join the group in `admin_group`",
    };
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

/// RFC 6750, section 2.1: "Authorization: Bearer"; RFC 9110, section 11.1: the scheme is
/// case-insensitive.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// RFC 9110, section 15.5.2: "The server generating a 401 response MUST send a WWW-Authenticate
/// header field".
fn unauthorized(detail: &str, is_wrong: bool) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let challenge = if is_wrong {
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
    fn a_method_that_does_not_read_needs_the_right_to_change() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(needed(&method), Access::Read);
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE", "WHATEVER"] {
            assert_eq!(needed(&method.parse().unwrap()), Access::Admin, "{method}");
        }
    }
}
