//! What has to be known before a bundle is decided about, fetched with as few questions as possible.

use std::collections::{HashMap, HashSet};

use cqrs_es::Aggregate;
use nexus_domain::allergy::ActiveAllergy;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::homes;
use nexus_domain::medication_order::MedicationOrder;
use nexus_domain::patient::Patient;
use nexus_domain::types::ClaimKind;
use nexus_event_store::StoredEvent;
use uuid::Uuid;

use super::group::TakenClaims;
use super::resolve::{Resolved, ResolvedResult};
use crate::app::App;
use crate::executor::{Standing, allergies_of};
use crate::existence::{Named, StreamId};
use crate::refusal::Refusal;

/// The active allergies of a patient, and the position up to which this is so (nothing for a patient who is new).
pub type Allergies = (Vec<ActiveAllergy>, Option<i64>);

/// What is known before deciding.
#[derive(Default)]
pub struct Known {
    pub streams: HashMap<StreamId, Vec<StoredEvent>>,
    pub patients: HashMap<Uuid, Standing<Patient>>,
    pub allergies: HashMap<Uuid, Allergies>,
    /// Whose the resources are that are referred to, as far as they exist.
    pub owners: HashMap<Named, Uuid>,
}

impl Known {
    /// Asks the log about everything that these entries touch: one query for their streams and patients, one for what
    /// they refer to, one per patient who gets a prescription. Who holds a record number that one of them wants may be
    /// another record of the same patient.
    pub async fn gather(app: &App, resolved: &[ResolvedResult], taken: &TakenClaims) -> Result<Self, Refusal> {
        let entries: Vec<&Resolved> =
            resolved.iter().flatten().filter(|resolved| resolved.existing.is_none()).collect();
        let mut wanted = HashSet::new();
        for resolved in &entries {
            wanted.extend(homes(&resolved.entry.resource_type).map(|home| (home.to_owned(), resolved.entry.id)));
            wanted.extend(resolved.subject.map(|subject| (Patient::TYPE.to_owned(), subject)));
        }
        let numbers = taken.iter().filter(|(claim, _)| claim.kind == ClaimKind::MedicalRecordNumber);
        wanted.extend(numbers.map(|(_, holder)| (Patient::TYPE.to_owned(), *holder)));
        let wanted: Vec<StreamId> = wanted.into_iter().collect();
        let mut known = Self { streams: app.executor.log.streams(&wanted).await?, ..Self::default() };
        known.fold_patients()?;
        known.find_patients_of_streams(app).await?;
        known.look_at_allergies(app, &entries).await?;
        known.owners = app.executor.existence.owners(entries.iter().flat_map(|resolved| &resolved.refers_to)).await?;
        Ok(known)
    }

    fn fold_patients(&mut self) -> Result<(), Refusal> {
        let is_patient = |(aggregate_type, _): &StreamId| aggregate_type == Patient::TYPE;
        let ids: Vec<StreamId> = self.streams.keys().filter(|stream| is_patient(stream)).cloned().collect();
        for stream in ids {
            if let Some(events) = self.streams.remove(&stream) {
                self.patients.insert(stream.1, Standing::fold(events)?);
            }
        }
        Ok(())
    }

    /// A deletion does not say whose the resource is; its stream does.
    async fn find_patients_of_streams(&mut self, app: &App) -> Result<(), Refusal> {
        let about_a_patient =
            self.streams.iter().filter(|((aggregate_type, _), _)| aggregate_type != DirectoryEntry::TYPE);
        let subjects = about_a_patient.filter_map(|(_, events)| events.first().map(|event| event.header.subject));
        let unknown: HashSet<Uuid> = subjects.filter(|subject| !self.patients.contains_key(subject)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let wanted: Vec<StreamId> = unknown.into_iter().map(|subject| (Patient::TYPE.to_owned(), subject)).collect();
        for ((_, id), events) in app.executor.log.streams(&wanted).await? {
            self.patients.insert(id, Standing::fold(events)?);
        }
        Ok(())
    }

    async fn look_at_allergies(&mut self, app: &App, entries: &[&Resolved]) -> Result<(), Refusal> {
        let orders = entries.iter().filter(|resolved| resolved.aggregate_type == MedicationOrder::TYPE);
        let patients: HashSet<Uuid> = orders.filter_map(|resolved| resolved.subject).collect();
        for patient in patients {
            if self.patients.contains_key(&patient) {
                let (allergies, until) = allergies_of(&app.executor.log, patient).await?;
                self.allergies.insert(patient, (allergies, Some(until)));
            }
        }
        Ok(())
    }

    /// What one entry by itself needs of it.
    pub fn share(&mut self, resolved: &Resolved) -> Self {
        let mut share = Self::default();
        for home in homes(&resolved.entry.resource_type) {
            share.streams.extend(self.streams.remove_entry(&(home.to_owned(), resolved.entry.id)));
        }
        let owners = share.streams.values().filter_map(|events| Some(events.first()?.header.subject));
        let owners: Vec<Uuid> = owners.collect();
        for patient in resolved.subject.into_iter().chain(owners).chain([resolved.entry.id]) {
            share.patients.extend(self.patients.get(&patient).map(|standing| (patient, standing.clone())));
            share.allergies.extend(self.allergies.get(&patient).map(|allergies| (patient, allergies.clone())));
        }
        let owned = |named: &Named| Some((named.clone(), *self.owners.get(named)?));
        share.owners = resolved.refers_to.iter().filter_map(owned).collect();
        share
    }
}
