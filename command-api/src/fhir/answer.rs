//! The answer to a bundle: <https://hl7.org/fhir/R4/http.html#transaction-response>.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use nexus_domain::types::{ErrorKind, Note};
use nexus_event_store::Receipt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bundle::Kind;
use super::busy;
use super::group::Told;
use crate::accepted::{PREFERENCE_APPLIED, set_outcome};
use crate::app::App;
use crate::call::Call;
use crate::refusal::{Fault, MISMATCH, Refusal, SEVERAL_BEARERS};

/// What became of one entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum EntryOutcome {
    Accepted(Told),
    /// Only in batches: a transaction is refused as a whole.
    Refused(Vec<Fault>),
}

/// What became of a bundle.
#[derive(Clone, Debug)]
pub struct BundleAnswer {
    kind: Kind,
    entries: Vec<EntryOutcome>,
    pub receipt: Option<Receipt>,
    replayed: bool,
}

/// What is kept for a retry: ids, numbers and codes, nothing about the patient.
#[derive(Serialize, Deserialize)]
struct Kept {
    entries: Vec<EntryOutcome>,
    /// Only of a batch: the log itself keeps where a transaction's events are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<KeptReceipt>,
}

#[derive(Serialize, Deserialize)]
struct KeptReceipt {
    positions: Vec<(i32, i64)>,
    recorded_at: DateTime<Utc>,
}

impl BundleAnswer {
    pub fn new(kind: Kind, entries: Vec<EntryOutcome>, receipt: Option<Receipt>) -> Self {
        Self { kind, entries, receipt, replayed: false }
    }

    /// What the log keeps under the idempotency key.
    pub fn to_json(&self) -> Result<Value, Refusal> {
        let keep =
            |receipt: &Receipt| KeptReceipt { positions: receipt.positions.clone(), recorded_at: receipt.recorded_at };
        let kept = Kept { entries: self.entries.clone(), receipt: self.receipt.as_ref().map(keep) };
        serde_json::to_value(kept).map_err(|_| Refusal::Internal("an answer can't be written as JSON"))
    }

    /// The answer that was given to the same request before.
    pub fn replay(kind: Kind, receipt: Option<Receipt>, response: Value) -> Result<Self, Refusal> {
        let kept: Kept =
            serde_json::from_value(response).map_err(|_| Refusal::Internal("a stored answer can't be read"))?;
        let restore = |kept: KeptReceipt| Receipt { positions: kept.positions, recorded_at: kept.recorded_at };
        let receipt = receipt.filter(|receipt| !receipt.positions.is_empty()).or_else(|| kept.receipt.map(restore));
        Ok(Self { kind, entries: kept.entries, receipt, replayed: true })
    }

    fn to_bundle(&self) -> BundleJson<'_> {
        let recorded_at = self.receipt.as_ref().map(|receipt| receipt.recorded_at);
        let kind = match self.kind {
            Kind::Transaction => "transaction-response",
            Kind::Batch => "batch-response",
        };
        let entry = self.entries.iter().map(|outcome| EntryJson { response: response(outcome, recorded_at) }).collect();
        BundleJson { resource_type: "Bundle", kind, entry }
    }
}

