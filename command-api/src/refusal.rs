//! Why a request was not carried out. One enum owns the way from errors to problems (RFC 9457).

use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use nexus_domain::ReadError;
use nexus_domain::types::{ErrorKind, FormError, RuleError};
use nexus_event_store::{Error as StoreError, KeyError};
use nexus_web::problem::{self, Problem, safe_pointer};
use serde::{Deserialize, Serialize};

use crate::accepted::IDEMPOTENCY_REPLAYED;
use crate::executor::LoadError;

/// The rule of a reference that leads nowhere.
pub const UNRESOLVED: &str = "unresolved-reference";
/// The rule of an entry whose `ifMatch` does not hold.
pub const MISMATCH: &str = "version-mismatch";

/// The rule of a condition that several meet.
pub const SEVERAL_BEARERS: &str = "several-bearers";

/// One thing that is wrong with what was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// JSON pointer (RFC 6901) into the body, or empty for the whole of it. Faults are kept in the clear for retries, so
    /// names that only the sender knows are left out of it.
    pub pointer: String,
    /// A stable code such as `bad-date`.
    pub rule: String,
    /// A sentence for people, free of patient data.
    pub detail: String,
    #[serde(with = "KindName")]
    pub kind: ErrorKind,
}

/// How a kind is written where a fault is kept.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ErrorKind")]
enum KindName {
    Invalid,
    Conflict,
    NotFound,
    Forbidden,
}

impl Fault {
    pub fn new(kind: ErrorKind, pointer: impl Into<String>, rule: &str, detail: &str) -> Self {
        Self { pointer: safe_pointer(pointer.into()), rule: rule.to_owned(), detail: detail.to_owned(), kind }
    }

    pub fn invalid(pointer: impl Into<String>, rule: &str, detail: &str) -> Self {
        Self::new(ErrorKind::Invalid, pointer, rule, detail)
    }

    pub fn unresolved(pointer: impl Into<String>) -> Self {
        Self::invalid(pointer, UNRESOLVED, "The reference leads to nothing that is known here.")
    }

    /// An identifier that is to lead to one resource, and leads to several.
    pub fn several_bearers(pointer: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, pointer, SEVERAL_BEARERS, "Several resources bear this identifier.")
    }

    pub fn of(error: &dyn RuleError) -> Self {
        let pointer = error.pointer().unwrap_or_default();
        // The pointer has a field of its own.
        let detail = error.to_string();
        let detail = detail.strip_suffix(&format!(" (at {pointer})")).unwrap_or(&detail);
        Self::new(error.kind(), pointer, error.code(), detail)
    }

    /// The same fault of something that is part of something larger.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }

    fn to_problem_fault(&self) -> problem::Fault {
        problem::Fault::new(self.pointer.as_str(), self.rule.as_str(), self.detail.as_str())
    }
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request itself, before anything was looked at.
    #[error(transparent)]
    Request(#[from] Problem),
    /// Form, sense or a rule refuses; one fault, or one per bad entry of a bundle.
    #[error("what was sent is refused")]
    Faults(Vec<Fault>),
    #[error("the claim {kind} is taken")]
    ClaimTaken { kind: String },
    #[error("the caller may not do this")]
    Forbidden,
    #[error("neither the caller nor their organization cares for the patient")]
    Unrelated,
    #[error("there is no such thing")]
    NotFound,
    #[error("the precondition does not hold")]
    PreconditionFailed { sequence: Option<i64> },
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("a request with this key is being carried out")]
    InFlight,
    #[error("too many requests change the same thing")]
    Contended,
    #[error("the event store did not take it")]
    Store(#[from] StoreError),
    #[error("a stored event can't be read")]
    Unreadable(#[from] ReadError),
    #[error("internal error: {0}")]
    Internal(&'static str),
    /// What the same request was told before.
    #[error(transparent)]
    Again(Box<Refusal>),
}

/// A refusal as it is kept for a retry: rules, places and numbers, nothing about the patient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum KeptRefusal {
    Faults(Vec<Fault>),
    ClaimTaken { kind: String },
    PreconditionFailed { sequence: Option<i64> },
}

impl From<KeptRefusal> for Refusal {
    fn from(kept: KeptRefusal) -> Self {
        match kept {
            KeptRefusal::Faults(faults) => Self::Faults(faults),
            KeptRefusal::ClaimTaken { kind } => Self::ClaimTaken { kind },
            KeptRefusal::PreconditionFailed { sequence } => Self::PreconditionFailed { sequence },
        }
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => Self::Store(error),
            LoadError::Read(error) => Self::Unreadable(error),
        }
    }
}

impl From<FormError> for Refusal {
    fn from(error: FormError) -> Self {
        Self::rule(&error)
    }
}

impl Refusal {
    /// The refusal of a rule of the domain.
    pub fn rule(error: &dyn RuleError) -> Self {
        Self::Faults(vec![Fault::of(error)])
    }

