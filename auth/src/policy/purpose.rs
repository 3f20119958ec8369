//! What for: the codes of HL7 v3-PurposeOfUse (<https://terminology.hl7.org/ValueSet-v3-PurposeOfUse.html>).
//!
//! The purpose follows from role and circumstances. No header or claim sets it: whoever could state a purpose could state
//! the one that opens the most.

use super::Circumstances;
use crate::caller::{Caller, Role};

/// Why patient data is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Treatment.
    Treatment,
    /// Treatment in an emergency: the glass was broken.
    EmergencyTreatment,
    /// The patient asks.
    PatientRequest,
    /// Registration, demographics, appointments.
    PatientAdministration,
    /// Oversight of what happened to records.
    Compliance,
    /// Counts of a population.
    PopulationHealth,
    /// Running the platform.
    SystemAdministration,
    /// Records from another system.
    RecordManagement,
}

impl Purpose {
    /// The code of v3-PurposeOfUse.
    pub fn code(self) -> &'static str {
        match self {
            Self::Treatment => "TREAT",
            Self::EmergencyTreatment => "ETREAT",
            Self::PatientRequest => "PATRQST",
            Self::PatientAdministration => "PATADMIN",
            Self::Compliance => "HCOMPL",
            Self::PopulationHealth => "POPHLTH",
            Self::SystemAdministration => "HSYSADMIN",
            Self::RecordManagement => "RECORDMGT",
        }
    }
}

/// What the caller is here for. Of several roles, the one that treats goes first.
pub fn purpose(caller: &Caller, circumstances: &Circumstances) -> Purpose {
    const BY_ROLE: [(Role, Purpose); 10] = [
        (Role::Physician, Purpose::Treatment),
        (Role::Nurse, Purpose::Treatment),
        (Role::Pharmacist, Purpose::Treatment),
        (Role::Patient, Purpose::PatientRequest),
        (Role::Registrar, Purpose::PatientAdministration),
        (Role::Auditor, Purpose::Compliance),
        (Role::Analyst, Purpose::PopulationHealth),
        (Role::Service, Purpose::RecordManagement),
        (Role::Reactor, Purpose::Treatment),
        (Role::Operator, Purpose::SystemAdministration),
    ];
    if circumstances.emergency && caller.has(Role::Physician) {
        return Purpose::EmergencyTreatment;
    }
    let first = BY_ROLE.into_iter().find(|(role, _)| caller.has(*role));
    first.map_or(Purpose::SystemAdministration, |(_, purpose)| purpose)
}
