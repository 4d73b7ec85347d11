//! The request that moves virtual addresses between balancers.

use axum::extract::{Path, Query, State};

use super::Controller;
use crate::{
    admin::{
        ask::{Answer, change},
        query::NoQuery,
    },
    api::Problem,
    vrrp::Order,
};

/// Moves the addresses of a virtual router, or keeps this balancer backup.
///
/// `release`: hand the addresses over. `take`: become master. `maintain`: hand over and stay
/// backup. `resume`: end `maintain`.
#[utoipa::path(
    post,
    path = "/v1/vrrp/{name}/{verb}",
    params(
        ("name" = String, Path, description = "Name of the virtual router."),
        ("verb" = String, Path, description = "`release`, `take`, `maintain` or `resume`."),
    ),
    responses(
        (status = 200, description = "Done; the body is `null`.", body = ()),
        (status = 404, description = "There is no such virtual router or verb.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not possible in this state, such as `take` during maintenance.", body = Problem, content_type = "application/problem+json"),
        Problem,
    )
)]
pub(super) async fn order_vrrp(
    State(controller): State<Controller>,
    Path((name, verb)): Path<(String, String)>,
    _: Query<NoQuery>,
) -> Answer<()> {
    change(controller.control, move |control| {
        match verb.as_str() {
            "release" => control.order_vrrp(&name, Order::Release)?,
            "take" => control.order_vrrp(&name, Order::Take)?,
            "maintain" => control.maintain_vrrp(&name, true)?,
            "resume" => control.maintain_vrrp(&name, false)?,
            other => {
                return Err(Problem::not_found(format!(
                    "a virtual router has no verb `{}`; there are: release, take, maintain, resume",
                    other.escape_debug()
                )));
            }
        }
        Ok(())
    })
    .await
}
