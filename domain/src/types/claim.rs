//! Unique facts: two streams can't hold the same claim.

use serde::{Deserialize, Serialize};

/// What kind of fact is claimed; the name goes into the claims table beside the keyed hash of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimKind {
    /// A medical record number (an identifier of FHIR type `MR`), within its system.
    MedicalRecordNumber,
    /// A business identifier of a directory entry, within its resource type.
    DirectoryIdentifier,
    /// Five minutes of a practitioner's time.
    PractitionerSlot,
}

impl ClaimKind {
    /// The kind's stable name, used in tables and in problem details.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MedicalRecordNumber => "medical-record-number",
            Self::DirectoryIdentifier => "directory-identifier",
            Self::PractitionerSlot => "practitioner-slot",
        }
    }
}

/// A fact that at most one stream may hold at a time. The value may identify a patient: it is hashed with a key before
/// it is stored or compared anywhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    pub kind: ClaimKind,
    pub value: String,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({}, redacted)", self.kind.as_str())
    }
}

impl Claim {
    /// A patient's medical record number.
    pub fn medical_record_number(system: &str, value: &str) -> Self {
        Self { kind: ClaimKind::MedicalRecordNumber, value: format!("{system}|{value}") }
    }

    /// An identifier of a directory entry, such as a practitioner's NPI.
    pub fn directory_identifier(resource_type: &str, system: &str, value: &str) -> Self {
        Self { kind: ClaimKind::DirectoryIdentifier, value: format!("{resource_type}|{system}|{value}") }
    }

    /// One cell of a practitioner's calendar, named by its start.
    pub fn practitioner_slot(practitioner: uuid::Uuid, cell_start_epoch_minutes: i64) -> Self {
        Self { kind: ClaimKind::PractitionerSlot, value: format!("{practitioner}|{cell_start_epoch_minutes}") }
    }
}

/// What an event does to the claims: it takes one or gives one up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimChange {
    Take(Claim),
    Release(Claim),
}
