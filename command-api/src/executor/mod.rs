//! One command, from what the caller asked to durable events.
//!
//! Load (memory first), authorise, decide, append. The append checks every sequence that the decision leaned on, so the
//! loop here only has to load again and decide again when something moved. It does not know HTTP.

mod answer;
mod circumstances;
mod in_flight;
mod lean;
mod load;
mod snapshots;
mod view;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nexus_auth::policy::{self, Action, Circumstances, Decision, ResourceContext};
use nexus_domain::types::{ClaimChange, ClaimKind};
use nexus_domain::{Issued, Origin};
use nexus_event_store::{Append, Claim, EventLog, Expectation, NewEvent, Outcome, Receipt, ReleaseClaim, TakeClaim};
use nexus_web::access;
use uuid::Uuid;

pub use answer::{Answer, Told};
pub use circumstances::Relations;
pub use in_flight::{InFlight, Turn};
pub use lean::{Cache, Caches, Lean};
pub use load::{Freshness, LoadError, Standing, keep, load};
pub use snapshots::Snapshots;
pub use view::{View, allergies_of};

use crate::call::Call;
use crate::claims::in_places;
use crate::existence::Existence;
use crate::refusal::Refusal;

/// How often a command is decided again after something it leaned on moved.
const ATTEMPTS_MAX: u32 = 6;
/// The longest pause before the second attempt; it doubles from there.
const PAUSE_MS_MAX: u64 = 4;

/// Makes the command from how the aggregate stands; asked again whenever it turns out to stand otherwise.
pub type MakeAction<A> =
    Box<dyn Fn(&Standing<A>) -> Result<<A as nexus_domain::Record>::Action, Refusal> + Send + Sync>;

/// A command and where it goes.
pub struct Task<A: Lean> {
    /// The command's name, as metrics count it.
    pub name: &'static str,
    pub id: Uuid,
    /// Whose data a new aggregate will be; an existing one knows.
    pub subject: Option<Uuid>,
    /// What the caller must be allowed to do.
    pub permission: Action,
    /// The resource type of what the command creates, if it creates something.
    pub creates: Option<String>,
    pub action: MakeAction<A>,
}

/// Carries out commands. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    pub log: EventLog,
    pub caches: Caches,
    pub existence: Existence,
    pub relations: Relations,
    pub in_flight: InFlight,
    snapshots: Snapshots,
}

/// What one attempt came to.
enum Attempt {
    Done(Answer),
    /// Something moved: look again.
    Moved,
    /// Nothing is to be stored. Final only if it was decided on fresh states.
    Settled(Result<Answer, Refusal>),
}

impl Executor {
    pub fn new(log: EventLog) -> Self {
        let caches = Caches::default();
        log.on_rollback({
            let caches = caches.clone();
            move || caches.clear()
        });
        // What was opened with a key that has been erased since is not kept, either.
        log.keyring().on_changed({
            let caches = caches.clone();
            move || caches.clear()
        });
        Self {
            existence: Existence::new(log.clone()),
            relations: Relations::new(log.clone()),
            snapshots: Snapshots::start(log.clone()),
            log,
            caches,
            in_flight: InFlight::default(),
        }
    }

    /// Carries out one command.
    ///
    /// # Errors
    /// If the caller may not, a rule refuses, or the store does not answer.
    pub async fn execute<A: Lean>(&self, call: &Call, task: Task<A>) -> Result<Answer, Refusal> {
        let result = self.execute_once::<A>(call, &task).await;
        count(task.name, &result);
        result
    }

    async fn execute_once<A: Lean>(&self, call: &Call, task: &Task<A>) -> Result<Answer, Refusal> {
        if !policy::may_ever(&call.caller, task.permission) {
            access::note_decision(task.permission, None, Decision::Deny);
            return Err(Refusal::Forbidden);
        }
        let _turn = self.in_flight.enter(call)?;
        let answer = match self.settle::<A>(call, task).await {
            Err(refusal) => match refusal.erased_subject() {
                Some(subject) => self.after_erasure(call, task.permission, subject).await?,
                None => return Err(refusal),
            },
            Ok(answer) => answer,
        };
        self.wait_if_asked(call, answer).await
    }

    /// What is asked of an erased patient is answered as of one that never was, unless this very request was answered before.
    async fn after_erasure(&self, call: &Call, permission: Action, subject: Uuid) -> Result<Answer, Refusal> {
        if let Some(answer) = self.first_answer(call).await? {
            return Ok(answer);
        }
        let context = ResourceContext::of_subject(subject);
        match policy::decide(&call.caller, permission, &context, &Circumstances::default()) {
            Decision::Deny => Err(Refusal::Forbidden),
            Decision::Allow | Decision::Unrelated | Decision::Hide => Err(Refusal::NotFound),
        }
    }

