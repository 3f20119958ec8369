//! What a command is decided on: its own stream, the patient's, the patient's active allergies.

use std::sync::Arc;

use chrono::Utc;
use cqrs_es::Aggregate;
use nexus_auth::policy::{self, Circumstances, Decision, ResourceContext};
use nexus_domain::PatientFacts;
use nexus_domain::access::{Marks, lenders};
use nexus_domain::allergy::{ActiveAllergy, Allergy};
use nexus_domain::condition::Condition;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::fhir::Resource;
use nexus_domain::patient::Patient;
use nexus_event_store::{EventLog, Expectation, StoredEvent};
use nexus_web::access;
use uuid::Uuid;

use super::circumstances::context_of;
use super::{Answer, Executor, Freshness, Lean, Standing, Task, Told, load, stream_at};
use crate::call::Call;
use crate::refusal::Refusal;

/// The states that one attempt looks at.
pub struct View<A> {
    pub standing: Arc<Standing<A>>,
    pub subject: Option<Uuid>,
    pub facts: PatientFacts,
    /// The patient's stream that the decision leans on: id and sequence.
    patient: Option<(Uuid, i64)>,
    /// The stream of another patient that it leans on, too.
    survivor: Option<(Uuid, i64)>,
    /// The position of the subject's partition up to which its allergies are known.
    allergies_until: Option<i64>,
    /// Something came from memory and may be stale.
    pub from_memory: bool,
}

impl<A: Lean> View<A> {
    /// Looks at the aggregate and at the patient whose it is.
    pub async fn look(executor: &Executor, task: &Task<A>, freshness: Freshness) -> Result<Self, Refusal> {
        let of_its_own = match (freshness, task.subject) {
            (Freshness::Cached, Some(_)) => Freshness::Creating,
            _ => freshness,
        };
        let (standing, from_memory) = load::<A>(executor, task.id, of_its_own).await?;
        let subject = standing.subject.or(task.subject);
        let facts = PatientFacts::default();
        let mut view =
            Self { standing, subject, facts, patient: None, survivor: None, allergies_until: None, from_memory };
        if let Some(subject) = subject.filter(|_| A::ABOUT_A_PATIENT) {
            let (patient, from_memory) = load::<Patient>(executor, subject, freshness).await?;
            view.facts = patient.state.facts();
            view.patient = Some((subject, patient.sequence));
            view.from_memory |= from_memory;
        }
        Ok(view)
    }

    /// Tells the command which of the patient's allergies are active, if it wants to know.
    pub async fn look_at_allergies(&mut self, log: &EventLog, action: &mut A::Action) -> Result<(), Refusal> {
        if let Some(subject) = self.subject.filter(|_| A::needs_allergies(action)) {
            let (allergies, until) = allergies_of(log, subject).await?;
            A::learn_allergies(action, allergies);
            self.allergies_until = Some(until);
        }
        Ok(())
    }

