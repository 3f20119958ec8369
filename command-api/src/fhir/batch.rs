//! A batch bundle: every entry by itself, with an outcome of its own.

use std::sync::Arc;

use axum::body::Bytes;
use chrono::Utc;
use futures::{StreamExt, stream};
use nexus_event_store::{Outcome, Receipt};
use serde_json::Value;
use uuid::Uuid;

use super::ATTEMPTS_MAX;
use super::answer::{BundleAnswer, EntryOutcome};
use super::bundle::{Kind, Method};
use super::decide::decide;
use super::group::{TakenClaims, Told};
use super::known::Known;
use super::resolve::Resolved;
use super::transaction::{look_at_claims, read_and_resolve, taken};
use crate::app::App;
use crate::call::Call;
use crate::executor::pause;
use crate::refusal::{Fault, Refusal};

/// How many entries are on their way at a time; the log commits them together.
const ENTRIES_AT_ONCE: usize = 128;

/// An entry's outcome, and where its events are.
type Done = (EntryOutcome, Option<Receipt>);

/// Processes a batch.
pub async fn process(app: &App, call: &Call, json: Bytes) -> Result<BundleAnswer, Refusal> {
    if let Some(answer) = first_answer(app, call).await? {
        return Ok(answer);
    }
    let call = Arc::new(call.clone());
    let resolved = read_and_resolve(app, &call, json, Kind::Batch).await?;
    let mut known = Known::gather(app, &resolved, &TakenClaims::new()).await?;
    let shares: Vec<_> =
        resolved.into_iter().map(|result| result.map(|resolved| (known.share(&resolved), resolved))).collect();
    let done: Vec<Result<Done, Refusal>> = stream::iter(shares)
        .map(|share| {
            let call = Arc::clone(&call);
            async move {
                match share {
                    Ok((known, resolved)) => process_entry(app, &call, known, resolved).await,
                    Err(faults) => Ok((EntryOutcome::Refused(faults), None)),
                }
            }
        })
        .buffered(ENTRIES_AT_ONCE)
        .collect()
        .await;
    let (mut outcomes, mut receipts) = (Vec::with_capacity(done.len()), Vec::new());
    for result in done {
        let (outcome, receipt) = result?;
        outcomes.push(outcome);
        receipts.extend(receipt);
    }
    remember(app, &call, outcomes, together(receipts)).await
}

/// One entry. What refuses it is its outcome; what fails fails the batch, and a retry finds the rest done.
async fn process_entry(app: &App, call: &Call, known: Known, resolved: Resolved) -> Result<Done, Refusal> {
    let index = resolved.entry.index;
    let mut known = Some(known);
    let mut claims_taken = TakenClaims::new();
    for attempt in 0..ATTEMPTS_MAX {
        let now_known = match known.take() {
            Some(known) => known,
            None => Known::gather(app, &[Ok(resolved.clone())], &claims_taken).await?,
        };
        let decision = decide(Kind::Batch, vec![resolved.clone()], now_known, &claims_taken, Utc::now())?;
        let Some(told) = decision.told.into_iter().next().filter(|_| decision.faults.is_empty()) else {
            return Ok((EntryOutcome::Refused(decision.faults), None));
        };
        if decision.group.events.is_empty() {
            return Ok((EntryOutcome::Accepted(told), None));
        }
        let (append, takings) = decision.group.into_append(call, None, Value::Null);
        match app.executor.log.append(append).await? {
            Outcome::Appended(receipt) => {
                app.references.heed(&takings);
                let told = Told { recorded_at: Some(receipt.recorded_at), ..told };
                return Ok((EntryOutcome::Accepted(told), Some(receipt)));
            }
            Outcome::Conflict { .. } => pause(attempt).await,
            Outcome::ClaimTaken { kind, index: at, holder_id, .. } => match takings.get(at) {
                // Somebody created it in the meantime, and another attempt would update that.
                Some(taking) if taking.conditional && resolved.entry.method == Method::Put => {
                    return Ok((EntryOutcome::Refused(vec![contended(index)]), None));
                }
                // Somebody created it in the meantime: that is what the condition is for.
                Some(taking) if taking.conditional => {
                    return Ok((EntryOutcome::Accepted(existing(&resolved, holder_id)), None));
                }
                Some(_) => look_at_claims(app, &takings, &mut claims_taken).await?,
                None => match taken(index, &kind) {
                    Refusal::Faults(faults) => return Ok((EntryOutcome::Refused(faults), None)),
                    other => return Err(other),
                },
            },
            Outcome::Duplicate { .. } => return Err(Refusal::Internal("an entry without a key was a duplicate")),
        }
    }
    Ok((EntryOutcome::Refused(vec![contended(index)]), None))
}

fn existing(resolved: &Resolved, id: Uuid) -> Told {
    let resource_type = resolved.entry.resource_type.clone();
    Told { status: 200, resource_type, id, sequence: None, recorded_at: None, notes: Vec::new(), updated: false }
}

fn contended(index: usize) -> Fault {
    let detail = "Too many requests change the same thing.";
    let kind = nexus_domain::types::ErrorKind::Conflict;
    Fault::new(kind, format!("/entry/{index}"), "version-conflict", detail)
}

/// Keeps the answer for a retry, under the batch's own key: its entries were stored without one, each is safe to repeat
/// because its id is always the same.
async fn remember(
    app: &App,
    call: &Call,
    outcomes: Vec<EntryOutcome>,
    receipt: Option<Receipt>,
) -> Result<BundleAnswer, Refusal> {
    let answer = BundleAnswer::new(Kind::Batch, outcomes, receipt);
    if call.idempotency.is_none() {
        return Ok(answer);
    }
    let Some(append) = call.answer_only(answer.to_json()?) else { return Ok(answer) };
    match app.executor.log.append(append).await? {
        Outcome::Duplicate { same_request: true, response, .. } => BundleAnswer::replay(Kind::Batch, None, response),
        Outcome::Duplicate { same_request: false, .. } => Err(Refusal::KeyReused),
        _ => Ok(answer),
    }
}

async fn first_answer(app: &App, call: &Call) -> Result<Option<BundleAnswer>, Refusal> {
    let Some(key) = &call.idempotency else { return Ok(None) };
    match app.executor.log.recall(key).await? {
        None => Ok(None),
        Some((true, _, response)) => BundleAnswer::replay(Kind::Batch, None, response).map(Some),
        Some((false, ..)) => Err(Refusal::KeyReused),
    }
}

/// The last position of each partition.
fn together(receipts: Vec<Receipt>) -> Option<Receipt> {
    let recorded_at = receipts.iter().map(|receipt| receipt.recorded_at).max()?;
    let mut last = std::collections::BTreeMap::new();
    for (partition, position) in receipts.into_iter().flat_map(|receipt| receipt.positions) {
        let head = last.entry(partition).or_insert(position);
        *head = position.max(*head);
    }
    Some(Receipt { positions: last.into_iter().collect(), recorded_at })
}