/// The HTTP answer; waits for Kafka first if the caller asked for it.
pub async fn respond(app: &App, call: &Call, answer: BundleAnswer) -> Result<Response, Refusal> {
    let published = match (call.prefer.wait_for_kafka, &answer.receipt) {
        (true, Some(receipt)) => Some(app.executor.published(call, receipt).await?),
        _ => None,
    };
    let mut headers = HeaderMap::new();
    let position = answer.receipt.as_ref().map(Receipt::token).unwrap_or_default();
    set_outcome(&mut headers, &position, answer.replayed, published);
    let status = if published == Some(false) { StatusCode::ACCEPTED } else { StatusCode::OK };
    // Where the entries are is said in the body only, so there always is one. It is minimal: it repeats no resource.
    if call.prefer.minimal {
        headers.append(PREFERENCE_APPLIED, HeaderValue::from_static("return=minimal"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/fhir+json"));
    let body = busy(move || serde_json::to_vec(&answer.to_bundle())).await?;
    let body = body.map_err(|_| Refusal::Internal("an answer can't be written as JSON"))?;
    Ok((status, headers, body).into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BundleJson<'a> {
    resource_type: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<EntryJson<'a>>,
}

#[derive(Serialize)]
struct EntryJson<'a> {
    response: ResponseJson<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseJson<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeJson<'a> {
    resource_type: &'static str,
    issue: Vec<IssueJson<'a>>,
}

#[derive(Serialize)]
struct IssueJson<'a> {
    severity: &'static str,
    code: &'static str,
    details: DetailsJson<'a>,
    /// Where, as a FHIRPath of the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<[String; 1]>,
}

#[derive(Serialize)]
struct DetailsJson<'a> {
    coding: [CodingJson<'a>; 1],
    text: &'a str,
}

#[derive(Serialize)]
struct CodingJson<'a> {
    system: &'static str,
    code: &'a str,
}

/// The code system of our rules.
const RULES: &str = "urn:nexushealth:rules";

fn response(outcome: &EntryOutcome, recorded_at: Option<DateTime<Utc>>) -> ResponseJson<'_> {
    match outcome {
        EntryOutcome::Accepted(told) => accepted(told, recorded_at),
        EntryOutcome::Refused(faults) => ResponseJson {
            status: status_of(faults),
            location: None,
            etag: None,
            last_modified: None,
            outcome: issues(faults.iter().map(of_fault)),
        },
    }
}

fn accepted(told: &Told, recorded_at: Option<DateTime<Utc>>) -> ResponseJson<'_> {
    let place = format!("{}/{}", told.resource_type, told.id);
    let modified = told.recorded_at.or(recorded_at).filter(|_| told.sequence.is_some());
    ResponseJson {
        status: if told.status == 201 { "201 Created" } else { "200 OK" },
        location: Some(told.sequence.map_or_else(|| place.clone(), |sequence| format!("{place}/_history/{sequence}"))),
        etag: told.sequence.map(|sequence| format!("W/\"{sequence}\"")),
        last_modified: modified.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true)),
        outcome: issues(told.updated.then(of_update).into_iter().chain(told.notes.iter().map(of_note))),
    }
}

fn issues<'a>(issues: impl Iterator<Item = IssueJson<'a>>) -> Option<OutcomeJson<'a>> {
    let issue: Vec<_> = issues.collect();
    (!issue.is_empty()).then_some(OutcomeJson { resource_type: "OperationOutcome", issue })
}

fn of_note(note: &Note) -> IssueJson<'_> {
    IssueJson {
        severity: "information",
        code: "business-rule",
        details: details(&note.rule, &note.text),
        expression: None,
    }
}

/// R4 has one status for what was changed and for what was there already.
fn of_update() -> IssueJson<'static> {
    IssueJson {
        severity: "information",
        code: "informational",
        details: details("updated", "What was recorded before has changed."),
        expression: None,
    }
}

fn of_fault(fault: &Fault) -> IssueJson<'_> {
    let code = match fault.kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::Conflict => "conflict",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Forbidden => "forbidden",
    };
    let expression = Some([path_of(&fault.pointer)]);
    IssueJson { severity: "error", code, details: details(&fault.rule, &fault.detail), expression }
}

/// `/entry/3/resource/code` as FHIRPath: `Bundle.entry[3].resource.code`.
fn path_of(pointer: &str) -> String {
    let mut path = "Bundle".to_owned();
    for step in pointer.split('/').filter(|step| !step.is_empty()) {
        if step.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{step}]"));
        } else {
            path.push_str(&format!(".{step}"));
        }
    }
    path
}

fn details<'a>(rule: &'a str, text: &'a str) -> DetailsJson<'a> {
    DetailsJson { coding: [CodingJson { system: RULES, code: rule }], text }
}

fn status_of(faults: &[Fault]) -> &'static str {
    if faults.first().is_some_and(|fault| [MISMATCH, SEVERAL_BEARERS].contains(&fault.rule.as_str())) {
        return "412 Precondition Failed";
    }
    match faults.first().map(|fault| fault.kind) {
        Some(ErrorKind::Conflict) => "409 Conflict",
        Some(ErrorKind::NotFound) => "404 Not Found",
        Some(ErrorKind::Forbidden) => "403 Forbidden",
        Some(ErrorKind::Invalid) | None => "422 Unprocessable Entity",
    }
}
