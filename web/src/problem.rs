//! The only builder of RFC 9457 bodies.
//!
//! Every refusal has one of the [`TYPES`], each with a page in `docs/problems/`. A body names elements (JSON pointers) and
//! rules, never a value that somebody sent: `detail` is written by us, for people, and holds nothing about a patient.

use std::{borrow::Cow, error::Error, fmt};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use nexus_auth::TokenError;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The media type of every refusal.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// How many faults one body lists; a file of rubbish must not become a larger answer.
pub const ERRORS_MAX: usize = 100;
/// The longest JSON pointer in a body, in bytes.
const POINTER_BYTES_MAX: usize = 256;
/// The longest name of an element, in bytes; FHIR R4's longest have some 40.
const NAME_BYTES_MAX: usize = 64;

/// One kind of refusal: the last part of its `type`, its status, what FHIR calls it, and its fixed title.
#[derive(Debug, PartialEq, Eq)]
pub struct ProblemType {
    pub slug: &'static str,
    pub status: StatusCode,
    /// A code of <https://hl7.org/fhir/R4/valueset-issue-type.html>.
    pub issue: &'static str,
    pub title: &'static str,
}

macro_rules! problem_types {
    ($($name:ident = $slug:literal, $status:ident, $issue:literal, $title:literal;)*) => {
        $(pub static $name: ProblemType =
            ProblemType { slug: $slug, status: StatusCode::$status, issue: $issue, title: $title };)*
        /// Every type there is.
        pub static TYPES: &[&ProblemType] = &[$(&$name),*];
    };
}

problem_types! {
    MALFORMED_JSON = "malformed-json", BAD_REQUEST, "structure", "The body is not JSON";
    MALFORMED_ENCODING = "malformed-encoding", BAD_REQUEST, "structure", "The body is not encoded as it says";
    INVALID_BODY = "invalid-body", BAD_REQUEST, "structure", "The body does not have the expected form";
    INVALID_PARAMETER = "invalid-parameter", BAD_REQUEST, "invalid", "A parameter or header does not have the expected form";
    INVALID_VALUE = "invalid-value", UNPROCESSABLE_ENTITY, "invalid", "A value is not acceptable";
    UNRESOLVED_REFERENCE = "unresolved-reference", UNPROCESSABLE_ENTITY, "not-found", "A reference leads nowhere";
    BODY_TOO_LARGE = "body-too-large", PAYLOAD_TOO_LARGE, "too-long", "The body is too large";
    TOO_DEEP = "too-deep", BAD_REQUEST, "structure", "The body is nested too deeply";
    BATCH_TOO_LARGE = "batch-too-large", PAYLOAD_TOO_LARGE, "too-costly", "The batch has too many entries";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "not-supported", "The media type is not supported";
    NOT_ACCEPTABLE = "not-acceptable", NOT_ACCEPTABLE, "not-supported", "No acceptable representation";
    NOT_FOUND = "not-found", NOT_FOUND, "not-found", "Not found";
    METHOD_NOT_ALLOWED = "method-not-allowed", METHOD_NOT_ALLOWED, "not-supported", "The method is not allowed here";
    BODY_TOO_SLOW = "body-too-slow", REQUEST_TIMEOUT, "timeout", "The body comes too slowly";
    UNAUTHENTICATED = "unauthenticated", UNAUTHORIZED, "login", "A valid bearer token is needed";
    FORBIDDEN = "forbidden", FORBIDDEN, "forbidden", "Not permitted";
    NO_CARE_RELATIONSHIP = "no-care-relationship", FORBIDDEN, "forbidden", "No care relationship with the patient";
    RULE_VIOLATED = "rule-violated", CONFLICT, "business-rule", "A rule forbids this";
    CLAIM_TAKEN = "claim-taken", CONFLICT, "duplicate", "Something that must be unique is taken";
    VERSION_MISMATCH = "version-mismatch", PRECONDITION_FAILED, "conflict", "The resource has another version than expected";
    VERSION_CONFLICT = "version-conflict", CONFLICT, "conflict", "Somebody else changed the resource at the same time";
    PRECONDITION_REQUIRED = "precondition-required", PRECONDITION_REQUIRED, "required", "An If-Match header is needed";
    IDEMPOTENCY_KEY_MISSING = "idempotency-key-missing", BAD_REQUEST, "required", "An Idempotency-Key header is needed";
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "conflict", "The Idempotency-Key belongs to another request";
    IDEMPOTENCY_IN_FLIGHT = "idempotency-in-flight", CONFLICT, "lock-error", "The first request with this Idempotency-Key is still running";
    RATE_LIMITED = "rate-limited", TOO_MANY_REQUESTS, "throttled", "Too many requests";
    TOO_MANY_FEEDS = "too-many-feeds", TOO_MANY_REQUESTS, "throttled", "Too many open feeds";
    FEED_TOO_OLD = "feed-too-old", GONE, "not-found", "The feed does not go back that far";
    READ_MODEL_BEHIND = "read-model-behind", SERVICE_UNAVAILABLE, "transient", "The read model has not seen that write yet";
    OVERLOADED = "overloaded", SERVICE_UNAVAILABLE, "throttled", "The service is overloaded";
    STORE_UNAVAILABLE = "store-unavailable", SERVICE_UNAVAILABLE, "no-store", "The store is not available";
    ISSUER_UNAVAILABLE = "issuer-unavailable", SERVICE_UNAVAILABLE, "transient", "Tokens cannot be checked yet";
    RECOVERING = "recovering", SERVICE_UNAVAILABLE, "transient", "The store is being recovered";
    ACCESS_NOT_RECORDED = "access-not-recorded", SERVICE_UNAVAILABLE, "no-store", "The access cannot be recorded";
    OUTCOME_UNKNOWN = "outcome-unknown", GATEWAY_TIMEOUT, "timeout", "Whether the request took effect is unknown";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "exception", "Something went wrong on our side";
}

