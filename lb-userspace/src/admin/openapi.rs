//! The OpenAPI document of the API. Its requests come from `routes`, its schemas from the types.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder, response,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::api::Problem;

/// What the document says beside requests and schemas.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "lbd admin API",
        version = "1",
        description = "Shows and controls a load balancer.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(Problem)),
    security(("bearer" = []), ()),
    modifiers(&Bearer)
)]
pub(super) struct Description;

/// Adds the security scheme.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "Token over TCP. On the Unix socket, the kernel says who the caller is.",
        ));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}

/// The response to every request that fails.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        let schema = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description("The request failed.")
            .content(Self::CONTENT_TYPE, content)
            .build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}
