//! What a caller may do: one pure function over roles, scopes, and what is known about caller and patient.
//!
//! Nothing here reads a request, a database or a clock. What the decision needs to know of the resource comes in a
//! [`ResourceContext`], made from the loaded resource and never from the URL alone; what it needs to know of caller and
//! patient comes in [`Circumstances`], which each door finds out in its own way. Reasons: `docs/adr/0011`.

mod circumstances;
mod grant;
mod purpose;
pub(crate) mod scope;

use uuid::Uuid;

pub use circumstances::{Circumstances, Relation, Verdict};
pub use purpose::{Purpose, purpose};

use crate::caller::{Caller, Role};
use grant::{Grant, grant};

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
    MarkNoShow,
    RemindAppointment,
    ManageConsent,
    ManageAlert,
    FileRecord,
    ManageDirectory,
    ImportBundle,
    RequestErasure,
    ApproveErasure,
    ManageLegalHold,
    ReadErasure,
    BreakGlass,
    ReviewEmergency,
    SearchPatients,
    ReadChart,
    ReadVitalSigns,
    ReadTimeline,
    ReadCensus,
    ReadAlerts,
    ReadAppointments,
    ReadPopulation,
    ReadFhir,
    ReadDirectory,
    ReadEmergencies,
    ReadOperations,
    ManageOperations,
    ReadAccessLog,
    ReadPatientAccesses,
}

impl Action {
    /// Every action, in the order of the request path: writing first, then reading.
    pub const ALL: [Action; 39] = [
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
        Action::MarkNoShow,
        Action::RemindAppointment,
        Action::ManageConsent,
        Action::ManageAlert,
        Action::FileRecord,
        Action::ManageDirectory,
        Action::ImportBundle,
        Action::RequestErasure,
        Action::ApproveErasure,
        Action::ManageLegalHold,
        Action::ReadErasure,
        Action::BreakGlass,
        Action::ReviewEmergency,
        Action::SearchPatients,
        Action::ReadChart,
        Action::ReadVitalSigns,
        Action::ReadTimeline,
        Action::ReadCensus,
        Action::ReadAlerts,
        Action::ReadAppointments,
        Action::ReadPopulation,
        Action::ReadFhir,
        Action::ReadDirectory,
        Action::ReadEmergencies,
        Action::ReadOperations,
        Action::ManageOperations,
        Action::ReadAccessLog,
        Action::ReadPatientAccesses,
    ];
}

/// The answer to "may they?", from the weakest to the strongest: several roles add up to the strongest of their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// Refuse openly (403): the roles or scopes don't allow this, whoever the patient is.
    Deny,
    /// Refuse without saying that the thing exists (404).
    Hide,
    /// Refuse openly, and say that a care relationship is missing (403).
    Unrelated,
    /// Go on.
    Allow,
}

/// How well a resource is kept even from those who care for the patient (HL7 v3-Confidentiality).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensitivity {
    /// `N` and below.
    #[default]
    Normal,
    /// `R`, or any of v3-ActCode's sensitivity codes.
    Restricted,
    /// `V`.
    VeryRestricted,
}

impl Sensitivity {
    /// From how rows hold it: 0, 1, and 2 for anything above.
    pub fn from_level(level: i16) -> Self {
        match level {
            ..=0 => Self::Normal,
            1 => Self::Restricted,
            _ => Self::VeryRestricted,
        }
    }
}

/// What the decision may depend on in the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceContext<'a> {
    /// The patient whose data it is, when it is anyone's.
    pub subject: Option<Uuid>,
    /// Its FHIR type; nothing if the question is about a whole record.
    pub resource_type: Option<&'a str>,
    pub sensitivity: Sensitivity,
    /// It does not exist yet.
    pub is_new: bool,
}

impl<'a> ResourceContext<'a> {
    /// The resource belongs to no patient, or the patient is not known yet.
    pub fn none() -> Self {
        Self::default()
    }