    /// The subject whose erasure is in the way.
    pub fn erased_subject(&self) -> Option<uuid::Uuid> {
        match self {
            Self::Store(StoreError::Key { subject, source: KeyError::Erased }) => Some(*subject),
            _ => None,
        }
    }

    /// What is kept of it under the idempotency key, if it is one that a later state might not repeat: a copy of the
    /// request that arrives late must not take effect after its sender was told no. What is refused for its form is
    /// refused again anyway.
    pub fn to_kept(&self) -> Option<KeptRefusal> {
        match self {
            Self::Faults(faults) if faults.iter().all(|fault| fault.kind == ErrorKind::Conflict) => {
                Some(KeptRefusal::Faults(faults.clone()))
            }
            Self::ClaimTaken { kind } => Some(KeptRefusal::ClaimTaken { kind: kind.clone() }),
            Self::PreconditionFailed { sequence } => Some(KeptRefusal::PreconditionFailed { sequence: *sequence }),
            _ => None,
        }
    }

    /// The outcome as metrics count it.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Store(StoreError::Unknown) => "unknown",
            Self::Store(StoreError::Overloaded) => "overloaded",
            Self::Store(_) | Self::Unreadable(_) | Self::Internal(_) | Self::Contended => "failed",
            Self::PreconditionFailed { .. } | Self::InFlight | Self::KeyReused | Self::ClaimTaken { .. } => "conflict",
            Self::Request(_) | Self::Faults(_) | Self::Forbidden | Self::Unrelated | Self::NotFound => "refused",
            Self::Again(refusal) => refusal.outcome(),
        }
    }

    /// The problem that the caller is answered with.
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Request(problem) => problem,
            Self::Faults(faults) => faults_problem(&faults),
            Self::ClaimTaken { kind } => Problem::claim_taken(kind),
            Self::Forbidden => Problem::forbidden(),
            Self::Unrelated => Problem::no_care_relationship(),
            Self::NotFound => Problem::not_found(),
            Self::PreconditionFailed { sequence } => Problem::version_mismatch(sequence),
            Self::KeyReused => Problem::idempotency_key_reused(),
            Self::InFlight => Problem::idempotency_in_flight(),
            Self::Contended => Problem::version_conflict(),
            Self::Store(error) => store_problem(error),
            Self::Unreadable(_) | Self::Internal(_) => Problem::from_error(&self),
            Self::Again(refusal) => refusal.into_problem(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let again = matches!(self, Self::Again(_));
        let mut response = self.into_problem().into_response();
        if again {
            response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// One fault decides the type; of several the gravest, and all are listed.
fn faults_problem(faults: &[Fault]) -> Problem {
    let listed: Vec<problem::Fault> = faults.iter().map(Fault::to_problem_fault).collect();
    let has = |kind| faults.iter().any(|fault| fault.kind == kind);
    let Some(first) = faults.first() else { return Problem::internal() };
    if faults.iter().all(|fault| fault.rule == UNRESOLVED) {
        return Problem::unresolved_reference(listed);
    }
    if faults.iter().all(|fault| fault.rule == MISMATCH) {
        return Problem::version_mismatch(None).with_errors(listed);
    }
    if faults.iter().all(|fault| fault.rule == SEVERAL_BEARERS) {
        return Problem::several_matches(first.rule.clone(), first.detail.clone()).with_errors(listed);
    }
    if has(ErrorKind::Invalid) {
        return Problem::invalid_value(listed);
    }
    if let [only] = faults {
        return rule_problem(only);
    }
    Problem::rule_violated(first.rule.clone(), "Rules forbid some of the entries.").with_errors(listed)
}

fn rule_problem(fault: &Fault) -> Problem {
    let problem = match fault.kind {
        ErrorKind::NotFound => Problem::not_found().with_detail(fault.detail.clone()),
        ErrorKind::Forbidden => Problem::forbidden().with_detail(fault.detail.clone()),
        ErrorKind::Conflict | ErrorKind::Invalid => Problem::rule_violated(fault.rule.clone(), fault.detail.clone()),
    };
    if fault.pointer.is_empty() { problem } else { problem.with_errors(vec![fault.to_problem_fault()]) }
}

fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::Unknown => Problem::outcome_unknown(),
        StoreError::Overloaded => Problem::overloaded(),
        StoreError::Recovering => Problem::recovering(),
        StoreError::TooLarge { limit, .. } => Problem::body_too_large(limit),
        StoreError::Key { source: KeyError::Erased, .. } => {
            Problem::rule_violated("subject-erased", "The data of this subject was erased; nothing can be added to it.")
        }
        StoreError::Unavailable(_) | StoreError::Key { source: KeyError::Unavailable, .. } => {
            tracing::warn!(error = %error, "the event store is not available");
            Problem::store_unavailable()
        }
        other => Problem::from_error(&other),
    }
}
