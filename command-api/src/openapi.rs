//! What the OpenAPI document says of all routes alike.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, ToSchema};

use nexus_web::problem::ProblemBody;

/// The document's title page.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "NexusHealth commands",
        description = "The write door: every accepted command becomes sealed events in the log. \
            A task route answers with the resource's `Location`, its sequence as `ETag`, and `Nexus-Position`, which a \
            query may carry to read its own write. Send an `Idempotency-Key` with whatever you may have to repeat: the \
            same key and body get the first answer again. Send `If-Match` to decide on a certain version. \
            A body may come compressed (`Content-Encoding: gzip`); all limits hold for what it decodes to. \
            Every refusal is an RFC 9457 problem whose `type` is a page of the documentation; on `/fhir`, who accepts \
            `application/fhir+json` by name gets the same as an OperationOutcome.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemBody)),
    security(("bearer" = [])),
    modifiers(&BearerToken),
    tags(
        (name = "patients", description = "Who the patients are"),
        (name = "erasure", description = "Forgetting a patient for good, and what keeps it from happening"),
        (name = "encounters", description = "Visits and stays"),
        (name = "observations", description = "Vital signs, laboratory values and other findings"),
        (name = "conditions", description = "Problems and diagnoses"),
        (name = "allergies", description = "Allergies and intolerances"),
        (name = "medication orders", description = "Prescriptions"),
        (name = "appointments", description = "Times of practitioners"),
        (name = "consents", description = "What patients agree to"),
        (name = "emergency access", description = "Records opened in an emergency, and their review"),
        (name = "alerts", description = "Stays that somebody has to look after, as a reactor finds them"),
        (name = "records", description = "Any other FHIR R4 resource of a patient"),
        (name = "directory", description = "Practitioners, organizations, locations: facts about no patient"),
        (name = "fhir", description = "FHIR R4 bundles")
    )
)]
pub struct ApiDocument;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Headers that every command takes.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes headers that `Call` reads")]
pub struct CommandHeaders {
    /// Makes the request safe to repeat (draft-ietf-httpapi-idempotency-key-header): the same key and body get the first
    /// answer again, with `Idempotency-Replayed: true`, whether or not it stored anything. A refusal of a single command by
    /// a rule, a claim (409) or `If-Match` (412) is such an answer: a copy of the request that arrives late must not take
    /// effect after its sender was told no, so ask again under a new key. What is refused for its form or its caller, a
    /// transaction that is refused as a whole, and what fails (5xx) is not kept and is judged again. The same key with
    /// another body is refused with 422; while the first request is being carried out, the same one is refused with 409.
    #[param(rename = "Idempotency-Key", max_length = 255)]
    idempotency_key: Option<String>,
    /// The version on which to decide, as in `ETag`; another one is refused with 412.
    #[param(rename = "If-Match", example = "\"3\"")]
    if_match: Option<String>,
    /// `wait=kafka`: answer only once the events are in Kafka. `return=minimal`: answer without a body
    /// (a bundle's has one all the same: it says where the entries are).
    #[param(rename = "Prefer", example = "wait=kafka")]
    prefer: Option<String>,
    /// How long `wait=kafka` may take, in milliseconds; ten seconds at most.
    #[param(rename = "Nexus-Wait-Ms", example = 2000)]
    wait_ms: Option<u64>,
    /// W3C trace context, carried on to the read models.
    #[param(rename = "traceparent")]
    traceparent: Option<String>,
}

/// Answers that any command may get beside its own.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers")]
pub enum Refusals {
    /// Stored, but not in Kafka within the bounded wait of `Prefer: wait=kafka`: the same body with `published: false`.
    #[response(status = 202)]
    NotYetPublished,
    /// Not JSON, not the gzip that it says, nested too deeply, a repeated, unknown or missing member, a wrong type, or a bad
    /// header.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(#[to_schema] ProblemBody),
    /// No bearer token, or one that does not hold.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(#[to_schema] ProblemBody),
    /// The caller's roles do not allow it.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] ProblemBody),
    /// No such thing, or none that the caller may know of.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] ProblemBody),
    /// The body came too slowly, or not to its end within the time there is.
    #[response(status = 408, content_type = "application/problem+json")]
    BodyTooSlow(#[to_schema] ProblemBody),
    /// A rule refuses in the state that things are in; something unique is taken; the same request is being carried out.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemBody),
    /// `If-Match` does not hold, or the `ifMatch` of an entry of a transaction.
    #[response(status = 412, content_type = "application/problem+json")]
    VersionMismatch(#[to_schema] ProblemBody),
    /// The body, as it is when decoded, or the number of entries is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemBody),
    /// The body is of a type or in a content coding that is not taken here; `Accept` or `Accept-Encoding` lists what is.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(#[to_schema] ProblemBody),
    /// A value can't be right; a reference leads nowhere; the key belongs to another request.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(#[to_schema] ProblemBody),
    /// The caller's quota of requests is used up; try again after `Retry-After`. `RateLimit` tells what is left of it.
    #[response(status = 429, content_type = "application/problem+json")]
    RateLimited(#[to_schema] ProblemBody),
    /// A fault of ours.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] ProblemBody),
    /// Overloaded (too many requests, or too many bytes of bundles), or a part of the platform is away; try again after `Retry-After`.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemBody),
    /// Whether it took effect is unknown. The same `Idempotency-Key` finds out.
    #[response(status = 504, content_type = "application/problem+json")]
    OutcomeUnknown(#[to_schema] ProblemBody),
}

/// A FHIR R4 Bundle of type `transaction` or `batch`.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({
    "resourceType": "Bundle", "type": "transaction",
    "entry": [{
        "fullUrl": "urn:uuid:018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c",
        "resource": {"resourceType": "Patient", "name": [{"family": "Example", "given": ["Ada"]}], "gender": "female"},
        "request": {"method": "POST", "url": "Patient"}
    }]
}))]
#[expect(dead_code, reason = "describes a body")]
pub struct BundleBody(serde_json::Value);

/// A FHIR R4 Bundle of type `transaction-response` or `batch-response`; rules that history breaks are in `outcome`.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({
    "resourceType": "Bundle", "type": "transaction-response",
    "entry": [{"response": {
        "status": "201 Created", "location": "Patient/018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c/_history/1",
        "etag": "W/\"1\"", "lastModified": "2026-11-24T08:00:00.000000Z"
    }}]
}))]
#[expect(dead_code, reason = "describes a body")]
pub struct BundleResponseBody(serde_json::Value);
