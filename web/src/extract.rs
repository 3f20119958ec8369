//! Path and query extractors whose refusals are problems, and name the parameter but not its value.

use axum::{
    extract::{
        FromRequestParts, OptionalFromRequestParts,
        path::ErrorKind,
        rejection::{PathRejection, QueryRejection},
    },
    http::request::Parts,
};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

use crate::problem::Problem;

/// Path parameters. What does not parse cannot exist, so it is answered with 404.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

/// Query parameters. Types should deny unknown fields: a misspelt filter must not become a wider search.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

/// What every interaction of FHIR takes (<https://hl7.org/fhir/R4/http.html#parameters>). Beside parameters of its own, a
/// route says these two itself.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FormatParams {
    /// The media type of the answer, instead of `Accept`: `json`, `application/json` or `application/fhir+json`.
    #[serde(rename = "_format")]
    #[param(rename = "_format", example = "json")]
    pub format: Option<String>,
    /// Whether the answer is put into lines for people.
    #[serde(rename = "_pretty")]
    #[param(rename = "_pretty")]
    pub pretty: Option<bool>,
}

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = <axum::extract::Path<T> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|rejection| refuse_path(&rejection))
    }
}

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| refuse_query(&rejection))
    }
}

fn refuse_path(rejection: &PathRejection) -> Problem {
    match rejection {
        PathRejection::FailedToDeserializePathParams(failed) => match failed.kind() {
            ErrorKind::WrongNumberOfParameters { .. } | ErrorKind::UnsupportedType { .. } => wiring_fault(),
            _ => Problem::not_found(),
        },
        _ => wiring_fault(),
    }
}

fn wiring_fault() -> Problem {
    tracing::error!("a handler's path parameters do not match its route");
    Problem::internal()
}

fn refuse_query(rejection: &QueryRejection) -> Problem {
    let text = std::error::Error::source(rejection).map(ToString::to_string).unwrap_or_default();
    let (name, detail) = crate::json::fault::query_fault(&text);
    Problem::invalid_parameter(&name, detail)
}

/// So that handlers can take `Option<Path<T>>`, as with axum's own.
impl<S, T> OptionalFromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send + 'static,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Problem> {
        let path = <axum::extract::Path<T> as OptionalFromRequestParts<S>>::from_request_parts(parts, state).await;
        path.map(|path| path.map(|path| Self(path.0))).map_err(|rejection| refuse_path(&rejection))
    }
}
