//! The pipeline's part: opens before the handler, completes after it.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use nexus_auth::{Caller, Role};
use uuid::Uuid;

use super::{AccessRecorder, Completion, Notes, OpenAccess, Opening, Outcome};
use crate::{pipeline::RequestId, problem::Problem};

/// The caller says here what an access is for.
const PURPOSE_HEADER: &str = "nexus-purpose";
/// The codes of HL7's v3-PurposeOfUse that a caller may state.
const PURPOSES: [&str; 9] =
    ["TREAT", "ETREAT", "CAREMGT", "HOPERAT", "HPAYMT", "HRESCH", "PATRQT", "PUBHLTH", "HCOMPL"];
/// Names of query parameters that a record keeps at most.
const PARAMETERS_MAX: usize = 20;

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// What a door records.
#[derive(Clone)]
pub(crate) enum Recording {
    /// Every request, opened before the work, but for these routes.
    Every(Arc<dyn AccessRecorder>, &'static [&'static str]),
    /// What is refused or allowed by broken glass only: what is accepted leaves an event that names its actor.
    Exceptional(Arc<dyn AccessRecorder>),
}

/// Records the request as the door wants it.
pub(crate) async fn record(State(recording): State<Recording>, request: Request, next: Next) -> Response {
    match recording {
        Recording::Every(_, except) if except.contains(&route_of(&request)) => next.run(request).await,
        Recording::Every(recorder, _) => record_every(recorder, request, next).await,
        Recording::Exceptional(recorder) => record_exceptional(recorder.as_ref(), request, next).await,
    }
}

async fn record_every(recorder: Arc<dyn AccessRecorder>, mut request: Request, next: Next) -> Response {
    let opening = match opening(&request) {
        Ok(opening) => opening,
        Err(problem) => return problem.into_response(),
    };
    let asked = Asked::of(&request);
    let notes = Arc::<Notes>::default();
    request.extensions_mut().insert(LongAccess(Some((recorder.clone(), opening.clone()))));
    match recorder.open(opening).await {
        Ok(record) => {
            let guard = Guard { record: Some(record), notes: notes.clone() };
            let response = notes.scope(next.run(request)).await;
            guard.complete(&response, asked);
            response
        }
        Err(error) => {
            tracing::warn!(error = %error, "a request is refused");
            Problem::access_not_recorded().into_response()
        }
    }
}

async fn record_exceptional(recorder: &dyn AccessRecorder, request: Request, next: Next) -> Response {
    let opening = match opening(&request) {
        Ok(opening) => opening,
        Err(problem) => return problem.into_response(),
    };
    let asked = Asked::of(&request);
    let notes = Arc::<Notes>::default();
    let response = notes.scope(next.run(request)).await;
    let noted = notes.read();
    if noted.is_denial() || noted.break_glass {
        recorder.record(opening, completion(&notes, response.status(), asked));
    }
    response
}

/// An answer that goes on after its head was sent. The record of the request covers its beginning only; each portion that is
/// shown later has a record of its own, durable before anything of it is opened.
#[derive(Clone, Default)]
pub struct LongAccess(Option<(Arc<dyn AccessRecorder>, Opening)>);

impl LongAccess {
    /// Opens a record, does the work, and completes the record with what the work has noted. Work that is dropped leaves
    /// an interrupted record; a door that records nothing just works.
    pub async fn portion<T>(&self, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let Some((recorder, first)) = &self.0 else { return work.await };
        let record = recorder.open(Opening { id: Uuid::now_v7(), ..first.clone() }).await.map_err(|error| {
            tracing::warn!(error = %error, "a portion of a long answer is refused");
            Problem::access_not_recorded()
        })?;
        let notes = Arc::<Notes>::default();
        let guard = Guard { record: Some(record), notes: notes.clone() };
        let outcome = notes.scope(work).await;
        guard.complete_with(outcome.as_ref().map_or_else(Problem::status, |_| StatusCode::OK), Asked::default());
        outcome
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LongAccess {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// An open record. One that is dropped, because the request was, is completed as interrupted.
struct Guard {
    record: Option<Box<dyn OpenAccess>>,
    notes: Arc<Notes>,
}

impl Guard {
    fn complete(self, response: &Response, asked: Asked) {
        self.complete_with(response.status(), asked);
    }

    fn complete_with(mut self, status: StatusCode, asked: Asked) {
        if let Some(record) = self.record.take() {
            record.complete(completion(&self.notes, status, asked));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.complete(Completion {
                outcome: Outcome::Interrupted,
                status: None,
                noted: self.notes.read(),
                target_type: None,
                parameters: Vec::new(),
            });
        }
    }
}

fn completion(notes: &Notes, status: StatusCode, asked: Asked) -> Completion {
    let status = status.as_u16();
    let outcome = Outcome::of_status(status);
    let asked = if outcome == Outcome::Success { asked } else { Asked::default() };
    Completion {
        outcome,
        status: Some(status),
        noted: notes.read(),
        target_type: asked.target_type,
        parameters: asked.parameters,
    }
}

/// Texts of the request that may be kept once the route has accepted them as its own.
#[derive(Default)]
struct Asked {
    target_type: Option<String>,
    parameters: Vec<String>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        let parameters = names.filter(|name| !name.is_empty()).take(PARAMETERS_MAX).map(str::to_owned);
        Self { target_type: path_parameter(request, "{type}").map(str::to_owned), parameters: parameters.collect() }
    }
}

fn opening(request: &Request) -> Result<Opening, Problem> {
    // The layer stands behind authentication, so there is always somebody.
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(Problem::internal)?;
    let id = request.extensions().get::<RequestId>().map_or_else(Uuid::now_v7, |id| id.0);
    let named = ["{id}", "{location}"].into_iter().find_map(|name| path_parameter(request, name));
    Ok(Opening {
        id,
        purpose: purpose(request.headers(), &caller)?,
        caller,
        address: request.extensions().get::<PeerAddress>().map(|peer| peer.0),
        method: crate::pipeline::method_name(request.method()),
        route: route_of(request).to_owned(),
        target: named.and_then(|text| text.parse().ok()),
    })
}

fn route_of(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str)
}

/// The part of the path that stands where the route's pattern has this placeholder.
fn path_parameter<'a>(request: &'a Request, placeholder: &str) -> Option<&'a str> {
    let pattern = route_of(request).split('/');
    pattern.zip(request.uri().path().split('/')).find(|(part, _)| *part == placeholder).map(|(_, text)| text)
}

/// What the caller states, or else what their work is mostly for.
fn purpose(headers: &HeaderMap, caller: &Caller) -> Result<&'static str, Problem> {
    if let Some(stated) = headers.get(PURPOSE_HEADER) {
        let known = PURPOSES.into_iter().find(|code| stated.as_bytes() == code.as_bytes());
        let detail = "One of TREAT, ETREAT, CAREMGT, HOPERAT, HPAYMT, HRESCH, PATRQT, PUBHLTH, HCOMPL is expected.";
        return known.ok_or_else(|| Problem::invalid_parameter("Nexus-Purpose", detail));
    }
    let usual = [
        (Role::Physician, "TREAT"),
        (Role::Nurse, "TREAT"),
        (Role::Pharmacist, "TREAT"),
        (Role::Patient, "PATRQT"),
        (Role::Auditor, "HCOMPL"),
        (Role::Analyst, "HRESCH"),
    ];
    Ok(usual.into_iter().find(|(role, _)| caller.has(*role)).map_or("HOPERAT", |(_, code)| code))
}
