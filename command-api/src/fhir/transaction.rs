//! A transaction bundle: everything in one append, or nothing.

use std::sync::Arc;

use axum::body::Bytes;
use chrono::Utc;
use nexus_domain::patient::Patient;
use nexus_domain::types::ErrorKind;
use nexus_event_store::Outcome;

use super::answer::{BundleAnswer, EntryOutcome};
use super::bundle::{self, Kind};
use super::conditional::Bearers;
use super::decide::{Decision, decide};
use super::group::{TakenClaims, Taking, Told};
use super::home::settle_all;
use super::known::Known;
use super::resolve::{Resolved, ResolvedResult, criteria, resolve};
use super::{ATTEMPTS_MAX, busy, in_resource};
use crate::app::App;
use crate::call::Call;
use crate::executor::{Freshness, load, pause, stored_claim};
use crate::refusal::{Fault, Refusal};

/// How many merges one after the other are followed.
const LINKS_MAX: usize = 8;

/// What one attempt came to.
enum Attempt {
    Done(BundleAnswer),
    /// Something is other than it looked: look again.
    Moved,
}

/// Processes a transaction.
pub async fn process(app: &App, call: &Call, json: Bytes) -> Result<BundleAnswer, Refusal> {
    let call = Arc::new(call.clone());
    let mut claims_taken = TakenClaims::new();
    for moved in 0..ATTEMPTS_MAX {
        match attempt(app, &call, json.clone(), &mut claims_taken).await {
            Ok(Attempt::Done(answer)) => return Ok(answer),
            Ok(Attempt::Moved) => pause(moved).await,
            Err(refusal) => return first_answer(app, &call).await?.ok_or(refusal),
        }
    }
    Err(Refusal::Contended)
}

async fn attempt(app: &App, call: &Arc<Call>, json: Bytes, claims_taken: &mut TakenClaims) -> Result<Attempt, Refusal> {
    let resolved = read_and_resolve(app, call, json, Kind::Transaction).await?;
    let known = Known::gather(app, &resolved, claims_taken).await?;
    let (resolved, mut faults) = sort_out(resolved);
    let taken_before = claims_taken.clone();
    let now = Utc::now();
    let Decision { group, told, faults: refused } =
        busy(move || decide(Kind::Transaction, resolved, known, &taken_before, now)).await??;
    faults.extend(refused);
    if !faults.is_empty() {
        return Err(Refusal::Faults(faults));
    }
    let mut answer = BundleAnswer::new(Kind::Transaction, accepted(told), None);
    // Nobody asks again without a key.
    let response = if call.idempotency.is_some() { answer.to_json()? } else { serde_json::Value::Null };
    let (append, takings) = if group.events.is_empty() {
        let Some(append) = call.answer_only(response) else { return Ok(Attempt::Done(answer)) };
        (append, Vec::new())
    } else {
        group.into_append(call, call.idempotency.clone(), response)
    };
    match app.executor.log.append(append).await? {
        Outcome::Appended(receipt) => {
            app.references.heed(&takings);
            answer.receipt = Some(receipt).filter(|receipt| !receipt.positions.is_empty());
            Ok(Attempt::Done(answer))
        }
        Outcome::Conflict { .. } => Ok(Attempt::Moved),
        Outcome::ClaimTaken { kind, index, .. } => match takings.get(index) {
            // Somebody created it in the meantime, and the next look finds it: that is what the condition is for.
            Some(taking) if taking.conditional => Ok(Attempt::Moved),
            Some(_) => {
                look_at_claims(app, &takings, claims_taken).await?;
                Ok(Attempt::Moved)
            }
            None => Err(taken(0, &kind)),
        },
        Outcome::Duplicate { same_request: true, receipt, response } => {
            BundleAnswer::replay(Kind::Transaction, Some(receipt), response).map(Attempt::Done)
        }
        Outcome::Duplicate { same_request: false, .. } => Err(Refusal::KeyReused),
    }
}

/// Learns in one round trip which of the claims that a group wants are somebody else's. What the next decision makes of
/// it depends on the claim: history may want a time that is taken, an identifier may have several bearers.
pub async fn look_at_claims(app: &App, takings: &[Taking], taken: &mut TakenClaims) -> Result<(), Refusal> {
    let rivals: Vec<_> = takings.iter().flat_map(|taking| taking.rivals()).collect();
    let claims: Vec<_> = rivals.iter().cloned().map(stored_claim).collect();
    let holders = app.executor.log.holders(&claims).await?;
    for (claim, holder) in rivals.into_iter().zip(holders) {
        taken.extend(holder.map(|(_, holder)| (claim, holder)));
    }
    Ok(())
}

/// Reads the entries, resolves their references and settles whose they are; what is wrong stays with its entry.
pub async fn read_and_resolve(
    app: &App,
    call: &Arc<Call>,
    json: Bytes,
    kind: Kind,
) -> Result<Vec<ResolvedResult>, Refusal> {
    let (call, own) = (Arc::clone(call), app.own.clone());
    let read = move || {
        let mut entries = bundle::entries(&call, &own, &json)?;
        let criteria = criteria(&own, &mut entries);
        Ok::<_, Refusal>((entries, criteria))
    };
    let (entries, criteria) = busy(read).await??;
    let bearers = follow_merges(app, app.references.bearers(criteria).await?).await?;
    let own = app.own.clone();
    let resolved = busy(move || resolve(kind, &own, entries, &bearers)).await?;
    Ok(settle_all(&app.executor.existence, resolved).await?)
}

/// Whoever asks for the number of a record that was replaced means the patient, whose record is another one now.
async fn follow_merges(app: &App, mut bearers: Bearers) -> Result<Bearers, Refusal> {
    for id in bearers.patients_mut() {
        for _ in 0..LINKS_MAX {
            let (patient, _) = load::<Patient>(&app.executor, *id, Freshness::Fresh).await?;
            let Some(survivor) = patient.state.replaced_by() else { break };
            *id = survivor;
        }
    }
    Ok(bearers)
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
