//! The answer to an accepted task command, as HTTP has it.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nexus_domain::types::Note;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::call::Prefer;
use crate::executor::Answer;

pub const NEXUS_POSITION: HeaderName = HeaderName::from_static("nexus-position");
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A command that was accepted.
pub struct Accepted {
    pub answer: Answer,
    pub prefer: Prefer,
}

/// The body of an accepted command.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c", "type": "Observation", "sequence": 1, "position": "3-1042", "notes": []
}))]
pub struct AcceptedBody {
    pub id: Uuid,
    /// The FHIR resource type.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// How many events the resource has; also the `ETag`.
    pub sequence: i64,
    /// The position token; empty if there was nothing to store. Send it as `Nexus-Position` to a query to read your own write.
    pub position: String,
    /// Rules that recorded history breaks.
    pub notes: Vec<NoteBody>,
    /// Only with `Prefer: wait=kafka`, and only if the wait ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<bool>,
}

/// A rule that recorded history breaks.
#[derive(Serialize, ToSchema)]
pub struct NoteBody {
    pub rule: String,
    pub text: String,
}

impl From<&Note> for NoteBody {
    fn from(note: &Note) -> Self {
        Self { rule: note.rule.clone(), text: note.text.clone() }
    }
}

impl Accepted {
    fn status(&self) -> StatusCode {
        match (self.answer.published, self.answer.told.created) {
            (Some(false), _) => StatusCode::ACCEPTED,
            (_, true) => StatusCode::CREATED,
            (_, false) => StatusCode::OK,
        }
    }

    fn position(&self) -> String {
        self.answer.receipt.as_ref().map(nexus_event_store::Receipt::token).unwrap_or_default()
    }

    fn body(&self) -> AcceptedBody {
        let told = &self.answer.told;
        AcceptedBody {
            id: told.id,
            resource_type: told.resource_type.clone(),
            sequence: told.sequence,
            position: self.position(),
            notes: told.notes.iter().map(NoteBody::from).collect(),
            published: self.answer.published.filter(|published| !published),
        }
    }
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let told = &self.answer.told;
        let mut headers = HeaderMap::new();
        set(&mut headers, header::LOCATION, &location(&told.resource_type, told.id));
        set(&mut headers, header::ETAG, &format!("\"{}\"", told.sequence));
        set_outcome(&mut headers, &self.position(), self.answer.replayed, self.answer.published);
        if self.prefer.minimal && self.answer.published != Some(false) {
            headers.append(PREFERENCE_APPLIED, HeaderValue::from_static("return=minimal"));
            return (self.status(), headers).into_response();
        }
        (self.status(), headers, Json(self.body())).into_response()
    }
}

/// Where the read door has a resource.
pub fn location(resource_type: &str, id: Uuid) -> String {
    if resource_type == "Patient" { format!("/v1/patients/{id}") } else { format!("/fhir/{resource_type}/{id}") }
}

/// The headers that commands and bundles have in common.
pub fn set_outcome(headers: &mut HeaderMap, position: &str, replayed: bool, published: Option<bool>) {
    if !position.is_empty() {
        set(headers, NEXUS_POSITION, position);
    }
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    if published == Some(true) {
        headers.append(PREFERENCE_APPLIED, HeaderValue::from_static("wait=kafka"));
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Ids, numbers and type names are always good header values.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
