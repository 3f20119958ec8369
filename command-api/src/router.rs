//! Every route on one screen.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::routing::get;
use nexus_web::outcome;
use nexus_web::pipeline::{Pipeline, docs_page};
use nexus_web::server::{Readiness, operational_routes};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::app::App;
use crate::openapi::ApiDocument;
use crate::{
    alerts, allergies, appointments, conditions, consents, directory, emergencies, encounters, erasure, fhir,
    medication_orders, observations, patients, records,
};

/// The commands, and the document that describes them.
pub fn commands() -> (Router<App>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(ApiDocument::openapi())
        .merge(patients::routes())
        .merge(erasure::routes())
        .merge(encounters::routes())
        .merge(observations::routes())
        .merge(conditions::routes())
        .merge(allergies::routes())
        .merge(medication_orders::routes())
        .merge(appointments::routes())
        .merge(consents::routes())
        .merge(emergencies::routes())
        .merge(alerts::routes())
        .merge(records::routes())
        .merge(directory::routes())
        .merge(fhir::routes())
        .split_for_parts();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    outcome::describe(&mut document);
    (router, document)
}

/// The whole door: commands behind the pipeline; documentation and operational routes need no token.
pub fn router(app: App, pipeline: &Pipeline, readiness: Readiness) -> Router {
    let (commands, document) = commands();
    pipeline.wrap(commands.with_state(app), documentation(&document)).merge(operational_routes(readiness))
}

/// `/openapi.json`, and a page to try it.
fn documentation(document: &OpenApi) -> Router {
    let json = document.to_json().unwrap_or_default();
    let answer = move || {
        let json = json.clone();
        async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json) }
    };
    let config = utoipa_swagger_ui::Config::from("/openapi.json").persist_authorization(false);
    let page = SwaggerUi::new("/docs").config(config);
    Router::new().route("/openapi.json", get(answer)).merge(docs_page(page.into()))
}
