//! Unique facts: two streams can't hold the same claim. And who bears which identifier, as far as it is looked up.

use serde::{Deserialize, Serialize};

/// What kind of fact is claimed; the name goes into the claims table beside the keyed hash of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimKind {
    /// A medical record number (an identifier of FHIR type `MR`), within its system.
    MedicalRecordNumber,
    /// A business identifier of a directory entry, within its resource type. FHIR does not make it unique (a tax number
    /// of several clinics, an employee number on two roles), so whoever bears it takes one of its [places](Claim::places).
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

/// How many bearers of one identifier are noted.
const PLACES: usize = 4;
/// What comes before the number of a place. FHIR has no such character in its strings.
const PLACE: char = '\u{1f}';

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

    /// The places in which the bearers of the same identifier are noted; the first is the claim itself. An identifier
    /// leads to somebody as long as only one bearer is noted.
    pub fn places(&self) -> Vec<Self> {
        let base = self.value.split(PLACE).next().unwrap_or_default();
        let others = (2..=PLACES).map(|place| format!("{base}{PLACE}{place}"));
        let values = std::iter::once(base.to_owned()).chain(others);
        values.map(|value| Self { kind: self.kind, value }).collect()
    }

    /// The places that a former bearer gives up: all but the last one. Once that is taken there may be more bearers
    /// than places, and nobody can tell when there is only one of them again.
    pub fn places_given_up(&self) -> Vec<Self> {
        let mut places = self.places();
        places.pop();
        places
    }

    /// Whether it is another place than the first.
    pub fn is_further_place(&self) -> bool {
        self.value.contains(PLACE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_the_claim_itself_and_the_last_is_kept() {
        let claim = Claim::directory_identifier("Organization", "urn:tax", "12-3");
        let places = claim.places();
        assert_eq!((places.len(), &places[0]), (PLACES, &claim));
        assert!(places.iter().all(|place| place.places() == places), "a place knows the others");
        assert_eq!(claim.places_given_up(), places[..PLACES - 1]);
        assert!(!claim.is_further_place() && places[1..].iter().all(Claim::is_further_place));
    }
}