    /// The resource belongs to this patient.
    pub fn of_subject(subject: Uuid) -> Self {
        Self { subject: Some(subject), ..Self::default() }
    }

    /// The same, of a FHIR type.
    #[must_use]
    pub fn of_type(self, resource_type: &'a str) -> Self {
        Self { resource_type: Some(resource_type), ..self }
    }

    /// The same, as sensitive as this.
    #[must_use]
    pub fn as_sensitive_as(self, sensitivity: Sensitivity) -> Self {
        Self { sensitivity, ..self }
    }

    /// The same, about to be created.
    #[must_use]
    pub fn to_be_created(self) -> Self {
        Self { is_new: true, ..self }
    }
}

/// Decides whether the caller may do this to that resource. Several roles add up; without any role nothing is allowed. A
/// token with SMART scopes is limited to what they cover, too.
pub fn decide(
    caller: &Caller,
    action: Action,
    resource: &ResourceContext<'_>,
    circumstances: &Circumstances,
) -> Decision {
    let of_role = |role: &Role| decide_for_role(*role, caller.patient(), action, resource, circumstances);
    let decision = caller.roles().iter().map(of_role).max().unwrap_or(Decision::Deny);
    match decision {
        Decision::Allow if !scope::cover(caller, action, resource) => Decision::Deny,
        decision => decision,
    }
}

/// Whether there is any patient and any circumstance for which the roles allow this: if not, nothing has to be loaded.
pub fn may_ever(caller: &Caller, action: Action) -> bool {
    caller.roles().iter().any(|role| grant(*role, action) != Grant::Never)
}

/// Whether [`Circumstances`] can make a difference: if not, nobody has to find them out.
pub fn depends_on_circumstances(caller: &Caller, action: Action) -> bool {
    caller.roles().iter().any(|role| grant(*role, action) == Grant::InCare)
}

fn decide_for_role(
    role: Role,
    own: Option<Uuid>,
    action: Action,
    resource: &ResourceContext<'_>,
    circumstances: &Circumstances,
) -> Decision {
    match grant(role, action) {
        // An auditor follows what happened; what is restricted stays between the patient and those who treat them.
        Grant::Always if role == Role::Auditor && resource.sensitivity > Sensitivity::Normal => Decision::Hide,
        Grant::Always => Decision::Allow,
        Grant::Own if own.is_some() && own == resource.subject => Decision::Allow,
        Grant::Own => Decision::Hide,
        Grant::InCare => decide_in_care(role, action, resource, circumstances),
        Grant::Never => Decision::Deny,
    }
}

fn decide_in_care(
    role: Role,
    action: Action,
    resource: &ResourceContext<'_>,
    circumstances: &Circumstances,
) -> Decision {
    // Nothing is there, so there is nobody to protect; and whoever is to care for a patient has to begin somewhere.
    let begins_care = resource.is_new && matches!(action, Action::ManageEncounter | Action::ManageAppointment);
    if resource.subject.is_none() || begins_care {
        return Decision::Allow;
    }
    if circumstances.emergency && role == Role::Physician {
        return Decision::Allow;
    }
    if circumstances.consent == Some(Verdict::Deny) {
        return Decision::Hide;
    }
    if circumstances.relation == Relation::None && circumstances.consent != Some(Verdict::Permit) {
        return Decision::Unrelated;
    }
    if resource.sensitivity > clearance(role, circumstances.relation) { Decision::Hide } else { Decision::Allow }
}

/// How sensitive a thing this role may see.
fn clearance(role: Role, relation: Relation) -> Sensitivity {
    match (role, relation) {
        (Role::Physician, Relation::Own) => Sensitivity::VeryRestricted,
        (Role::Nurse, Relation::Own) => Sensitivity::Restricted,
        _ => Sensitivity::Normal,
    }
}

#[cfg(test)]
mod tests;