    async fn settle<A: Lean>(&self, call: &Call, task: &Task<A>) -> Result<Answer, Refusal> {
        let now = Utc::now();
        let mut freshness = Freshness::Cached;
        for attempt in 0..ATTEMPTS_MAX {
            let mut view = View::<A>::look(self, task, freshness).await?;
            match self.attempt(call, task, &mut view, now).await? {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Settled(_) if view.from_memory => freshness = Freshness::Fresh,
                Attempt::Settled(result) => return self.remember(call, result).await,
                Attempt::Moved => {
                    freshness = Freshness::Fresh;
                    pause(attempt).await;
                }
            }
        }
        Err(Refusal::Contended)
    }

    async fn attempt<A: Lean>(
        &self,
        call: &Call,
        task: &Task<A>,
        view: &mut View<A>,
        now: DateTime<Utc>,
    ) -> Result<Attempt, Refusal> {
        let sequence = view.standing.sequence;
        view.authorise(self, call, task).await?;
        if call.if_match.as_ref().is_some_and(|wanted| !wanted.holds(sequence)) {
            return Ok(Attempt::Settled(Err(Refusal::PreconditionFailed { sequence: Some(sequence) })));
        }
        let mut action = match (task.action)(&view.standing) {
            Ok(action) => action,
            Err(refusal) => return Ok(Attempt::Settled(Err(refusal))),
        };
        view.look_at_allergies(&self.log, &mut action).await?;
        view.look_at_survivor(self, &mut action).await?;
        let issued = Issued { now, origin: Origin::Decision, patient: view.facts.clone(), action };
        let events = match view.standing.state.decide(&issued) {
            Err(error) => return Ok(Attempt::Settled(Err(Refusal::rule(&error)))),
            Ok(events) if events.is_empty() => return Ok(Attempt::Settled(Ok(view.unchanged(task.id)))),
            Ok(events) => events,
        };
        if let Some(event) = events.last() {
            self.existence.check(event, &view.standing, view.subject).await?;
        }
        self.append(call, task.id, view, events).await
    }

    async fn append<A: Lean>(
        &self,
        call: &Call,
        id: Uuid,
        view: &View<A>,
        events: Vec<A::Event>,
    ) -> Result<Attempt, Refusal> {
        let subject = view.subject.ok_or(Refusal::NotFound)?;
        let taken = self.places_taken(id, &view.standing, &events).await?;
        let (append, next, told) = prepare(call, id, subject, view, events, &taken)?;
        match self.log.append(append).await? {
            Outcome::Appended(receipt) => {
                let next = Arc::new(Standing { recorded_at: Some(receipt.recorded_at), ..next });
                keep(&self.caches, id, &next);
                self.snapshots.after_append(id, view.standing.sequence, &next);
                Ok(Attempt::Done(Answer { told, receipt: Some(receipt), replayed: false, published: None }))
            }
            Outcome::Conflict { .. } => Ok(Attempt::Moved),
            // Somebody else has got into the place; there are others.
            Outcome::ClaimTaken { kind, .. } if kind == ClaimKind::DirectoryIdentifier.as_str() => Ok(Attempt::Moved),
            Outcome::ClaimTaken { kind, .. } => Ok(Attempt::Settled(Err(Refusal::ClaimTaken { kind }))),
            Outcome::Duplicate { same_request: true, receipt, response } => {
                Answer::replay(receipt, response).map(Attempt::Done)
            }
            Outcome::Duplicate { same_request: false, .. } => Err(Refusal::KeyReused),
        }
    }

    /// The places of directory identifiers that are others' already.
    async fn places_taken<A: Lean>(
        &self,
        id: Uuid,
        standing: &Standing<A>,
        events: &[A::Event],
    ) -> Result<HashSet<nexus_domain::types::Claim>, Refusal> {
        let wanted = |change: ClaimChange| match change {
            ClaimChange::Take(claim) if claim.kind == ClaimKind::DirectoryIdentifier => claim.places(),
            _ => Vec::new(),
        };
        let places: Vec<_> = events.iter().flat_map(|event| standing.state.claims(event)).flat_map(wanted).collect();
        if places.is_empty() {
            return Ok(HashSet::new());
        }
        let claims: Vec<Claim> = places.iter().cloned().map(stored_claim).collect();
        let holders = self.log.holders(&claims).await?;
        let others = |holder: Option<(String, Uuid)>| holder.is_some_and(|(_, holder)| holder != id);
        Ok(places.into_iter().zip(holders).filter_map(|(place, holder)| others(holder).then_some(place)).collect())
    }

    /// Keeps an answer for which nothing was stored, so that a retry gets it though things move on. If the same request
    /// was answered before, that answer is given.
    async fn remember(&self, call: &Call, result: Result<Answer, Refusal>) -> Result<Answer, Refusal> {
        let response = match &result {
            Ok(answer) => Some(answer.told.to_json()?),
            Err(refusal) => answer::refusal_to_json(refusal)?,
        };
        let Some(append) = response.and_then(|response| call.answer_only(response)) else {
            return self.first_answer(call).await?.map_or(result, Ok);
        };
        match self.log.append(append).await? {
            Outcome::Duplicate { same_request: true, receipt, response } => Answer::replay(receipt, response),
            Outcome::Duplicate { same_request: false, .. } => Err(Refusal::KeyReused),
            _ => result,
        }
    }

