//! The description of the read door, generated from its routes.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};

use super::router;

/// The name of the security scheme.
const BEARER: &str = "bearer";

/// The whole description, as `GET /openapi.json` serves it.
pub fn openapi() -> OpenApi {
    complete(router::documented().into_openapi())
}

/// What is said once for all routes.
pub(super) fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("NexusHealth query API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The read door. Lists answer `{\"items\": […], \"next\": cursor or null}`. A request that shows the \
             `Nexus-Position` of a write is answered once the read model has seen it. Every request is recorded in the \
             access log before it is answered; the header `Nexus-Purpose` says what it is for (TREAT, ETREAT, CAREMGT, \
             HOPERAT, HPAYMT, HRESCH, PATRQT, PUBHLTH or HCOMPL).",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .contact(Some(ContactBuilder::new().name(Some("NexusHealth")).build()))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, [])]))
        .build()
}

/// Adds what the routes do not bring along.
pub(super) fn complete(mut description: OpenApi) -> OpenApi {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = description.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    description
}
