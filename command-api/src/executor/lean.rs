//! What the commands of each aggregate lean on outside their own stream, and where its hot states are kept.

use std::sync::Arc;

use nexus_domain::alert::Alert;
use nexus_domain::allergy::{ActiveAllergy, Allergy};
use nexus_domain::appointment::{Appointment, AppointmentCommand};
use nexus_domain::clinical_record::ClinicalRecord;
use nexus_domain::condition::Condition;
use nexus_domain::consent::Consent;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::emergency_access::EmergencyAccess;
use nexus_domain::encounter::Encounter;
use nexus_domain::medication_order::{MedicationOrder, MedicationOrderCommand};
use nexus_domain::observation::Observation;
use nexus_domain::patient::{Patient, PatientCommand};
use nexus_domain::{PatientFacts, Record};
use nexus_event_store::AggregateCache;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::load::Standing;

/// Aggregates of one type that were touched lately.
pub type Cache<A> = AggregateCache<Arc<Standing<A>>>;

/// How the executor treats an aggregate: what its commands need to know beforehand.
pub trait Lean: Record {
    /// Whether its commands are about a patient whose stream they lean on.
    const ABOUT_A_PATIENT: bool;

    /// Where its hot states are.
    fn cache(caches: &Caches) -> &Cache<Self>;

    /// Whether this command leans on the patient's active allergies.
    fn needs_allergies(_action: &Self::Action) -> bool {
        false
    }

    /// Tells the command which allergies are active.
    fn learn_allergies(_action: &mut Self::Action, _allergies: Vec<ActiveAllergy>) {}

    /// The other patient's record that this command leans on.
    fn survivor(_action: &Self::Action) -> Option<Uuid> {
        None
    }

    /// Tells the command what is known of that record.
    fn learn_survivor(_action: &mut Self::Action, _survivor: &PatientFacts) {}

    /// Tells a command about history that the time it wants is somebody else's.
    fn learn_slot_taken(_action: &mut Self::Action) {}
}

macro_rules! caches {
    ($($field:ident: $aggregate:ident = $mebibytes:expr),* $(,)?) => {
        /// One cache per aggregate type, bounded by bytes.
        #[derive(Clone)]
        pub struct Caches { $($field: Cache<$aggregate>,)* }

        impl Default for Caches {
            fn default() -> Self {
                Self { $($field: Cache::weighed($mebibytes * 1024 * 1024, |standing| weigh(standing)),)* }
            }
        }

        impl Caches {
            /// Forgets everything.
            pub fn clear(&self) {
                $(self.$field.clear();)*
            }
        }
    };
}

// How many mebibytes of states of each type are kept: a usual state has a few kibibytes, the largest a thousand.
caches! {
    patient: Patient = 64,
    encounter: Encounter = 32,
    observation: Observation = 16,
    condition: Condition = 16,
    allergy: Allergy = 16,
    medication_order: MedicationOrder = 32,
    appointment: Appointment = 32,
    consent: Consent = 16,
    emergency_access: EmergencyAccess = 4,
    alert: Alert = 8,
    clinical_record: ClinicalRecord = 16,
    directory_entry: DirectoryEntry = 16,
}

/// What a state takes beside its resource, in bytes.
const STATE_BYTES: usize = 512;
/// What a member of an object takes beside its name and value, in bytes.
const MEMBER_BYTES: usize = 48;

/// About how many bytes a state takes: its resource decides.
fn weigh<A: Record>(standing: &Standing<A>) -> usize {
    STATE_BYTES + standing.state.resource().map_or(0, |resource| weigh_members(resource.members()))
}

fn weigh_members(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| MEMBER_BYTES + name.len() + weigh_value(value)).sum()
}

fn weigh_value(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) => 0,
            // Numbers keep their digits as text.
            Value::Number(number) => number.as_str().len(),
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weigh_value).sum(),
            Value::Object(members) => weigh_members(members),
        }
}

macro_rules! lean {
    ($($aggregate:ident: $field:ident, $about_a_patient:literal);* $(;)?) => {
        $(impl Lean for $aggregate {
            const ABOUT_A_PATIENT: bool = $about_a_patient;
            fn cache(caches: &Caches) -> &Cache<Self> {
                &caches.$field
            }
        })*
    };
}

lean! {
    Encounter: encounter, true;
    Observation: observation, true;
    Condition: condition, true;
    Allergy: allergy, true;
    Consent: consent, true;
    EmergencyAccess: emergency_access, true;
    Alert: alert, true;
    ClinicalRecord: clinical_record, true;
    DirectoryEntry: directory_entry, false;
}

impl Lean for Patient {
    const ABOUT_A_PATIENT: bool = false;

    fn cache(caches: &Caches) -> &Cache<Self> {
        &caches.patient
    }

    fn survivor(action: &PatientCommand) -> Option<Uuid> {
        match action {
            PatientCommand::LinkDuplicate { survivor, .. } => Some(*survivor),
            _ => None,
        }
    }

    fn learn_survivor(action: &mut PatientCommand, facts: &PatientFacts) {
        if let PatientCommand::LinkDuplicate { survivor_exists, .. } = action {
            *survivor_exists = facts.exists && !facts.replaced;
        }
    }
}

impl Lean for MedicationOrder {
    const ABOUT_A_PATIENT: bool = true;

    fn cache(caches: &Caches) -> &Cache<Self> {
        &caches.medication_order
    }

    fn needs_allergies(action: &MedicationOrderCommand) -> bool {
        matches!(action, MedicationOrderCommand::Prescribe { .. } | MedicationOrderCommand::Record { .. })
    }

    fn learn_allergies(action: &mut MedicationOrderCommand, allergies: Vec<ActiveAllergy>) {
        if let MedicationOrderCommand::Prescribe { active_allergies, .. }
        | MedicationOrderCommand::Record { active_allergies, .. } = action
        {
            *active_allergies = allergies;
        }
    }
}

impl Lean for Appointment {
    const ABOUT_A_PATIENT: bool = true;

    fn cache(caches: &Caches) -> &Cache<Self> {
        &caches.appointment
    }

    fn learn_slot_taken(action: &mut AppointmentCommand) {
        if let AppointmentCommand::Record { slot_taken, .. } = action {
            *slot_taken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_weighs_about_what_it_takes() {
        let text = "x".repeat(100_000);
        assert!((100_000..101_000).contains(&weigh_value(&json!([{"a": text}]))));
        // A list of short numbers takes many times its text.
        assert!(weigh_value(&json!(vec![0; 10_000])) >= 10_000 * size_of::<Value>());
    }
}