tokio::task_local! {
    /// The id of the request that this task is answering; set by the pipeline, read when a problem is rendered.
    pub(crate) static CURRENT_REQUEST: Uuid;
}

/// A refusal, ready to be answered. Handlers return it as their error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    kind: &'static ProblemType,
    status: StatusCode,
    detail: Option<Cow<'static, str>>,
    rule: Option<String>,
    errors: Vec<Fault>,
    current_version: Option<i64>,
    retry_after_seconds: Option<u64>,
    token_error: Option<TokenError>,
    /// What could have been sent instead, in the header that lists it.
    instead: Option<(HeaderName, &'static str)>,
}

/// One element of the request that is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Where it stands, as a JSON pointer (RFC 6901) into the body, or the name of a parameter.
    pub pointer: String,
    /// A stable code for programs.
    pub code: String,
    /// The same for people. Never holds what was sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The body of a refusal, as RFC 9457 defines it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A page about this type of problem, relative to the documentation: `/problems/<slug>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of the type.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'static, str>>,
    /// The id of the request, as in `x-request-id` and in our logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Uuid>,
    /// The code of the rule that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The version that the resource has now, where that is the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<i64>,
    /// Every element at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

impl Fault {
    /// A fault of the element at `pointer`. A pointer may lead through members that only the sender knows: what does not
    /// look like the name of an element is left out of it.
    pub fn new(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: safe_pointer(pointer.into()), code: code.into(), detail: detail.into() }
    }
}

/// A JSON pointer that may be shown and kept: short, and without what does not look like the name of an element.
pub fn safe_pointer(pointer: String) -> String {
    let mut pointer = without_strange_names(pointer);
    if pointer.len() > POINTER_BYTES_MAX {
        let end = (0..=POINTER_BYTES_MAX).rev().find(|end| pointer.is_char_boundary(*end)).unwrap_or(0);
        pointer.truncate(end);
    }
    pointer
}

