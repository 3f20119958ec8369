//! What a caller may do: one pure function over a table.
//!
//! Nothing here reads a request, a database or a clock. What the decision needs to know about the resource comes in a
//! [`ResourceContext`], made from the loaded resource and never from the URL alone.

use uuid::Uuid;

use crate::caller::{Caller, Role};

/// One thing that a door lets somebody do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    RegisterPatient,
    UpdatePatient,
    RecordDeath,
    LinkPatient,
    ManageEncounter,
    RecordObservation,
    RecordCondition,
    RecordAllergy,
    Prescribe,
    ManageMedication,
    ManageAppointment,
    ManageConsent,
    FileRecord,
    ManageDirectory,
    ImportBundle,
    RequestErasure,
    ApproveErasure,
    ManageLegalHold,
    ReadErasure,
    SearchPatients,
    ReadChart,
    ReadVitalSigns,
    ReadTimeline,
    ReadCensus,
    ReadAppointments,
    ReadPopulation,
    ReadFhir,
    ReadDirectory,
    ReadOperations,
    ReadAccessLog,
    ReadPatientAccesses,
}

impl Action {
    /// Every action, in the order of the request path: writing first, then reading.
    pub const ALL: [Action; 31] = [
        Action::RegisterPatient,
        Action::UpdatePatient,
        Action::RecordDeath,
        Action::LinkPatient,
        Action::ManageEncounter,
        Action::RecordObservation,
        Action::RecordCondition,
        Action::RecordAllergy,
        Action::Prescribe,
        Action::ManageMedication,
        Action::ManageAppointment,
        Action::ManageConsent,
        Action::FileRecord,
        Action::ManageDirectory,
        Action::ImportBundle,
        Action::RequestErasure,
        Action::ApproveErasure,
        Action::ManageLegalHold,
        Action::ReadErasure,
        Action::SearchPatients,
        Action::ReadChart,
        Action::ReadVitalSigns,
        Action::ReadTimeline,
        Action::ReadCensus,
        Action::ReadAppointments,
        Action::ReadPopulation,
        Action::ReadFhir,
        Action::ReadDirectory,
        Action::ReadOperations,
        Action::ReadAccessLog,
        Action::ReadPatientAccesses,
    ];
}

/// The answer to "may they?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Refuse openly (403).
    Deny,
    /// Refuse without saying that the thing exists (404).
    Hide,
}

/// What the decision may depend on besides caller and action. It will grow (care relationship, labels, consent), so it is
/// made by its constructors only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceContext {
    /// The patient whose data it is, when it is anyone's.
    pub subject: Option<Uuid>,
}

impl ResourceContext {
    /// The resource belongs to no patient, or the patient is not known yet.
    pub fn none() -> Self {
        Self::default()
    }

    /// The resource belongs to this patient.
    pub fn of_subject(subject: Uuid) -> Self {
        Self { subject: Some(subject) }
    }
}

/// Decides whether the caller may do this to that resource. Several roles add up; without any role nothing is allowed.
pub fn decide(caller: &Caller, action: Action, resource: &ResourceContext) -> Decision {
    let mut decision = Decision::Deny;
    for role in caller.roles() {
        match decide_for_role(*role, caller.patient(), action, resource) {
            Decision::Allow => return Decision::Allow,
            Decision::Hide => decision = Decision::Hide,
            Decision::Deny => {}
        }
    }
    decision
}

fn decide_for_role(role: Role, own: Option<Uuid>, action: Action, resource: &ResourceContext) -> Decision {
    match grant(role, action) {
        Grant::Always => Decision::Allow,
        Grant::Own if own.is_some() && own == resource.subject => Decision::Allow,
        Grant::Own => Decision::Hide,
        Grant::Never => Decision::Deny,
    }
}

#[derive(Clone, Copy)]
enum Grant {
    Always,
    /// Only where the subject is the caller's own record; anybody else's does not exist for them.
    Own,
    Never,
}

fn grant(role: Role, action: Action) -> Grant {
    let allowed = match role {
        Role::Registrar => registrar(action),
        Role::Nurse => nurse(action),
        Role::Physician => physician(action),
        Role::Pharmacist => pharmacist(action),
        Role::Patient => return patient(action),
        Role::Auditor => auditor(action),
        Role::Analyst => matches!(action, Action::ReadPopulation),
        Role::Operator => matches!(action, Action::ReadOperations),
        Role::Service => service(action),
    };
    if allowed { Grant::Always } else { Grant::Never }
}

fn registrar(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        RegisterPatient
            | UpdatePatient
            | LinkPatient
            | ManageAppointment
            | ManageConsent
            | RequestErasure
            | ReadErasure
            | SearchPatients
            | ReadAppointments
            | ReadDirectory
    )
}

/// The privacy officer among others: agrees to an erasure that somebody else asks for, and says what has to be kept.
fn auditor(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        ReadTimeline
            | ReadDirectory
            | ReadOperations
            | ApproveErasure
            | ManageLegalHold
            | ReadErasure
            | ReadAccessLog
            | ReadPatientAccesses
    )
}

fn nurse(action: Action) -> bool {
    use Action::*;
    reads_clinical_data(action)
        || matches!(
            action,
            ManageEncounter | RecordObservation | RecordAllergy | ManageMedication | ManageAppointment | FileRecord
        )
}

fn physician(action: Action) -> bool {
    use Action::*;
    nurse(action) || matches!(action, RecordCondition | Prescribe | RecordDeath | ManageConsent)
}

fn pharmacist(action: Action) -> bool {
    use Action::*;
    matches!(action, ManageMedication | SearchPatients | ReadChart | ReadDirectory)
}

fn patient(action: Action) -> Grant {
    use Action::*;
    match action {
        ReadChart | ReadVitalSigns | ReadTimeline | ReadFhir | ManageConsent | ReadPatientAccesses => Grant::Own,
        ReadDirectory => Grant::Always,
        _ => Grant::Never,
    }
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

fn reads_clinical_data(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        SearchPatients
            | ReadChart
            | ReadVitalSigns
            | ReadTimeline
            | ReadCensus
            | ReadAppointments
            | ReadFhir
            | ReadDirectory
    )
}

#[cfg(test)]
mod tests;
