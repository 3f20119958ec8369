//! Path and query extractors whose refusals are problems, and name the parameter but not its value.

use axum::{
    extract::{
        FromRequestParts, OptionalFromRequestParts,
        path::ErrorKind,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Path parameters. What does not parse cannot exist, so it is answered with 404.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

/// Query parameters. Types should deny unknown fields: a misspelt filter must not become a wider search.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

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

/// Refuses with 406 unless one of the JSON types that we speak would do. No `Accept` at all accepts everything.
pub fn require_accept(headers: &HeaderMap, offered: &[&str], named: &'static str) -> Result<(), Problem> {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .peekable();
    if ranges.peek().is_none() || ranges.any(|range| accepts(range, offered)) {
        return Ok(());
    }
    Err(Problem::not_acceptable(named))
}

fn accepts(range: &str, offered: &[&str]) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let media_range = parts.next().unwrap_or_default().to_ascii_lowercase();
    let refused = parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
    let fits = |offer: &&str| {
        media_range == **offer
            || media_range == "*/*"
            || media_range.strip_suffix("/*").is_some_and(|family| offer.split('/').next() == Some(family))
    };
    !refused && offered.iter().any(fits)
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
