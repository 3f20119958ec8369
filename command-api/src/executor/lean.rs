//! What the commands of each aggregate lean on outside their own stream, and where its hot states are kept.

use std::sync::Arc;

use nexus_domain::allergy::{ActiveAllergy, Allergy};
use nexus_domain::appointment::{Appointment, AppointmentCommand};
use nexus_domain::clinical_record::ClinicalRecord;
use nexus_domain::condition::Condition;
use nexus_domain::consent::Consent;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::encounter::Encounter;
use nexus_domain::medication_order::{MedicationOrder, MedicationOrderCommand};
use nexus_domain::observation::Observation;
use nexus_domain::patient::{Patient, PatientCommand};
use nexus_domain::{PatientFacts, Record};
use nexus_event_store::AggregateCache;
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
    ($($field:ident: $aggregate:ident = $entries:expr),* $(,)?) => {
        /// One bounded cache per aggregate type.
        #[derive(Clone)]
        pub struct Caches { $($field: Cache<$aggregate>,)* }

        impl Default for Caches {
            fn default() -> Self {
                Self { $($field: Cache::new($entries),)* }
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

// How many states of each type are kept; a state is about as large as its resource.
caches! {
    patient: Patient = 50_000,
    encounter: Encounter = 20_000,
    observation: Observation = 10_000,
    condition: Condition = 10_000,
    allergy: Allergy = 10_000,
    medication_order: MedicationOrder = 20_000,
    appointment: Appointment = 20_000,
    consent: Consent = 10_000,
    clinical_record: ClinicalRecord = 5_000,
    directory_entry: DirectoryEntry = 10_000,
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
