//! Every route of the read door on one screen.

use axum::{Json, Router, routing::get};
use nexus_web::pipeline::docs_page;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{QueryApi, erasure, health, lag_feed, openapi, parked, ward_feed};
use crate::{
    access_grants, access_log, appointments, fhir_resources, patient_chart, patient_directory, population, timeline,
    vital_signs, ward_alerts, ward_census,
};

/// The routes that need a token, and those that do not.
pub fn router(api: QueryApi) -> (Router, Router) {
    let (protected, description) = documented().split_for_parts();
    let open = documentation(openapi::complete(description)).merge(erasure::keys(api.keyring()));
    (protected.with_state(api), open)
}

/// The routes with their descriptions.
pub(super) fn documented() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(patient_directory::router())
        .merge(patient_chart::router())
        .merge(vital_signs::router())
        .merge(timeline::router())
        .merge(ward_census::router())
        .merge(ward_alerts::router())
        .merge(ward_feed::router())
        .merge(appointments::router())
        .merge(population::router())
        .merge(fhir_resources::router())
        .merge(erasure::router())
        .merge(access_log::router())
        .merge(access_grants::router())
        .merge(health::router())
        .merge(lag_feed::router())
        .merge(parked::router())
}

fn documentation(description: OpenApi) -> Router {
    let page = SwaggerUi::new("/docs").config(Config::new(["/openapi.json"]));
    let description = get(move || std::future::ready(Json(description.clone())));
    docs_page(Router::new().merge(page)).route("/openapi.json", description)
}
