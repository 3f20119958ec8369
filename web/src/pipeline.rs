//! What happens to every request of either door, in one place.
//!
//! From the outside in: the request gets an id, a span and a line in the metrics; a browser's question
//! (CORS) is answered; it is bounded in time; a panic or a bare error of the framework becomes a problem, and on a FHIR
//! route an OperationOutcome for who asks for FHIR; where the route
//! asks for it, the token becomes a [`Caller`], whose quota it is taken from; then it takes one of a bounded number of
//! places, which so belong to callers who are known. Spans and metrics know routes by
//! their pattern only: a real path or query may hold a name.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use metrics::{counter, gauge, histogram};
use nexus_auth::{
    Caller, TokenError, Verifier,
    policy::{Action, Circumstances, Decision, ResourceContext},
};
use tokio::{sync::Semaphore, time::timeout};
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use crate::{
    access::{self, AccessRecorder, Recording},
    authenticate::authenticate,
    cors::CorsArgs,
    json::JsonLimits,
    leftover, outcome, pretty,
    problem::{self, CURRENT_REQUEST, Problem},
    rate_limit::{self, RateLimitArgs, RateLimiter},
    telemetry,
};

/// The header that carries the request id back.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT_HEADER: HeaderName = HeaderName::from_static("traceparent");
/// Nothing may be loaded by or around our answers.
const CONTENT_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// The page that documents the API loads its own scripts and styles, and calls this door.
const CONTENT_POLICY_DOCS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'",
);
/// What nginx calls a request whose caller went away; it is never sent.
const CLIENT_CLOSED: u16 = 499;

/// How much a door takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in flight; further ones are refused with `overloaded`.
    pub in_flight_max: usize,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// The bounds of JSON bodies, where a route has no own ones.
    pub json: JsonLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight_max: 1_024, request_timeout: Duration::from_secs(60), json: JsonLimits::default() }
    }
}

/// The id of a request: made here, told to the caller, logged, and the `instance` of its problem. One that the caller
/// sends is ignored, since it could say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub Uuid);

/// The verified caller. Only routes behind [`Pipeline::wrap`]'s first router have one.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Caller);

/// The middleware of a door.
#[derive(Clone)]
pub struct Pipeline {
    verifier: Verifier,
    limits: Limits,
    rate: Option<Arc<RateLimiter>>,
    cors: CorsArgs,
    recording: Option<Recording>,
}

impl Pipeline {
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, limits: Limits::default(), rate: None, cors: CorsArgs::default(), recording: None }
    }

    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Bounds what each caller may ask; without this, only all of them together are bounded.
    pub fn limiting_callers(mut self, args: &RateLimitArgs) -> Self {
        self.rate = RateLimiter::from_args(args).map(Arc::new);
        self
    }

    /// Lets pages of these origins call from a browser.
    pub fn open_to_browsers(mut self, args: &CorsArgs) -> Self {
        self.cors = args.clone();
        self
    }

    /// Records every request to a protected route, before it is worked on, but for these routes: they know no patient.
    pub fn recording_accesses(mut self, recorder: Arc<dyn AccessRecorder>, except: &'static [&'static str]) -> Self {
        self.recording = Some(Recording::Every(recorder, except));
        self
    }

    /// Records the requests to protected routes that are refused by the policy or allowed by broken glass only.
    pub fn recording_exceptions(mut self, recorder: Arc<dyn AccessRecorder>) -> Self {
        self.recording = Some(Recording::Exceptional(recorder));
        self
    }

    /// Puts the pipeline around the routes: those of `protected` need an access token, those of `open` do not.
    /// Operational routes are merged into the result, outside of it.
    pub fn wrap(&self, protected: Router, open: Router) -> Router {
        let places = Arc::new(Semaphore::new(self.limits.in_flight_max));
        // Outside of the places: a token that has to wait for the issuer's keys must not keep anybody out.
        let authenticated = from_fn_with_state(self.verifier.clone(), authenticate);
        let protected = match &self.recording {
            Some(recording) => protected.route_layer(from_fn_with_state(recording.clone(), access::record)),
            None => protected,
        };
        let protected = protected.layer(from_fn_with_state(places.clone(), admit));
        let protected = match &self.rate {
            Some(limiter) => protected.route_layer(from_fn_with_state(limiter.clone(), rate_limit::limit)),
            None => protected,
        };
        let open = open.layer(from_fn_with_state(places, admit));
        surround(protected.route_layer(authenticated).merge(open), self.limits, &self.cors)
    }
}

