//! Where a feed goes on: the id of the last event that the client has seen.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use nexus_web::problem::Problem;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use crate::query_api::QueryApi;

const NAME: &str = "Last-Event-ID";

/// The request's `Last-Event-ID`, if it has one.
#[derive(Debug)]
pub(crate) struct LastEventId(Option<String>);

impl LastEventId {
    /// What the id says, which must be one of this feed.
    pub(crate) fn read<K: DeserializeOwned>(&self, api: &QueryApi, scope: &str) -> Result<Option<K>, Problem> {
        let detail = "Not an id of this feed. Open it without one.";
        let key = api.cursor_key(scope, self.0.as_deref());
        key.map_err(|_| Problem::invalid_parameter(NAME, detail))
    }
}

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = parts.headers.get(NAME).map(|value| value.to_str().map(str::to_owned)).transpose();
        let text = text.map_err(|_| Problem::invalid_parameter(NAME, "Plain ASCII is expected."))?;
        // What a browser sends that has seen no id.
        Ok(Self(text.filter(|text| !text.is_empty())))
    }
}

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The id of the last event that was seen: the feed goes on behind it.";
        let parameter = ParameterBuilder::new()
            .name(NAME)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        vec![parameter.build()]
    }
}
