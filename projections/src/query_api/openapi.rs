//! The description of the read door, generated from its routes.

use std::collections::BTreeMap;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr, Response};

use nexus_web::outcome;

use super::router;

/// The name of the security scheme.
const BEARER: &str = "bearer";
/// What every route may answer instead of what was asked for. Routes say `default` for all of them, so that none forgets
/// one; the description names each, so that a client can tell a documented answer from a mistake.
const PROBLEMS: &[(u16, &str)] = &[
    (400, "A parameter or header does not have the expected form."),
    (401, "No bearer token, or one that does not hold."),
    (403, "The caller may not do this."),
    (404, "No such thing, or none that the caller may know of."),
    (406, "Another media type than ours is asked for."),
    (429, "The caller's quota of requests is used up; see Retry-After and RateLimit."),
    (500, "Something went wrong on our side."),
    (503, "Overloaded, a store is away, or the read model has not seen that write yet; see Retry-After."),
];

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
             HOPERAT, HPAYMT, HRESCH, PATRQT, PUBHLTH or HCOMPL). Every refusal is an RFC 9457 problem; under `/fhir`, who \
             accepts `application/fhir+json` by name gets the same as an OperationOutcome.",
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
    for operation in description.paths.paths.values_mut().filter_map(|item| item.get.as_mut()) {
        name_problems(&mut operation.responses.responses);
    }
    outcome::describe(&mut description);
    description
}

/// Replaces `default` by each status that it stands for.
fn name_problems(responses: &mut BTreeMap<String, RefOr<Response>>) {
    let Some(RefOr::T(default)) = responses.remove("default") else { return };
    for (status, description) in PROBLEMS {
        let mut response = default.clone();
        (*description).clone_into(&mut response.description);
        responses.entry(status.to_string()).or_insert(RefOr::T(response));
    }
}