/// Everything but authentication, for a process whose routes need none.
pub fn bound(router: Router, limits: Limits) -> Router {
    let places = Arc::new(Semaphore::new(limits.in_flight_max));
    surround(router.layer(from_fn_with_state(places, admit)), limits, &CorsArgs::default())
}

fn surround(router: Router, limits: Limits, cors: &CorsArgs) -> Router {
    let router = router
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(limits.json.bytes_max))
        .layer(limits.json.layer())
        .layer(from_fn_with_state(limits.request_timeout, protect));
    let router = match cors.layer() {
        Some(layer) => router.layer(layer),
        None => router,
    };
    router.layer(from_fn(observe)).layer(from_fn(leftover::drain))
}

/// Lets a page of documentation load what it brings along.
pub fn docs_page(router: Router) -> Router {
    router.layer(axum::middleware::map_response(|mut response: Response| async {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY_DOCS);
        response
    }))
}

/// The policy's answer as a problem where nothing is known about caller and patient: see [`authorize_in`].
pub fn authorize(caller: &Caller, action: Action, resource: &ResourceContext<'_>) -> Result<(), Problem> {
    authorize_in(caller, action, resource, &Circumstances::default())
}

/// The policy's answer as a problem: 403 where the caller may know, 404 where not.
pub fn authorize_in(
    caller: &Caller,
    action: Action,
    resource: &ResourceContext<'_>,
    circumstances: &Circumstances,
) -> Result<(), Problem> {
    let (label, outcome) = match access::judge(caller, action, resource, circumstances) {
        Decision::Allow => ("allow", Ok(())),
        Decision::Deny => ("deny", Err(Problem::forbidden())),
        Decision::Unrelated => ("unrelated", Err(Problem::no_care_relationship())),
        Decision::Hide => ("hide", Err(Problem::not_found())),
    };
    counter!("auth_decisions_total", "decision" => label).increment(1);
    outcome
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.map(Self).ok_or_else(|| Problem::unauthenticated(TokenError::Missing))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<RequestId>().copied().unwrap_or_else(|| RequestId(Uuid::now_v7())))
    }
}

/// Names, traces, counts and times a request.
async fn observe(mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = open_span(&request, route.as_ref().map_or("(none)", MatchedPath::as_str), id);
    let mut record = Record::open(route, method_name(request.method()));
    request.extensions_mut().insert(RequestId(id));
    let mut response = CURRENT_REQUEST.scope(id, next.run(request)).instrument(span.clone()).await;
    finish_headers(response.headers_mut(), id);
    record.status = response.status().as_u16();
    record.close(&span);
    response
}

/// Bounds a request in time, and turns whatever goes wrong without a problem into one, told as the caller wants it.
async fn protect(State(request_timeout): State<Duration>, request: Request, next: Next) -> Response {
    let (reads, asks_for_methods) = (request.method().is_safe(), asks_for_methods(&request));
    let in_fhir = outcome::is_wanted(request.uri(), request.headers());
    let in_lines = pretty::is_wanted(request.uri());
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match timeout(request_timeout, answer).await {
        Ok(Ok(response)) => with_problem_body(response),
        Ok(Err(panic)) => answer_panic(panic),
        Err(_) if reads => Problem::overloaded().with_detail("The answer took too long.").into_response(),
        Err(_) => Problem::outcome_unknown().into_response(),
    };
    let response = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED if asks_for_methods => StatusCode::NO_CONTENT.into_response(),
        status if in_fhir && (status.is_client_error() || status.is_server_error()) => outcome::tell(response),
        _ => response,
    };
    if in_lines { pretty::print(response).await } else { response }
}

