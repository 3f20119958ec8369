//! No input may become an event that a read model can't apply: HL7's examples, the sample and mutations of both take the way
//! that a resource takes, from the bytes to the rows of every read model in a real Postgres. Each is refused, or read back
//! as it was sent.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use nexus_auth::Role;
use nexus_domain::allergy::Allergy;
use nexus_domain::appointment::Appointment;
use nexus_domain::clinical_record::ClinicalRecord;
use nexus_domain::condition::Condition;
use nexus_domain::consent::Consent;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::encounter::Encounter;
use nexus_domain::fhir::{Resource, patient_of, rewrite_references};
use nexus_domain::medication_order::MedicationOrder;
use nexus_domain::observation::Observation;
use nexus_domain::patient::Patient;
use nexus_domain::{AnyEvent, Issued, Origin, PatientFacts, Record, aggregate_for};
use nexus_event_store::partition_of;
use nexus_projections::{Event, ReadModel, read_models, schema_of};
use nexus_testkit::corpus::{Sample, mutations, originals};
use nexus_web::json::{JsonLimits, check};
use serde_json::Value;
use sqlx::Executor;
use uuid::Uuid;

use crate::world::{PARTITIONS, World};

/// Inputs in all, the originals included.
const INPUTS: usize = 21_000;
/// Events of a batch, as the engine has them when it catches up.
const BATCH: usize = 500;
/// Patients among whom the inputs are spread.
const PATIENTS: usize = 40;
const SEED: u64 = 0x6e65_7875;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_input_is_refused_or_read_back_and_no_read_model_minds() {
    let world = World::new().await;
    let patients: Vec<Uuid> = (0..PATIENTS).map(|_| Uuid::new_v4()).collect();
    world.keyring.ensure(&patients).await.unwrap();
    let originals = originals();
    let mutated = mutations(&originals, INPUTS - originals.len(), SEED);
    let mut tally = Tally::default();
    let inputs: Vec<Sample> = originals.into_iter().chain(mutated).collect();
    for (index, chunk) in inputs.chunks(BATCH).enumerate() {
        let mut events = Vec::new();
        for sample in chunk {
            let patient = patients[(index + events.len()) % patients.len()];
            if let Some(event) = tally.take(&world, sample, patient).await {
                events.push((sample, event));
            }
        }
        apply(&world, &events).await;
        read_back(&world, &events).await;
    }
    tally.assert_telling();
    for patient in patients.iter().take(5) {
        readable(&world, *patient).await;
    }
}

/// What became of the inputs.
#[derive(Default)]
struct Tally {
    accepted: HashMap<&'static str, usize>,
    refused: HashMap<&'static str, usize>,
    position: i64,
}

impl Tally {
    /// The event that an input becomes, if it is taken.
    async fn take(&mut self, world: &World, sample: &Sample, patient: Uuid) -> Option<Event> {
        let Some((resource, aggregate_type, payload, event_type)) = decided(sample, patient) else {
            *self.refused.entry(sample.mutation).or_default() += 1;
            return None;
        };
        *self.accepted.entry(sample.mutation).or_default() += 1;
        // The log keeps text.
        let payload: Value = serde_json::from_str(&payload).expect("what was written can be read");
        let facts = AnyEvent::parse(aggregate_type, &event_type.0, &event_type.1, payload);
        let [fact] = facts.expect("an event of today").try_into().expect("one event");
        let fact: AnyEvent = fact;
        assert_eq!(fact.resource().clone().into_json().to_string(), resource.clone().into_json().to_string());
        assert_eq!(fact.resource().digest(), resource.digest());
        self.position += 1;
        let id = resource.id().expect("it has one");
        let subject = if matches!(aggregate_type, DirectoryEntry::TYPE | Patient::TYPE) {
            id
        } else {
            patient_of(&resource).unwrap_or(patient)
        };
        world.keyring.ensure(&[subject]).await.unwrap();
        Some(Event {
            partition: partition_of(subject, PARTITIONS),
            position: self.position,
            subject,
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: id,
            sequence: 1,
            recorded_at: DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap(),
            actor: "test".to_owned(),
            fact,
            key: world.keyring.key(subject).await.unwrap(),
        })
    }