    /// Tells the command what is known of the record that takes the place of this one, if it wants to know. Not from
    /// memory: two records must not replace each other.
    pub async fn look_at_survivor(&mut self, executor: &Executor, action: &mut A::Action) -> Result<(), Refusal> {
        if let Some(id) = A::survivor(action) {
            match load::<Patient>(executor, id, Freshness::Fresh).await {
                Ok((patient, _)) => {
                    A::learn_survivor(action, &patient.state.facts());
                    self.survivor = Some((id, patient.sequence));
                }
                // Nothing takes the place of another record that was erased itself.
                Err(error) if error.is_erased() => A::learn_survivor(action, &PatientFacts::default()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the caller may do this, judged by whose data it really is.
    pub async fn authorise(&self, executor: &Executor, call: &Call, task: &Task<A>) -> Result<(), Refusal> {
        let resource = self.standing.state.resource();
        // The path may name one patient and the stream belong to another: the stream counts. Of somebody who is not
        // there, there is nothing to protect.
        let subject = self.subject.filter(|_| self.patient.is_none_or(|(_, sequence)| sequence > 0));
        let (caller, action, now) = (&call.caller, task.permission, Utc::now());
        let judged = policy::depends_on_circumstances(caller, action);
        let marks = match resource {
            Some(resource) if judged => marks_of(executor, resource).await?,
            _ => resource.map(Marks::of).unwrap_or_default(),
        };
        let mut context = subject.map_or_else(ResourceContext::none, |subject| context_of(subject, resource, &marks));
        if let Some(creates) = &task.creates {
            context = context.to_be_created().of_type(creates);
        }
        let Some(subject) = subject.filter(|_| judged) else {
            return answer(access::judge(caller, action, &context, &Circumstances::default()));
        };
        let known = executor.relations.of(subject).await?;
        let resource_type = resource.map(Resource::resource_type);
        answer(access::judge(caller, action, &context, &known.circumstances(caller, resource_type, &marks, now)))
    }

    /// The answer to a command that has already had its effect.
    pub fn unchanged(&self, id: Uuid) -> Answer {
        let told = Told::of::<A>(id, &self.standing, &[]);
        Answer { told, receipt: None, replayed: false, published: None }
    }

    /// What must still be so when the events are stored.
    pub fn expectations(&self, id: Uuid) -> Vec<Expectation> {
        let mut expectations = vec![stream_at(A::TYPE, id, self.standing.sequence)];
        for (patient, sequence) in self.patient.into_iter().chain(self.survivor) {
            expectations.push(stream_at(Patient::TYPE, patient, sequence));
        }
        if let (Some(position), Some(subject)) = (self.allergies_until, self.subject) {
            let aggregate_type = Allergy::TYPE.to_owned();
            expectations.push(Expectation::SubjectTail { subject, aggregate_type, position });
        }
        expectations
    }
}

/// By what consents and labels may mean a resource, with what it gets from others as they stand now.
async fn marks_of(executor: &Executor, resource: &Resource) -> Result<Marks, Refusal> {
    let mut marks = Marks::of(resource);
    for (kind, id) in lenders(resource) {
        let lender = match kind {
            "Medication" => resource_of::<DirectoryEntry>(executor, id).await?,
            _ => resource_of::<Condition>(executor, id).await?,
        };
        marks.lend(lender.as_ref().map_or_else(Marks::unknown, Marks::of));
    }
    Ok(marks)
}

async fn resource_of<A: Lean>(executor: &Executor, id: Uuid) -> Result<Option<Resource>, Refusal> {
    let (standing, _) = load::<A>(executor, id, Freshness::Fresh).await?;
    Ok(standing.state.resource().cloned())
}

fn answer(decision: Decision) -> Result<(), Refusal> {
    match decision {
        Decision::Allow => Ok(()),
        Decision::Deny => Err(Refusal::Forbidden),
        Decision::Unrelated => Err(Refusal::Unrelated),
        Decision::Hide => Err(Refusal::NotFound),
    }
}

/// The active allergies of a patient, and the position of the patient's partition up to which this is so.
pub async fn allergies_of(log: &EventLog, subject: Uuid) -> Result<(Vec<ActiveAllergy>, i64), Refusal> {
    let (events, until) = log.subject_streams(subject, Allergy::TYPE).await?;
    let mut active = Vec::new();
    for stream in by_stream(events) {
        active.extend(Standing::<Allergy>::fold(stream)?.state.active());
    }
    Ok((active, until))
}

/// Events of several streams, each stream by itself and in order.
pub(super) fn by_stream(events: Vec<StoredEvent>) -> Vec<Vec<StoredEvent>> {
    let mut streams: Vec<Vec<StoredEvent>> = Vec::new();
    for event in events {
        let id = event.header.aggregate_id;
        match streams.iter_mut().find(|stream| stream[0].header.aggregate_id == id) {
            Some(stream) => stream.push(event),
            None => streams.push(vec![event]),
        }
    }
    for stream in &mut streams {
        stream.sort_by_key(|event| event.header.sequence);
    }
    streams
}