/// `OPTIONS` asks for the methods of a route (RFC 9110, section 9.3.7), which the router lists in `Allow` wherever it has none
/// for a method. A browser's question (CORS) is another one: where nobody has answered it, it stays refused.
fn asks_for_methods(request: &Request) -> bool {
    request.method() == Method::OPTIONS && !request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Bounds the requests that are worked on at a time.
async fn admit(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Problem::overloaded().into_response(),
    }
}

/// What the metrics will say of a request. One that is dropped unfinished counts as closed by the caller.
struct Record {
    route: Option<MatchedPath>,
    method: &'static str,
    began: Instant,
    status: u16,
}

impl Record {
    fn open(route: Option<MatchedPath>, method: &'static str) -> Self {
        gauge!("http_requests_in_flight").increment(1.0);
        Self { route, method, began: Instant::now(), status: CLIENT_CLOSED }
    }

    fn close(self, span: &Span) {
        span.record("http.response.status_code", self.status);
        let duration_ms = self.began.elapsed().as_secs_f64() * 1_000.0;
        let status = self.status;
        span.in_scope(|| match status {
            500.. => {
                span.record("otel.status_code", "ERROR");
                tracing::warn!(status, duration_ms, "a request failed");
            }
            _ => tracing::debug!(status, duration_ms, "a request was answered"),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let route = self.route.as_ref().map_or("(none)", MatchedPath::as_str).to_owned();
        gauge!("http_requests_in_flight").decrement(1.0);
        histogram!("http_request_seconds", "route" => route.clone(), "method" => self.method)
            .record(self.began.elapsed().as_secs_f64());
        counter!("http_requests_total", "route" => route, "method" => self.method, "status" => status_label(self.status))
            .increment(1);
    }
}

fn open_span(request: &Request, route: &str, id: Uuid) -> Span {
    let method = method_name(request.method());
    let span = tracing::info_span!(
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        request.id = %id,
        trace.id = Empty,
    );
    if let Some(traceparent) = request.headers().get(TRACEPARENT_HEADER).and_then(|value| value.to_str().ok()) {
        telemetry::set_parent(&span, traceparent);
    }
    telemetry::record_trace_id(&span);
    span
}

fn finish_headers(headers: &mut HeaderMap, id: Uuid) {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID_HEADER, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(CONTENT_POLICY);
}

/// The framework's own refusals are plain text that may quote the request; they are replaced.
fn with_problem_body(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let ours = content_type.is_some_and(|kind| kind == problem::MEDIA_TYPE.as_bytes() || kind.ends_with(b"json"));
    if ours { response } else { replace(response) }
}

fn replace(response: Response) -> Response {
    let problem = match response.status() {
        StatusCode::NOT_FOUND => Problem::not_found(),
        StatusCode::METHOD_NOT_ALLOWED => Problem::method_not_allowed(),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::of(&problem::BODY_TOO_LARGE),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::of(&problem::UNSUPPORTED_MEDIA_TYPE),
        StatusCode::UNAUTHORIZED => Problem::unauthenticated(TokenError::Missing),
        StatusCode::FORBIDDEN => Problem::forbidden(),
        status if status.is_client_error() => Problem::of(&problem::INVALID_PARAMETER),
        _ => Problem::internal(),
    };
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut replaced = problem.into_response();
    if let Some(allow) = allow {
        replaced.headers_mut().insert(header::ALLOW, allow);
    }
    replaced
}

/// The panic hook has logged where it happened; its payload may hold anything and is dropped.
fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    drop(panic);
    Problem::internal().into_response()
}

/// Methods are the caller's text too: only the usual ones become labels.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn status_label(status: u16) -> String {
    status.to_string()
}