    /// A corpus that is refused as a whole, or never, proves nothing.
    fn assert_telling(&self) {
        let (accepted, refused) = (self.accepted.values().sum::<usize>(), self.refused.values().sum::<usize>());
        assert_eq!(accepted + refused, INPUTS);
        assert!(accepted > INPUTS / 3 && refused > INPUTS / 20, "{accepted} accepted, {refused} refused");
        for never in ["private", "repeated"] {
            assert_eq!(self.accepted.get(never), None, "{never}");
        }
        for often in ["none", "unicode", "long", "date", "number", "renamed"] {
            assert!(self.accepted.get(often).is_some_and(|count| *count > 100), "{often}");
        }
    }
}

/// From the bytes to an event's payload, as the write door does it; nothing if the input is refused. The resource is what is
/// stored: with its id and with references that lead to something.
fn decided(sample: &Sample, patient: Uuid) -> Option<(Resource, &'static str, String, (String, String))> {
    check(sample.text.as_bytes(), JsonLimits::default()).ok()?;
    let value: Value = serde_json::from_str(&sample.text).ok()?;
    let sent = tokens(&sample.text);
    assert_eq!(tokens(&value.to_string()), sent, "read as it stands ({})", sample.mutation);
    let mut resource = Resource::parse(value).ok()?;
    let aggregate_type = aggregate_for(resource.resource_type())?;
    resource.set_id(Uuid::new_v4());
    // A patient's links lead to other patients.
    if aggregate_type != Patient::TYPE {
        rewrite_references(&mut resource, &mut |text| stands_for(text, patient));
    }
    let (payload, event_type) = match aggregate_type {
        Patient::TYPE => decide::<Patient>(&resource),
        Encounter::TYPE => decide::<Encounter>(&resource),
        Observation::TYPE => decide::<Observation>(&resource),
        Condition::TYPE => decide::<Condition>(&resource),
        Allergy::TYPE => decide::<Allergy>(&resource),
        MedicationOrder::TYPE => decide::<MedicationOrder>(&resource),
        Appointment::TYPE => decide::<Appointment>(&resource),
        Consent::TYPE => decide::<Consent>(&resource),
        DirectoryEntry::TYPE => decide::<DirectoryEntry>(&resource),
        ClinicalRecord::TYPE => decide::<ClinicalRecord>(&resource),
        other => panic!("{other} is not tested"),
    }?;
    Some((resource, aggregate_type, payload, event_type))
}

fn decide<A: Record>(resource: &Resource) -> Option<(String, (String, String))> {
    let patient = PatientFacts { exists: true, ..PatientFacts::default() };
    let action = A::record(resource.clone());
    let issued = Issued { now: Utc::now(), origin: Origin::History, patient, action };
    let events = A::default().decide(&issued).ok()?;
    let [event]: [A::Event; 1] = events.try_into().expect("one event records a resource");
    let named = (cqrs_es::DomainEvent::event_type(&event), cqrs_es::DomainEvent::event_version(&event));
    Some((serde_json::to_string(&event).expect("an event can be written"), named))
}

/// References of the corpus lead to the input's patient, or to an id made from the text.
fn stands_for(text: &str, patient: Uuid) -> Option<String> {
    let (resource_type, rest) = text.split_once(['/', '?'])?;
    match resource_type {
        "Patient" => Some(format!("Patient/{patient}")),
        "http:" | "https:" => None,
        _ if rest.is_empty() => None,
        _ => {
            let bytes: [u8; 16] =
                std::array::from_fn(|at| rest.as_bytes().get(at % rest.len()).copied().unwrap_or(at as u8));
            Some(format!("{resource_type}/{}", Uuid::from_bytes(bytes)))
        }
    }
}

