//! The sections of a chart, and which resource belongs where.

use chrono::{DateTime, Utc};
use nexus_domain::fhir::{Resource, Stance, stance};
use serde::{Deserialize, Serialize};

use crate::rows;

/// A section of the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    Problems,
    Allergies,
    Medications,
    Encounters,
    Procedures,
    Immunizations,
    Documents,
}

impl Section {
    /// All sections, in the order in which a chart shows them.
    pub const ALL: [Self; 7] = [
        Self::Problems,
        Self::Allergies,
        Self::Medications,
        Self::Encounters,
        Self::Procedures,
        Self::Immunizations,
        Self::Documents,
    ];

    /// The name in tables and addresses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problems => "problems",
            Self::Allergies => "allergies",
            Self::Medications => "medications",
            Self::Encounters => "encounters",
            Self::Procedures => "procedures",
            Self::Immunizations => "immunizations",
            Self::Documents => "documents",
        }
    }

    /// Where a resource of this type belongs, if it belongs on a chart.
    pub fn of(resource_type: &str) -> Option<Self> {
        Some(match resource_type {
            "Condition" => Self::Problems,
            "AllergyIntolerance" => Self::Allergies,
            "MedicationRequest" | "MedicationStatement" => Self::Medications,
            "Encounter" => Self::Encounters,
            "Procedure" => Self::Procedures,
            "Immunization" => Self::Immunizations,
            "DocumentReference" | "DiagnosticReport" | "Composition" => Self::Documents,
            _ => return None,
        })
    }
}

/// Whether an entry is current, past or not (yet) so, or not listed at all: 0, 1, 2. An order not to give a medicine, a
/// proposal or a plan is none of what the patient takes.
pub(super) fn standing(resource: &Resource) -> i16 {
    match stance(resource) {
        Stance::Error | Stance::NotUnderstood => 2,
        Stance::Denied(_) | Stance::Meant(_) => 1,
        Stance::Fact | Stance::Doubtful(_) => standing_of_fact(resource),
    }
}

fn standing_of_fact(resource: &Resource) -> i16 {
    match rows::status_of(resource) {
        Some(
            "active" | "recurrence" | "relapse" | "on-hold" | "planned" | "arrived" | "triaged" | "in-progress"
            | "onleave" | "preparation" | "intended" | "current" | "preliminary" | "registered",
        ) => 0,
        // A problem or allergy without a clinical status is taken for a current one; so is a report that is final.
        None => 0,
        Some(_) if Section::of(resource.resource_type()) == Some(Section::Documents) => final_standing(resource),
        Some(_) => 1,
    }
}

/// A document stays current until another one takes its place.
fn final_standing(resource: &Resource) -> i16 {
    i16::from(matches!(resource.text("status"), Some("superseded" | "cancelled" | "deprecated")))
}

/// When it ended, where the resource says so.
pub(super) fn ended_at(resource: &Resource) -> Option<DateTime<Utc>> {
    let ends =
        ["/abatementDateTime", "/abatementPeriod/end", "/period/end", "/performedPeriod/end", "/effectivePeriod/end"];
    ends.iter().find_map(|pointer| rows::moment(resource.text_at(pointer)))
}
