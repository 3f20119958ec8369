//! Leaves sealed snapshots of long streams behind, so that a cold load does not have to read them from the beginning.
//!
//! A shortcut and nothing else: it is written where no request waits for it, and one that fails or finds no room is
//! counted and forgotten.

use std::sync::Arc;

use nexus_domain::Record;
use nexus_event_store::{EventLog, Header, SNAPSHOT_EVERY};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Standing;

/// The form in which states are kept. Raise it whenever the members of a state or the meaning of its fold change:
/// snapshots of another form count as none, and the streams are read from the beginning once more.
const FORM: u32 = 3;
/// How many snapshots may wait to be written.
const WAITING_MAX: usize = 64;

/// The way to the writer. Cheap to clone; the writer ends with the last clone.
#[derive(Clone)]
pub struct Snapshots {
    queue: mpsc::Sender<Wanted>,
    _writer: Arc<AbortOnDropHandle<()>>,
}

/// A snapshot to be written.
struct Wanted {
    subject: Uuid,
    aggregate_type: &'static str,
    id: Uuid,
    sequence: i64,
    /// Made by the writer: a state may be large.
    state: Box<dyn FnOnce() -> Option<Value> + Send>,
}

#[derive(Serialize)]
struct Kept<'a, A> {
    form: u32,
    state: &'a A,
}

#[derive(Deserialize)]
struct Form {
    form: u32,
}

#[derive(Deserialize)]
struct State<A> {
    state: A,
}

impl Snapshots {
    /// Starts the writer.
    pub fn start(log: EventLog) -> Self {
        let (queue, wanted) = mpsc::channel(WAITING_MAX);
        let writer = AbortOnDropHandle::new(tokio::spawn(write(log, wanted)));
        Self { queue, _writer: Arc::new(writer) }
    }

    /// After events were appended to a stream that stood at `before`.
    pub fn after_append<A: Record>(&self, id: Uuid, before: i64, standing: &Arc<Standing<A>>) {
        if before / SNAPSHOT_EVERY < standing.sequence / SNAPSHOT_EVERY {
            self.want(id, standing);
        }
    }

    /// After a load that had to fold this many events: streams also grow by bundles, which do not pass by here.
    pub fn after_load<A: Record>(&self, id: Uuid, folded: usize, standing: &Arc<Standing<A>>) {
        if i64::try_from(folded).is_ok_and(|folded| folded >= SNAPSHOT_EVERY) {
            self.want(id, standing);
        }
    }

    fn want<A: Record>(&self, id: Uuid, standing: &Arc<Standing<A>>) {
        let Some(subject) = standing.subject else { return };
        let (sequence, standing) = (standing.sequence, Arc::clone(standing));
        let state = move || serde_json::to_value(Kept { form: FORM, state: &standing.state }).ok();
        let wanted = Wanted { subject, aggregate_type: A::TYPE, id, sequence, state: Box::new(state) };
        if self.queue.try_send(wanted).is_err() {
            count("no_room");
        }
    }
}

/// The state that a snapshot keeps of the event with this header, if it is in the present form.
pub fn restore<A: Record>(header: &Header, kept: Value) -> Option<Standing<A>> {
    let Form { form } = Form::deserialize(&kept).ok()?;
    if form != FORM {
        return None;
    }
    let State { state } = nexus_domain::from_value(kept).ok()?;
    Some(Standing {
        state,
        sequence: header.sequence,
        subject: Some(header.subject),
        recorded_at: Some(header.recorded_at),
        stated: None,
    })
}

async fn write(log: EventLog, mut queue: mpsc::Receiver<Wanted>) {
    while let Some(Wanted { subject, aggregate_type, id, sequence, state }) = queue.recv().await {
        let saved = match state() {
            Some(state) => log.save_snapshot(subject, aggregate_type, id, sequence, &state).await.is_ok(),
            None => false,
        };
        count(if saved { "saved" } else { "failed" });
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("snapshots_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use nexus_domain::alert::Alert;
    use nexus_domain::allergy::Allergy;
    use nexus_domain::appointment::Appointment;
    use nexus_domain::clinical_record::ClinicalRecord;
    use nexus_domain::condition::Condition;
    use nexus_domain::consent::Consent;
    use nexus_domain::directory_entry::DirectoryEntry;
    use nexus_domain::emergency_access::EmergencyAccess;
    use nexus_domain::encounter::Encounter;
    use nexus_domain::medication_order::MedicationOrder;
    use nexus_domain::observation::Observation;
    use nexus_domain::patient::Patient;
    use serde_json::json;

    use super::*;

    fn members<A: Record>() -> String {
        let state = serde_json::to_value(A::default()).unwrap();
        let names: Vec<&str> = state.as_object().unwrap().keys().map(String::as_str).collect();
        format!("{}: {}", A::TYPE, names.join(" "))
    }

    /// A member that is optional would be read from an old snapshot as missing, without any error.
    #[test]
    fn whoever_changes_a_state_raises_the_form() {
        let found = [
            members::<Patient>(),
            members::<Encounter>(),
            members::<Observation>(),
            members::<Condition>(),
            members::<Allergy>(),
            members::<MedicationOrder>(),
            members::<Appointment>(),
            members::<Consent>(),
            members::<Alert>(),
            members::<EmergencyAccess>(),
            members::<ClinicalRecord>(),
            members::<DirectoryEntry>(),
        ];
        let of_this_form = (3, MEMBERS);
        assert_eq!((FORM, found.join("\n").as_str()), of_this_form, "raise FORM, then bring this list up to date");
    }

    const MEMBERS: &str = "Patient: resource filed entered_in_error hold erasure erased
Encounter: resource filed step
Observation: resource filed
Condition: resource filed status
Allergy: resource filed status
MedicationOrder: resource filed step
Appointment: resource filed step holds_slots reminded_of
Consent: resource filed status
Alert: resource
EmergencyAccess: resource filed
ClinicalRecord: resource filed retracted
DirectoryEntry: resource filed";

    #[test]
    fn a_snapshot_of_another_form_is_none() {
        let header = Header {
            aggregate_type: "Patient".to_owned(),
            aggregate_id: Uuid::from_u128(1),
            sequence: 200,
            subject: Uuid::from_u128(1),
            event_type: "Patient.Updated".to_owned(),
            event_version: "1.0".to_owned(),
            key_id: Uuid::from_u128(2),
            recorded_at: Utc::now(),
            traceparent: None,
        };
        let kept = serde_json::to_value(Kept { form: FORM, state: &Patient::default() }).unwrap();
        assert_eq!(restore::<Patient>(&header, kept.clone()).unwrap().sequence, 200);
        let mut older = kept.clone();
        older["form"] = json!(FORM - 1);
        assert!(restore::<Patient>(&header, older).is_none());
        assert!(restore::<Patient>(&header, json!({"resource": null})).is_none());
        assert!(restore::<Patient>(&header, json!({"form": FORM, "state": {"resource": 7}})).is_none());
    }
}