/// The tokens of a JSON text. Strings are compared as what they say, numbers by their digits; only an exponent's sign and
/// the case of its letter may be written otherwise.
fn tokens(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        at += 1;
        match bytes[start] {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => {
                while bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                tokens.push(format!("\"{}", serde_json::from_str::<String>(&text[start..at]).unwrap()));
            }
            b'{' | b'}' | b'[' | b']' | b':' | b',' => tokens.push(text[start..at].to_owned()),
            _ => {
                while at < bytes.len() && !b" \t\r\n{}[]:,\"".contains(&bytes[at]) {
                    at += 1;
                }
                tokens.push(text[start..at].replace('E', "e").replace("e+", "e"));
            }
        }
    }
    tokens
}

/// Applies a batch to every read model. If one can't, it says which events it can't apply by themselves.
async fn apply(world: &World, events: &[(&Sample, Event)]) {
    for model in read_models() {
        let wanted = || events.iter().filter(|(_, event)| model.wants(&event.aggregate_type));
        let batch: Vec<Event> = wanted().map(|(_, event)| event.clone()).collect();
        let Err(error) = try_apply(world, model.as_ref(), &batch).await else { continue };
        let mut culprits = Vec::new();
        for (sample, event) in wanted() {
            if let Err(error) = try_apply(world, model.as_ref(), std::slice::from_ref(event)).await {
                let text: String = sample.text.chars().take(2_000).collect();
                culprits.push(format!("{} {error:?}\n{text}", sample.mutation));
            }
        }
        panic!("{} can't apply {} events ({error:?}): {culprits:#?}", model.name(), culprits.len());
    }
}

async fn try_apply(world: &World, model: &dyn ReadModel, events: &[Event]) -> Result<(), Box<dyn std::error::Error>> {
    let mut tx = world.read.begin().await?;
    let path =
        format!("set local search_path = {}; set local role nexus_projector", schema_of(model.name(), model.version()));
    tx.execute(path.as_str()).await?;
    model.apply(&mut tx, events, &world.keyring).await?;
    tx.commit().await?;
    Ok(())
}

/// Every resource of a batch stands where the read door finds it, as it was sent.
async fn read_back(world: &World, events: &[(&Sample, Event)]) {
    let model = read_models().into_iter().find(|model| model.name() == "fhir_resources").unwrap();
    let schema = schema_of(model.name(), model.version());
    let ids: Vec<Uuid> = events.iter().map(|(_, event)| event.aggregate_id).collect();
    let rows: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as(&format!("select id, sealed from {schema}.resources where id = any($1)"))
            .bind(ids)
            .fetch_all(&world.read)
            .await
            .unwrap();
    let rows: HashMap<Uuid, Vec<u8>> = rows.into_iter().collect();
    for (sample, event) in events {
        let sent = event.fact.resource().clone();
        let context = format!("fhir_resources/resources/{}/{}", sent.resource_type(), event.aggregate_id);
        let plain = world.keyring.open_row(&event.key, &context, &rows[&event.aggregate_id]).unwrap();
        let stored: Resource = serde_json::from_slice(&plain).unwrap();
        assert_eq!(stored.into_json().to_string(), sent.into_json().to_string(), "{}", sample.mutation);
    }
}

/// Whatever the corpus says of a patient, the views of them can be read.
async fn readable(world: &World, patient: Uuid) {
    world.record([crate::world::patient(patient, "Weaver", "Ann", "1961-03-09")]).await;
    for view in ["chart", "timeline", "vital-signs"] {
        let mut path = format!("/v1/patients/{patient}/{view}?limit=500");
        if view == "chart" {
            path = format!("/v1/patients/{patient}/chart");
        }
        let answer = world.get(Role::Physician, &path).await;
        assert_eq!(answer.status, 200, "{view}: {}", String::from_utf8_lossy(&answer.bytes));
    }
}
