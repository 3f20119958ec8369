//! Which role may do what: the table, one function per role.

use super::Action;
use crate::caller::Role;

/// What a role is given of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Always,
    /// Only where the subject is the caller's own record; anybody else's does not exist for them.
    Own,
    /// Only for patients that the caller has to do with.
    InCare,
    Never,
}

pub(super) fn grant(role: Role, action: Action) -> Grant {
    match role {
        Role::Registrar => always(registrar(action)),
        Role::Nurse => nurse(action),
        Role::Physician => physician(action),
        Role::Pharmacist => pharmacist(action),
        Role::Patient => patient(action),
        Role::Auditor => always(auditor(action)),
        Role::Analyst => always(action == Action::ReadPopulation),
        Role::Operator => always(matches!(action, Action::ReadOperations | Action::ManageOperations)),
        Role::Service => always(service(action)),
        Role::Reactor => always(reactor(action)),
    }
}

fn always(allowed: bool) -> Grant {
    if allowed { Grant::Always } else { Grant::Never }
}

/// Demographics need no care relationship: who is at the desk has to do with everybody who comes in.
fn registrar(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        RegisterPatient
            | UpdatePatient
            | LinkPatient
            | ManageAppointment
            | MarkNoShow
            | ManageConsent
            | RequestErasure
            | ReadErasure
            | SearchPatients
            | ReadAppointments
            | ReadDirectory
    )
}

fn nurse(action: Action) -> Grant {
    use Action::*;
    match action {
        ReadChart | ReadVitalSigns | ReadTimeline | ReadAlerts | ReadFhir | ManageEncounter | RecordObservation
        | RecordAllergy | ManageMedication | ManageAppointment | MarkNoShow | FileRecord => Grant::InCare,
        // Finding a patient is how a relationship begins; a search shows little of those without one.
        SearchPatients | ReadCensus | ReadAppointments | ReadDirectory => Grant::Always,
        _ => Grant::Never,
    }
}

fn physician(action: Action) -> Grant {
    use Action::*;
    match action {
        RecordCondition | Prescribe | RecordDeath | ManageConsent => Grant::InCare,
        BreakGlass => Grant::Always,
        _ => nurse(action),
    }
}

fn pharmacist(action: Action) -> Grant {
    use Action::*;
    match action {
        ManageMedication | ReadChart => Grant::InCare,
        SearchPatients | ReadDirectory => Grant::Always,
        _ => Grant::Never,
    }
}

fn patient(action: Action) -> Grant {
    use Action::*;
    match action {
        ReadChart | ReadVitalSigns | ReadTimeline | ReadFhir | ManageConsent | ReadPatientAccesses => Grant::Own,
        ReadDirectory => Grant::Always,
        _ => Grant::Never,
    }
}

/// The privacy officer among others: agrees to an erasure that somebody else asks for, and says what has to be kept.
fn auditor(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        ReadTimeline
            | ReadDirectory
            | ReadOperations
            | ReadEmergencies
            | ReviewEmergency
            | ApproveErasure
            | ManageLegalHold
            | ReadErasure
            | ReadAccessLog
            | ReadPatientAccesses
    )
}

/// Another system states what has happened elsewhere; it takes no decision here, so it neither prescribes nor searches.
fn service(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        ImportBundle
            | RegisterPatient
            | UpdatePatient
            | ManageEncounter
            | RecordObservation
            | RecordCondition
            | RecordAllergy
            | FileRecord
            | ManageDirectory
            | ReadFhir
            | ReadDirectory
    )
}

/// What follows from what is recorded, and nothing else: it reads no record here, and writes down no finding.
fn reactor(action: Action) -> bool {
    use Action::*;
    matches!(action, ManageAlert | MarkNoShow | RemindAppointment)
}