/// Replaces each token of a JSON pointer by `?` unless it is an index or could be the name of an element, as FHIR and we
/// write them: camelCase, ASCII. What people are called, and numbers that they are known by, look different.
fn without_strange_names(pointer: String) -> String {
    let index = |token: &str| token.len() <= 9 && token.bytes().all(|byte| byte.is_ascii_digit());
    let element = |token: &str| {
        let name = token.strip_prefix('_').unwrap_or(token);
        // The one FHIR data type with digits in its name, as in `valueBase64Binary`.
        let name = name.strip_suffix("Base64Binary").unwrap_or(name);
        name.len() <= NAME_BYTES_MAX
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let plain = |token: &str| token.is_empty() || index(token) || element(token);
    // The names of parameters have no slash; they are ours.
    if !pointer.starts_with('/') || pointer.split('/').all(plain) {
        return pointer;
    }
    let tokens = pointer.split('/').map(|token| if plain(token) { token } else { "?" });
    tokens.collect::<Vec<_>>().join("/")
}

impl Problem {
    /// A problem of this type with nothing more to say. Prefer the constructors below, which say what is needed.
    pub fn of(kind: &'static ProblemType) -> Self {
        Self(Box::new(Parts {
            kind,
            status: kind.status,
            detail: None,
            rule: None,
            errors: Vec::new(),
            current_version: None,
            retry_after_seconds: None,
            token_error: None,
            instead: None,
        }))
    }

    /// The body is not JSON at all. Line and column are safe to tell; the parser's message is not.
    pub fn malformed_json(line: usize, column: usize) -> Self {
        Self::of(&MALFORMED_JSON)
            .with_detail(format!("The JSON text breaks off or goes wrong at line {line}, column {column}."))
    }

    /// The body is compressed, and does not inflate.
    pub fn malformed_encoding() -> Self {
        Self::of(&MALFORMED_ENCODING).with_detail("The gzip data breaks off, or is none.")
    }

    /// The JSON is not what this route takes: wrong type, unknown, missing or repeated member.
    pub fn invalid_body(fault: Fault) -> Self {
        Self::of(&INVALID_BODY).with_errors(vec![fault])
    }

    /// A path segment, query parameter or header is not what this route takes.
    pub fn invalid_parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::of(&INVALID_PARAMETER).with_errors(vec![Fault::new(name, "invalid-parameter", detail)])
    }

    /// The form is right and a value is not.
    pub fn invalid_value(errors: Vec<Fault>) -> Self {
        Self::of(&INVALID_VALUE).with_errors(errors)
    }

    /// References that lead to nothing we know, each by the pointer to it.
    pub fn unresolved_reference(errors: Vec<Fault>) -> Self {
        Self::of(&UNRESOLVED_REFERENCE).with_errors(errors)
    }

    pub fn body_too_large(bytes_max: usize) -> Self {
        Self::of(&BODY_TOO_LARGE).with_detail(format!("At most {bytes_max} bytes are accepted here."))
    }

    pub fn too_deep(depth_max: usize) -> Self {
        Self::of(&TOO_DEEP).with_detail(format!("At most {depth_max} levels of nesting are accepted."))
    }

    pub fn batch_too_large(entries_max: usize) -> Self {
        Self::of(&BATCH_TOO_LARGE).with_detail(format!("At most {entries_max} entries are accepted here."))
    }

    pub fn unsupported_media_type(expected: &'static str) -> Self {
        let mut problem = Self::of(&UNSUPPORTED_MEDIA_TYPE).with_detail(format!("Send {expected}."));
        problem.0.instead = Some((header::ACCEPT, "application/json, application/fhir+json"));
        problem
    }

    /// The body is compressed in a way that is not taken (RFC 9110, section 15.5.16).
    pub fn unsupported_encoding() -> Self {
        let detail = "Send the body as it is, or compressed by gzip once; other content codings are not taken.";
        let mut problem = Self::of(&UNSUPPORTED_MEDIA_TYPE).with_detail(detail);
        problem.0.instead = Some((header::ACCEPT_ENCODING, crate::body::CODINGS));
        problem
    }

    pub fn not_acceptable(offered: &'static str) -> Self {
        Self::of(&NOT_ACCEPTABLE).with_detail(format!("The answer can be had as {offered}."))
    }

    /// Nothing there, or nothing that this caller may know of: the two look the same.
    pub fn not_found() -> Self {
        Self::of(&NOT_FOUND)
    }

    pub fn method_not_allowed() -> Self {
        Self::of(&METHOD_NOT_ALLOWED)
    }

    /// Not all of the body has come, and too long ago was the last of it.
    pub fn body_too_slow(bytes_per_second_min: u32) -> Self {
        Self::of(&BODY_TOO_SLOW).with_detail(format!(
            "The body did not come at {bytes_per_second_min} bytes a second, or not all of it within the time there is."
        ))
    }

    /// No token, or one that does not hold. Keys that cannot be had are our fault and become 503.
    pub fn unauthenticated(error: TokenError) -> Self {
        if error == TokenError::KeysUnavailable {
            return Self::of(&ISSUER_UNAVAILABLE).with_retry_after(1);
        }
        if error == TokenError::TooManyProofs {
            return Self::overloaded();
        }
        let mut problem = Self::of(&UNAUTHENTICATED).with_detail(sentence(&error));
        problem.0.rule = Some(error.code().to_owned());
        problem.0.token_error = Some(error);
        problem
    }

    pub fn forbidden() -> Self {
        Self::of(&FORBIDDEN).with_detail("The roles or scopes of the token do not allow this.")
    }

    /// The role would do, but neither the caller nor their organization cares for the patient.
    pub fn no_care_relationship() -> Self {
        Self::of(&NO_CARE_RELATIONSHIP).with_detail(
            "Neither you nor your organization has an open encounter or a current appointment with the patient. In an \
             emergency a physician may open the record: POST /v1/patients/{id}/break-glass.",
        )
    }

    /// A rule of the domain refuses because of the state that things are in (409).
    pub fn rule_violated(rule: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::of(&RULE_VIOLATED).with_detail(detail);
        problem.0.rule = Some(rule.into());
        problem
    }

    /// A rule of the domain refuses whatever the state (422).
    pub fn rule_violated_always(rule: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::rule_violated(rule, detail);
        problem.0.status = StatusCode::UNPROCESSABLE_ENTITY;
        problem
    }

    /// Several resources meet a condition that only one may meet (412).
    pub fn several_matches(rule: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::rule_violated(rule, detail);
        problem.0.status = StatusCode::PRECONDITION_FAILED;
        problem
    }

    /// A unique fact (a record number, a slot) is somebody else's. `rule` says which kind.
    pub fn claim_taken(rule: impl Into<String>) -> Self {
        let mut problem = Self::of(&CLAIM_TAKEN);
        problem.0.rule = Some(rule.into());
        problem
    }

    /// `If-Match` named another version than the current one.
    pub fn version_mismatch(current_version: Option<i64>) -> Self {
        let mut problem = Self::of(&VERSION_MISMATCH);
        problem.0.current_version = current_version;
        problem
    }

    /// The retries after concurrent changes ran out.
    pub fn version_conflict() -> Self {
        Self::of(&VERSION_CONFLICT).with_detail("Read the resource again and repeat the request.")
    }

    pub fn precondition_required() -> Self {
        Self::of(&PRECONDITION_REQUIRED)
    }

    pub fn idempotency_key_missing() -> Self {
        Self::of(&IDEMPOTENCY_KEY_MISSING)
    }

    pub fn idempotency_key_reused() -> Self {
        Self::of(&IDEMPOTENCY_KEY_REUSED).with_detail("Use a new key for a new request.")
    }

    pub fn idempotency_in_flight() -> Self {
        Self::of(&IDEMPOTENCY_IN_FLIGHT).with_retry_after(1)
    }

    /// This caller has asked more than its quota allows, and may ask again after so many seconds.
    pub fn rate_limited(retry_after_seconds: u64) -> Self {
        Self::of(&RATE_LIMITED)
            .with_detail("Your quota of requests is used up; it comes back steadily.")
            .with_retry_after(retry_after_seconds)
    }

    /// This caller, or all of them together, have as many feeds open as may be.
    pub fn too_many_feeds() -> Self {
        Self::of(&TOO_MANY_FEEDS)
            .with_detail("As many feeds are open as may be; close one, or come back later.")
            .with_retry_after(5)
    }

    /// The `Last-Event-ID` lies so far back that what is missed is better read as a list.
    pub fn feed_too_old() -> Self {
        Self::of(&FEED_TOO_OLD).with_detail(
            "Too much has happened since that event. Open the feed without Last-Event-ID, then read the list.",
        )
    }

    pub fn read_model_behind() -> Self {
        Self::of(&READ_MODEL_BEHIND).with_retry_after(1)
    }

    pub fn overloaded() -> Self {
        Self::of(&OVERLOADED).with_retry_after(1)
    }

    pub fn store_unavailable() -> Self {
        Self::of(&STORE_UNAVAILABLE).with_retry_after(2)
    }

    pub fn recovering() -> Self {
        Self::of(&RECOVERING).with_retry_after(5)
    }

    /// The access log takes no record now, so there is no access.
    pub fn access_not_recorded() -> Self {
        Self::of(&ACCESS_NOT_RECORDED).with_retry_after(2)
    }

    /// The request may or may not have taken effect. The same `Idempotency-Key` finds out.
    pub fn outcome_unknown() -> Self {
        Self::of(&OUTCOME_UNKNOWN).with_detail(
            "Repeat the request with the same Idempotency-Key: it takes effect once, whatever happened before.",
        )
    }

    /// A fault of ours that has been logged already, or is of no interest.
    pub fn internal() -> Self {
        Self::of(&INTERNAL).with_detail("The instance is the request's id; our logs know it.")
    }

    /// A fault of ours: logs the chain of errors, here and nowhere else, and tells the caller nothing of it.
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            chain = format!("{chain}: {error}");
            source = error.source();
        }
        tracing::error!(error = chain, "a request failed");
        Self::internal()
    }

    /// Says more. The text must not hold anything that the caller sent.
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Names elements at fault; the first [`ERRORS_MAX`] are kept.
    pub fn with_errors(mut self, mut errors: Vec<Fault>) -> Self {
        errors.truncate(ERRORS_MAX);
        self.0.errors = errors;
        self
    }

    /// Says when to come back.
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// The last part of its `type`.
    pub fn slug(&self) -> &'static str {
        self.0.kind.slug
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What FHIR calls it.
    pub fn issue(&self) -> &'static str {
        self.0.kind.issue
    }

    pub fn title(&self) -> &'static str {
        self.0.kind.title
    }

    /// The rule that refused.
    pub fn rule(&self) -> Option<&str> {
        self.0.rule.as_deref()
    }

    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    pub fn errors(&self) -> &[Fault] {
        &self.0.errors
    }

    /// The body, for an answer that holds several of them.
    pub fn body(&self) -> ProblemBody {
        let parts = &self.0;
        ProblemBody {
            kind: format!("/problems/{}", parts.kind.slug),
            title: parts.kind.title,
            status: parts.status.as_u16(),
            detail: parts.detail.clone(),
            instance: CURRENT_REQUEST.try_with(|id| *id).ok(),
            rule: parts.rule.clone(),
            current_version: parts.current_version,
            errors: parts.errors.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.0.kind.title, self.0.kind.slug)
    }
}

impl Error for Problem {}

impl IntoResponse for Problem {
    /// The answer remembers its problem, for whom it has to be told otherwise.
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.0.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some((name, listed)) = &self.0.instead {
            headers.insert(name, HeaderValue::from_static(listed));
        }
        if self.0.status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(error) = self.0.token_error {
            headers.insert(header::WWW_AUTHENTICATE, challenge(error));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// RFC 6750 section 3: no error code when there was no token at all.
fn challenge(error: TokenError) -> HeaderValue {
    if error == TokenError::Missing {
        return HeaderValue::from_static("Bearer realm=\"nexushealth\"");
    }
    let text = format!(r#"Bearer realm="nexushealth", error="invalid_token", error_description="{}""#, error.code());
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

/// An error's text as a sentence.
fn sentence(error: &TokenError) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + characters.as_str() + ".")
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
