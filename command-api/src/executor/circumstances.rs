//! What the log knows of caller and patient: who cares for them, what they consent to, who has broken the glass.
//!
//! Read from the patient's own streams, and remembered up to the position where it was read. Each command asks the log
//! whether they have moved since, so that what any instance has written counts at once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use futures::future::try_join_all;
use nexus_auth::Caller;
use nexus_auth::policy::{self, Circumstances, Relation, ResourceContext, Sensitivity, Verdict};
use nexus_domain::AnyEvent;
use nexus_domain::access::{Asked, Care, ConsentRule, Emergency, Marks, Ruling, ruling};
use nexus_domain::appointment::Appointment;
use nexus_domain::consent::Consent;
use nexus_domain::emergency_access::EmergencyAccess;
use nexus_domain::encounter::Encounter;
use nexus_domain::fhir::Resource;
use nexus_event_store::{EventLog, StoredEvent};
use uuid::Uuid;

use super::LoadError;
use super::view::by_stream;

/// How long what was read of a patient is kept: for the commands of one sitting, and no longer than need be in plain.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Of how many patients it is remembered (some kilobytes each).
const REMEMBERED_MAX: u64 = 10_000;
/// The aggregates that say something about access.
const TELLING: [&str; 4] = [Encounter::TYPE, Appointment::TYPE, Consent::TYPE, EmergencyAccess::TYPE];

/// What a patient's record says about who may see it.
#[derive(Debug, Default)]
pub struct Known {
    care: Vec<Care>,
    consents: Vec<ConsentRule>,
    emergencies: Vec<Emergency>,
    /// Up to where of the patient's partition this is all.
    tail: i64,
}

/// Knows who has to do with which patient. Cheap to clone.
#[derive(Clone)]
pub struct Relations {
    log: EventLog,
    recent: moka::sync::Cache<Uuid, Arc<Known>>,
}

impl Relations {
    pub fn new(log: EventLog) -> Self {
        let recent = moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(REMEMBERED_FOR).build();
        log.on_rollback({
            let recent: moka::sync::Cache<Uuid, Arc<Known>> = recent.clone();
            move || recent.invalidate_all()
        });
        Self { log, recent }
    }

    /// What the log says now: from memory if it has said nothing since.
    pub async fn of(&self, subject: Uuid) -> Result<Arc<Known>, LoadError> {
        if let Some(known) = self.recent.get(&subject)
            && !self.log.has_moved(subject, &TELLING, known.tail).await?
        {
            return Ok(known);
        }
        self.read(subject).await
    }

    async fn read(&self, subject: Uuid) -> Result<Arc<Known>, LoadError> {
        let streams = TELLING.map(|aggregate_type| self.log.subject_streams(subject, aggregate_type));
        let streams = try_join_all(streams).await?;
        // Several statements, several moments: the earliest is the one up to which nothing is missing.
        let tail = streams.iter().map(|(_, tail)| *tail).min().unwrap_or_default();
        let mut known = Known { tail, ..Known::default() };
        for (events, _) in streams {
            for stream in by_stream(events) {
                known.learn(stream)?;
            }
        }
        let known = Arc::new(known);
        self.recent.insert(subject, Arc::clone(&known));
        Ok(known)
    }
}

impl Known {
    /// Every event carries the resource as it stands after it, so the last of a stream says all.
    fn learn(&mut self, stream: Vec<StoredEvent>) -> Result<(), LoadError> {
        let Some(StoredEvent { header, payload, .. }) = stream.into_iter().next_back() else { return Ok(()) };
        let events = AnyEvent::parse(&header.aggregate_type, &header.event_type, &header.event_version, payload)?;
        let Some(event) = events.last() else { return Ok(()) };
        self.care.extend(Care::of(event.resource()));
        self.consents.extend(ConsentRule::of(event.resource()));
        // Not any Task: one that was filed opens nothing.
        if let AnyEvent::EmergencyAccess(_) = event {
            self.emergencies.extend(Emergency::of(event.resource()));
        }
        Ok(())
    }

    /// The circumstances of one caller and one resource (or of the record as a whole).
    pub fn circumstances(
        &self,
        caller: &Caller,
        resource_type: Option<&str>,
        marks: &Marks,
        now: DateTime<Utc>,
    ) -> Circumstances {
        let emergency = self.has_broken_glass(caller, now);
        let mut circumstances = Circumstances { relation: self.relation(caller, now), emergency, consent: None };
        let asked = Asked {
            practitioner: caller.practitioner(),
            organization: caller.organization(),
            purpose: policy::purpose(caller, &circumstances).code(),
            resource_type,
            codes: &marks.codes,
            sensitivity: marks.sensitivity,
            now,
        };
        circumstances.consent = ruling(&self.consents, &asked).map(|ruling| match ruling {
            Ruling::Permit => Verdict::Permit,
            Ruling::Deny => Verdict::Deny,
        });
        circumstances
    }

    fn has_broken_glass(&self, caller: &Caller, now: DateTime<Utc>) -> bool {
        let own = |case: &&Emergency| case.practitioner.is_some() && case.practitioner == caller.practitioner();
        self.emergencies.iter().filter(own).any(|case| case.counts_at(now))
    }

    fn relation(&self, caller: &Caller, now: DateTime<Utc>) -> Relation {
        let is_among = |id: Option<Uuid>, ids: &[Uuid]| id.is_some_and(|id| ids.contains(&id));
        let relation = |care: &Care| {
            if is_among(caller.practitioner(), &care.practitioners) {
                Relation::Own
            } else if is_among(caller.organization(), &care.organizations) {
                Relation::Organization
            } else {
                Relation::None
            }
        };
        self.care.iter().filter(|care| care.counts_at(now)).map(relation).max().unwrap_or_default()
    }
}

/// The context of a resource that exists.
pub fn context_of<'a>(subject: Uuid, resource: Option<&'a Resource>, marks: &Marks) -> ResourceContext<'a> {
    let context = ResourceContext::of_subject(subject);
    match resource {
        None => context,
        Some(resource) => {
            context.of_type(resource.resource_type()).as_sensitive_as(Sensitivity::from_level(marks.sensitivity))
        }
    }
}
