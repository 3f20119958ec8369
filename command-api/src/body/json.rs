//! What every command is read from: path, caller, headers, body.

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use nexus_domain::fhir::Resource;
use nexus_web::extract::Path;
use nexus_web::json::{RawJson, parse};
use nexus_web::pipeline::{Authenticated, RequestId};
use nexus_web::problem::Problem;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::call::Call;
use crate::refusal::Refusal;

/// A command: who asks, how, and what.
pub struct Command<T> {
    pub call: Call,
    pub body: T,
}

/// The body of a command that needs none: nothing, or `{}`.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoBody {}

/// A FHIR resource as the body.
#[derive(ToSchema)]
#[schema(value_type = Object)]
pub struct ResourceBody(Value);

impl<'de> Deserialize<'de> for ResourceBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self)
    }
}

impl ResourceBody {
    /// The body as a resource.
    pub fn into_resource(self) -> Result<Resource, Refusal> {
        resource(self.0)
    }
}

/// A FHIR resource from its JSON.
pub fn resource(json: Value) -> Result<Resource, Refusal> {
    Ok(Resource::parse(json)?)
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Command<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (call, json) = read_request(request, state).await?;
        Ok(Self { call, body: parse(&json)? })
    }
}

/// Caller, headers and body of a request. The body has passed size, nesting and repeated members; none at all is `{}`.
async fn read_request<S: Send + Sync>(request: Request, state: &S) -> Result<(Call, Bytes), Problem> {
    let (mut parts, body) = request.into_parts();
    let Authenticated(caller) = Authenticated::from_request_parts(&mut parts, state).await?;
    let RequestId(request_id) =
        RequestId::from_request_parts(&mut parts, state).await.unwrap_or_else(|never| match never {});
    let none = !parts.headers.contains_key(header::CONTENT_TYPE) && body.size_hint().exact() == Some(0);
    let json = if none {
        Bytes::from_static(b"{}")
    } else {
        let request = Request::from_parts(parts.clone(), body);
        RawJson::from_request(request, state).await?.0
    };
    Ok((Call::new(&parts, caller, request_id, &json)?, json))
}

/// The id in a path. What is no UUID can't name anything here.
pub struct Id(pub Uuid);

/// A FHIR type and an id in a path.
pub struct TypedId {
    pub resource_type: String,
    pub id: Uuid,
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::<Uuid>::from_request_parts(parts, state).await?;
        Ok(Self(id))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TypedId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((resource_type, id)) = Path::<(String, Uuid)>::from_request_parts(parts, state).await?;
        Ok(Self { resource_type, id })
    }
}