    /// What was answered when this request came first, if it came before.
    async fn first_answer(&self, call: &Call) -> Result<Option<Answer>, Refusal> {
        let Some(key) = &call.idempotency else { return Ok(None) };
        match self.log.recall(key).await? {
            None => Ok(None),
            Some((true, receipt, response)) => Answer::replay(receipt, response).map(Some),
            Some((false, ..)) => Err(Refusal::KeyReused),
        }
    }

    async fn wait_if_asked(&self, call: &Call, mut answer: Answer) -> Result<Answer, Refusal> {
        if let (true, Some(receipt)) = (call.prefer.wait_for_kafka, &answer.receipt) {
            answer.published = Some(self.published(call, receipt).await?);
        }
        Ok(answer)
    }

    /// Whether the events got into Kafka in time.
    pub async fn published(&self, call: &Call, receipt: &Receipt) -> Result<bool, Refusal> {
        Ok(self.log.wait_published(&receipt.positions, call.prefer.wait_at_most).await?)
    }
}

/// Counts a command by what became of it.
pub fn count<T>(command: &'static str, result: &Result<T, Refusal>) {
    let outcome = result.as_ref().map_or_else(Refusal::outcome, |_| "accepted");
    metrics::counter!("commands_total", "command" => command, "outcome" => outcome).increment(1);
}

/// The append of one command, the state after it, and what the caller will be told.
fn prepare<A: Lean>(
    call: &Call,
    id: Uuid,
    subject: Uuid,
    view: &View<A>,
    events: Vec<A::Event>,
    taken: &HashSet<nexus_domain::types::Claim>,
) -> Result<(Append, Standing<A>, Told), Refusal> {
    let told = Told::of::<A>(id, &view.standing, &events);
    let mut next = Standing::clone(&view.standing);
    let mut changes = Changes::new(A::TYPE, id);
    let mut new_events = Vec::with_capacity(events.len());
    for event in events {
        changes.add(in_places(&next.state.claims(&event), |place| taken.contains(place)));
        new_events.push(new_event::<A>(id, next.sequence + 1, subject, &event)?);
        next.advance(event, subject, Utc::now());
    }
    let append = Append {
        idempotency: call.idempotency.clone(),
        response: told.to_json()?,
        expect: view.expectations(id),
        take: changes.take,
        release: changes.release,
        events: new_events,
        metadata: call.metadata.clone(),
        traceparent: call.traceparent.clone(),
    };
    Ok((append, next, told))
}

/// An event of an aggregate as the log takes it.
pub fn new_event<A: Lean>(id: Uuid, sequence: i64, subject: Uuid, event: &A::Event) -> Result<NewEvent, Refusal> {
    use cqrs_es::DomainEvent;
    Ok(NewEvent {
        aggregate_type: A::TYPE.to_owned(),
        aggregate_id: id,
        sequence,
        subject,
        event_type: event.event_type(),
        event_version: event.event_version(),
        payload: serde_json::value::to_raw_value(event)
            .map_err(|_| Refusal::Internal("an event can't be written as JSON"))?,
        source: None,
    })
}

/// What a stream expects of the log.
pub fn stream_at(aggregate_type: &str, aggregate_id: Uuid, sequence: i64) -> Expectation {
    Expectation::Stream { aggregate_type: aggregate_type.to_owned(), aggregate_id, sequence }
}

/// The claims that one stream takes and gives up.
pub struct Changes {
    holder_type: &'static str,
    holder_id: Uuid,
    pub take: Vec<TakeClaim>,
    pub release: Vec<ReleaseClaim>,
}

impl Changes {
    pub fn new(holder_type: &'static str, holder_id: Uuid) -> Self {
        Self { holder_type, holder_id, take: Vec::new(), release: Vec::new() }
    }

    /// Adds what an event does to the claims.
    pub fn add(&mut self, changes: Vec<ClaimChange>) {
        for change in changes {
            match change {
                ClaimChange::Take(claim) => self.take.push(TakeClaim {
                    claim: stored_claim(claim),
                    holder_type: self.holder_type.to_owned(),
                    holder_id: self.holder_id,
                }),
                ClaimChange::Release(claim) => self.release.push(ReleaseClaim {
                    claim: stored_claim(claim),
                    holder_type: self.holder_type.to_owned(),
                    holder_id: self.holder_id,
                }),
            }
        }
    }
}

/// A claim of the domain as the store takes it.
pub fn stored_claim(claim: nexus_domain::types::Claim) -> Claim {
    Claim { kind: claim.kind.as_str().to_owned(), value: claim.value }
}

/// A random pause, so that commands about the same stream do not run into each other again.
pub async fn pause(attempt: u32) {
    let bound = PAUSE_MS_MAX << attempt.min(6);
    let (random, _) = Uuid::new_v4().as_u64_pair();
    tokio::time::sleep(Duration::from_micros(random % (bound * 1_000))).await;
}
