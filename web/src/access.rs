//! Who looked at whose data: what a request tells the access log while it is answered.
//!
//! The pipeline opens a record before the handler runs and completes it afterwards; what stands in it is noted on the way,
//! by [`authorize`](crate::pipeline::authorize) and by whoever opens sealed rows, in a variable of the task. This module
//! knows no storage: a door brings its [`AccessRecorder`].

mod recording;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use nexus_auth::{
    Caller,
    policy::{Action, Circumstances, Decision, ResourceContext, decide},
};
use uuid::Uuid;

pub use recording::{LongAccess, PeerAddress};
pub(crate) use recording::{Recording, record};

/// Patients of one record at most; how many there were in all is kept beside them. A page has no more.
pub const PATIENTS_MAX: usize = 500;
/// Decisions of one record at most: those of a bundle repeat each other.
const DECISIONS_MAX: usize = 32;

tokio::task_local! {
    /// What the request of this task has touched so far.
    static CURRENT_ACCESS: Arc<Notes>;
}

/// What is known of an access before any work is done.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The request's id, which is the record's id too: there is one record per request.
    pub id: Uuid,
    pub caller: Caller,
    /// The other end of the connection; of a proxy, the proxy.
    pub address: Option<IpAddr>,
    pub method: &'static str,
    /// The pattern of the route, such as `/v1/patients/{id}/chart`.
    pub route: String,
    /// The id that the path names.
    pub target: Option<Uuid>,
    /// What the caller says it is for: a code of HL7's PurposeOfUse.
    pub purpose: &'static str,
}

/// What is known of an access after the work.
#[derive(Clone, Debug)]
pub struct Completion {
    pub outcome: Outcome,
    /// The HTTP status; none if no answer was made.
    pub status: Option<u16>,
    pub noted: Noted,
    /// The resource type that the path names, and the names of the query parameters. Only of a request that succeeded:
    /// then each is one that the route knows, and not a text of the caller's.
    pub target_type: Option<String>,
    pub parameters: Vec<String>,
}

/// How an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer was given.
    Success,
    /// Refused: not permitted, not there, or not asked rightly (a status of 4xx).
    Refused,
    /// Our fault (5xx).
    Failed,
    /// The caller went away, or the time was over, before there was an answer.
    Interrupted,
}

/// What was noted while a request was answered.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// What was asked of the policy, and what it said.
    pub decisions: Vec<(Action, Option<Uuid>, Decision)>,
    /// Whose data was opened, up to [`PATIENTS_MAX`].
    pub patients: BTreeSet<Uuid>,
    /// How many patients there were in all.
    pub patients_total: usize,
    /// The access was allowed only because the glass was broken.
    pub break_glass: bool,
}

/// The record can't be opened now, so there must be no access.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the access can't be recorded")]
pub struct NotRecorded;

/// Keeps the access log.
pub trait AccessRecorder: Send + Sync + 'static {
    /// Opens a record. It is durable when this returns; a caller that goes away meanwhile leaves it interrupted.
    fn open(&self, opening: Opening) -> BoxFuture<'_, Result<Box<dyn OpenAccess>, NotRecorded>>;

    /// Records an access that has happened, opening and completion at once, without waiting for it to be durable.
    fn record(&self, opening: Opening, completion: Completion);
}

/// An open record, to be completed once.
pub trait OpenAccess: Send {
    /// Completes it, without waiting for that to be durable.
    fn complete(self: Box<Self>, completion: Completion);
}

/// Asks the policy, and notes what it says about the current request.
pub fn judge(
    caller: &Caller,
    action: Action,
    resource: &ResourceContext<'_>,
    circumstances: &Circumstances,
) -> Decision {
    let decision = decide(caller, action, resource, circumstances);
    note_decision(action, resource.subject, decision);
    let whole = Circumstances { emergency: false, ..*circumstances };
    if circumstances.emergency && decision == Decision::Allow && decide(caller, action, resource, &whole) != decision {
        note(|noted| noted.break_glass = true);
    }
    decision
}

/// Notes a decision about the current request that was taken without asking the policy in full.
pub fn note_decision(action: Action, subject: Option<Uuid>, decision: Decision) {
    note(|noted| {
        let entry = (action, subject, decision);
        if noted.decisions.len() < DECISIONS_MAX && !noted.decisions.contains(&entry) {
            noted.decisions.push(entry);
        }
    });
}

/// Notes whose data the current request has opened.
pub fn note_patients(patients: impl IntoIterator<Item = Uuid>) {
    note(|noted| {
        for patient in patients {
            if noted.patients.contains(&patient) {
                continue;
            }
            noted.patients_total += 1;
            if noted.patients.len() < PATIENTS_MAX {
                noted.patients.insert(patient);
            }
        }
    });
}

/// Outside of a request that is recorded there is nowhere to note anything.
fn note(change: impl FnOnce(&mut Noted)) {
    if CURRENT_ACCESS.try_with(|notes| notes.change(change)).is_err() {
        tracing::trace!("this task answers no request that is recorded");
    }
}

/// The notes of one request.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Noted>);

impl Notes {
    fn change(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn read(&self) -> Noted {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs the work of a request with these notes at hand.
    pub(crate) async fn scope<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        CURRENT_ACCESS.scope(self.clone(), work).await
    }
}

impl Noted {
    /// Whether the policy refused anything.
    pub fn is_denial(&self) -> bool {
        self.decisions.iter().any(|(_, _, decision)| *decision != Decision::Allow)
    }
}

impl Outcome {
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            500.. => Self::Failed,
            400.. => Self::Refused,
            _ => Self::Success,
        }
    }
}
