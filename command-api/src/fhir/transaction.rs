//! A transaction bundle: everything in one append, or nothing.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Bytes;
use chrono::Utc;
use nexus_domain::types::{ClaimKind, ErrorKind};
use nexus_event_store::Outcome;

use super::answer::{BundleAnswer, EntryOutcome};
use super::bundle::{self, Kind};
use super::decide::{Decision, decide};
use super::group::{Group, Told};
use super::known::Known;
use super::resolve::{Resolved, ResolvedResult, criteria, resolve};
use super::{ATTEMPTS_MAX, busy, in_resource};
use crate::app::App;
use crate::call::Call;
use crate::executor::pause;
use crate::refusal::{Fault, Refusal};

/// What one attempt came to.
enum Attempt {
    Done(BundleAnswer),
    Moved,
    /// The time that this entry's appointment wants is somebody else's.
    SlotTaken(usize),
}

/// Processes a transaction.
pub async fn process(app: &App, call: &Call, json: Bytes) -> Result<BundleAnswer, Refusal> {
    let call = Arc::new(call.clone());
    let mut slots_taken = HashSet::new();
    let mut moved = 0;
    while moved < ATTEMPTS_MAX {
        let result = attempt(app, &call, json.clone(), &slots_taken).await;
        match result {
            Ok(Attempt::Done(answer)) => return Ok(answer),
            Ok(Attempt::Moved) => {
                pause(moved).await;
                moved += 1;
            }
            // Every such round leaves one entry fewer to find out about.
            Ok(Attempt::SlotTaken(index)) if slots_taken.insert(index) => {}
            Ok(Attempt::SlotTaken(_)) => moved += 1,
            Err(refusal) => return first_answer(app, &call).await?.ok_or(refusal),
        }
    }
    Err(Refusal::Contended)
}

async fn attempt(app: &App, call: &Arc<Call>, json: Bytes, slots_taken: &HashSet<usize>) -> Result<Attempt, Refusal> {
    let resolved = read_and_resolve(app, call, json, Kind::Transaction).await?;
    let known = Known::gather(app, &resolved).await?;
    let (resolved, mut faults) = sort_out(resolved);
    let slots = slots_taken.clone();
    let now = Utc::now();
    let Decision { group, told, faults: refused } = busy(move || decide(resolved, known, &slots, now)).await??;
    faults.extend(refused);
    if !faults.is_empty() {
        return Err(Refusal::Faults(faults));
    }
    if group.events.is_empty() {
        let first = first_answer(app, call).await?;
        return Ok(Attempt::Done(first.unwrap_or_else(|| BundleAnswer::new(Kind::Transaction, accepted(told), None))));
    }
    let mut answer = BundleAnswer::new(Kind::Transaction, accepted(told), None);
    // Nobody asks again without a key.
    let response = if call.idempotency.is_some() { answer.to_json()? } else { serde_json::Value::Null };
    let (append, taken_by) = group.into_append(call, call.idempotency.clone(), response);
    match app.executor.log.append(append).await? {
        Outcome::Appended(receipt) => {
            answer.receipt = Some(receipt);
            Ok(Attempt::Done(answer))
        }
        Outcome::Conflict { .. } => Ok(Attempt::Moved),
        Outcome::ClaimTaken { kind, index, .. } => {
            let entry = Group::entry_of(&taken_by, index);
            if kind == ClaimKind::PractitionerSlot.as_str() {
                Ok(Attempt::SlotTaken(entry))
            } else {
                Err(taken(entry, &kind))
            }
        }
        Outcome::Duplicate { same_request: true, receipt, response } => {
            BundleAnswer::replay(Kind::Transaction, Some(receipt), response).map(Attempt::Done)
        }
        Outcome::Duplicate { same_request: false, .. } => Err(Refusal::KeyReused),
    }
}

/// Reads the entries and resolves their references; what is wrong stays with its entry.
pub async fn read_and_resolve(
    app: &App,
    call: &Arc<Call>,
    json: Bytes,
    kind: Kind,
) -> Result<Vec<ResolvedResult>, Refusal> {
    let call = Arc::clone(call);
    let read = move || {
        let mut entries = bundle::entries(&call, &json)?;
        let criteria = criteria(&mut entries);
        Ok::<_, Refusal>((entries, criteria))
    };
    let (entries, criteria) = busy(read).await??;
    let bearers = app.references.bearers(criteria).await?;
    busy(move || resolve(kind, entries, &bearers)).await
}

/// The answer of the same request before, if there was one.
async fn first_answer(app: &App, call: &Call) -> Result<Option<BundleAnswer>, Refusal> {
    let Some(key) = &call.idempotency else { return Ok(None) };
    match app.executor.log.recall(key).await? {
        None => Ok(None),
        Some((true, receipt, response)) => BundleAnswer::replay(Kind::Transaction, Some(receipt), response).map(Some),
        Some((false, ..)) => Err(Refusal::KeyReused),
    }
}

fn sort_out(resolved: Vec<ResolvedResult>) -> (Vec<Resolved>, Vec<Fault>) {
    let (mut good, mut faults) = (Vec::with_capacity(resolved.len()), Vec::new());
    for result in resolved {
        match result {
            Ok(entry) => good.push(entry),
            Err(found) => faults.extend(found),
        }
    }
    (good, faults)
}

fn accepted(told: Vec<Told>) -> Vec<EntryOutcome> {
    told.into_iter().map(EntryOutcome::Accepted).collect()
}

/// A claim of an entry is somebody else's.
pub fn taken(index: usize, kind: &str) -> Refusal {
    let detail = "Something that must be unique is somebody else's.";
    Refusal::Faults(vec![Fault::new(ErrorKind::Conflict, in_resource(index), kind, detail)])
}
