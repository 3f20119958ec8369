//! Refusals that depend on what is already on record.

use chrono::{DateTime, Utc};

use crate::fhir::{Digest, Resource, Whose, patient_of, whose};
use crate::record::{Issued, Origin};
use crate::types::{ErrorKind, Note, RuleError};

/// A broken rule that is the same for all aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("There is no such patient.")]
    UnknownPatient,
    #[error("The patient's record was replaced by another one.")]
    PatientReplaced,
    #[error("The patient has died before.")]
    PatientDeceased,
    #[error("A different resource is already recorded under this id.")]
    AlreadyRecorded,
    #[error("A record can't be moved to another patient.")]
    SubjectChanged,
    #[error("The record was entered in error.")]
    EnteredInError,
    #[error("The reference leads to a resource of another patient.")]
    ForeignReference,
    #[error("The reference names a version that is its source's; here it leads to the resource in whatever version.")]
    VersionElsewhere,
}

impl RuleError for Refusal {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownPatient => ErrorKind::NotFound,
            Self::SubjectChanged | Self::ForeignReference | Self::VersionElsewhere => ErrorKind::Invalid,
            Self::PatientReplaced | Self::PatientDeceased | Self::AlreadyRecorded | Self::EnteredInError => {
                ErrorKind::Conflict
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::UnknownPatient => "unknown-patient",
            Self::PatientReplaced => "patient-replaced",
            Self::PatientDeceased => "patient-deceased",
            Self::AlreadyRecorded => "already-recorded",
            Self::SubjectChanged => "subject-changed",
            Self::EnteredInError => "entered-in-error",
            Self::ForeignReference => "foreign-reference",
            Self::VersionElsewhere => "version-elsewhere",
        }
    }

    fn pointer(&self) -> Option<&str> {
        (*self == Self::SubjectChanged).then_some("/subject")
    }
}

/// Whether the resource says what was first filed or what stands now. Anything else can't be recorded under the same id.
pub(crate) fn repeated(
    filed: Option<&Digest>,
    standing: Option<&Resource>,
    resource: &Resource,
) -> Result<bool, Refusal> {
    let Some(standing) = standing else { return Ok(false) };
    let digest = resource.digest();
    if filed == Some(&digest) || standing.digest() == digest { Ok(true) } else { Err(Refusal::AlreadyRecorded) }
}

/// The patient exists; nothing is decided any more in a record that was replaced.
pub(crate) fn about_patient<A>(issued: &Issued<A>, notes: &mut Vec<Note>) -> Result<(), Refusal> {
    if !issued.patient.exists {
        return Err(Refusal::UnknownPatient);
    }
    issued.judge(if issued.patient.replaced { Err(Refusal::PatientReplaced) } else { Ok(()) }, notes)
}

/// Nothing is begun for the dead. History is judged by when it happened.
pub(crate) fn alive<A>(
    issued: &Issued<A>,
    happened_at: Option<DateTime<Utc>>,
    notes: &mut Vec<Note>,
) -> Result<(), Refusal> {
    let dead = match issued.origin {
        Origin::Decision => issued.patient.deceased,
        Origin::History => happened_at.is_some_and(|time| issued.patient.died_before(time)),
    };
    issued.judge(if dead { Err(Refusal::PatientDeceased) } else { Ok(()) }, notes)
}

/// A correction stays with the patient. What is a patient's only by its links may be linked otherwise: its stream keeps
/// the patient, and a bundle's links are looked up.
pub(crate) fn same_subject(standing: &Resource, resource: &Resource) -> Result<(), Refusal> {
    let (before, after) = (patient_of(standing), patient_of(resource));
    let by_links = |resource| matches!(whose(resource), Whose::Linked(_));
    let about_a_thing = |resource| matches!(whose(resource), Whose::About(_));
    if about_a_thing(resource) && !about_a_thing(standing) {
        return Err(Refusal::SubjectChanged);
    }
    let unsaid = before.is_none() && by_links(standing) || after.is_none() && by_links(resource);
    if before == after || unsaid { Ok(()) } else { Err(Refusal::SubjectChanged) }
}
