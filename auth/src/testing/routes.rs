//! Every route of both doors with what it does: the one list behind the permission tests of the doors and
//! `docs/access-matrix.md`. Each door's tests compare it with the door's own OpenAPI document, so a route without a row
//! fails.

use uuid::Uuid;

use super::caller_for_test;
use crate::caller::Role;
use crate::policy::{Action, Circumstances, Decision, Relation, ResourceContext, decide, scope};

/// A door of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Write,
    Read,
    /// The projector, for operators.
    Projector,
}

/// Whose data a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The patient in the path.
    Patient,
    /// The patient whose resource is in the path.
    Resource,
    /// No patient, or several.
    Nobody,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub door: Door,
    /// As in `POST /v1/patients`.
    pub name: &'static str,
    pub about: About,
    /// Any of these will do.
    pub actions: &'static [Action],
    /// It creates what it is about.
    pub creates: bool,
}

/// How a caller stands to the patient of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The patient is the caller.
    Own,
    /// The caller takes part in the care.
    InCare,
    /// The caller's organization does.
    Colleague,
    /// Nobody of them.
    Stranger,
}

impl Standing {
    pub const ALL: [Standing; 4] = [Standing::Own, Standing::InCare, Standing::Colleague, Standing::Stranger];
}

const PATIENT: Uuid = Uuid::from_u128(1);

impl Route {
    /// The method and the path.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once(' ').expect("a method, a space, a path")
    }

    /// What the policy says of somebody with this role and no scopes.
    pub fn expected(&self, role: Role, standing: Standing) -> Decision {
        let own = (role == Role::Patient).then(|| if standing == Standing::Own { PATIENT } else { Uuid::from_u128(2) });
        let caller = caller_for_test("somebody", &[role], own);
        let relation = match standing {
            Standing::InCare => Relation::Own,
            Standing::Colleague => Relation::Organization,
            Standing::Own | Standing::Stranger => Relation::None,
        };
        let circumstances = Circumstances { relation, ..Circumstances::default() };
        let decisions = self.actions.iter().map(|action| decide(&caller, *action, &self.context(), &circumstances));
        decisions.max().expect("a route has an action")
    }

    /// The scopes that cover it, for the table.
    pub fn scopes(&self) -> String {
        let scopes = self.actions.iter().map(|action| {
            let (types, letters) = scope::required(*action, &self.context());
            match types {
                [] => "(none)".to_owned(),
                [one] => format!("`{one}.{letters}`"),
                [_, ..] => format!("`.{letters}` of any type shown"),
            }
        });
        scopes.collect::<Vec<_>>().join(" or ")
    }

    fn context(&self) -> ResourceContext<'static> {
        let context = match self.about {
            About::Nobody => ResourceContext::none(),
            About::Patient | About::Resource => ResourceContext::of_subject(PATIENT),
        };
        if self.creates { context.to_be_created() } else { context }
    }
}

const fn creates(name: &'static str, about: About, actions: &'static [Action]) -> Route {
    Route { door: Door::Write, name, about, actions, creates: true }
}

const fn changes(name: &'static str, about: About, actions: &'static [Action]) -> Route {
    Route { door: Door::Write, name, about, actions, creates: false }
}

const fn reads(name: &'static str, about: About, actions: &'static [Action]) -> Route {
    Route { door: Door::Read, name, about, actions, creates: false }
}

const fn operates(name: &'static str) -> Route {
    Route { door: Door::Projector, name, about: About::Nobody, actions: &[Action::ManageOperations], creates: false }
}

/// Every route.
pub const ROUTES: &[Route] = &[
    creates("POST /v1/patients", About::Nobody, &[Action::RegisterPatient]),
    changes("PUT /v1/patients/{id}", About::Patient, &[Action::UpdatePatient]),
    changes("POST /v1/patients/{id}/death", About::Patient, &[Action::RecordDeath]),
    changes("POST /v1/patients/{id}/link", About::Patient, &[Action::LinkPatient]),
    creates("POST /v1/patients/{id}/encounters", About::Patient, &[Action::ManageEncounter]),
    creates("POST /v1/patients/{id}/observations", About::Patient, &[Action::RecordObservation]),
    creates("POST /v1/patients/{id}/conditions", About::Patient, &[Action::RecordCondition]),
    creates("POST /v1/patients/{id}/allergies", About::Patient, &[Action::RecordAllergy]),
    creates("POST /v1/patients/{id}/medication-orders", About::Patient, &[Action::Prescribe]),
    creates("POST /v1/patients/{id}/appointments", About::Patient, &[Action::ManageAppointment]),
    creates("POST /v1/patients/{id}/alerts", About::Patient, &[Action::ManageAlert]),
    creates("POST /v1/patients/{id}/consents", About::Patient, &[Action::ManageConsent]),
    creates("POST /v1/patients/{id}/records", About::Patient, &[Action::FileRecord]),
    creates("POST /v1/patients/{id}/break-glass", About::Patient, &[Action::BreakGlass]),
    changes("POST /v1/patients/{id}/legal-hold", About::Patient, &[Action::ManageLegalHold]),
    changes("POST /v1/patients/{id}/legal-hold/release", About::Patient, &[Action::ManageLegalHold]),
    changes("POST /v1/patients/{id}/erasure", About::Patient, &[Action::RequestErasure]),
    changes("POST /v1/patients/{id}/erasure/withdraw", About::Patient, &[Action::RequestErasure]),
    changes("POST /v1/patients/{id}/erasure/approve", About::Patient, &[Action::ApproveErasure]),
    changes("POST /v1/encounters/{id}/transfer", About::Resource, &[Action::ManageEncounter]),
    changes("POST /v1/encounters/{id}/finish", About::Resource, &[Action::ManageEncounter]),
    changes("POST /v1/encounters/{id}/cancel", About::Resource, &[Action::ManageEncounter]),
    changes("POST /v1/encounters/{id}/entered-in-error", About::Resource, &[Action::ManageEncounter]),
    changes("POST /v1/observations/{id}/amend", About::Resource, &[Action::RecordObservation]),
    changes("POST /v1/observations/{id}/entered-in-error", About::Resource, &[Action::RecordObservation]),
    changes("POST /v1/conditions/{id}/resolve", About::Resource, &[Action::RecordCondition]),
    changes("POST /v1/conditions/{id}/refute", About::Resource, &[Action::RecordCondition]),
    changes("POST /v1/conditions/{id}/entered-in-error", About::Resource, &[Action::RecordCondition]),
    changes("POST /v1/allergies/{id}/refute", About::Resource, &[Action::RecordAllergy]),
    changes("POST /v1/allergies/{id}/entered-in-error", About::Resource, &[Action::RecordAllergy]),
    changes("POST /v1/medication-orders/{id}/hold", About::Resource, &[Action::ManageMedication]),
    changes("POST /v1/medication-orders/{id}/resume", About::Resource, &[Action::ManageMedication]),
    changes("POST /v1/medication-orders/{id}/discontinue", About::Resource, &[Action::ManageMedication]),
    changes("POST /v1/medication-orders/{id}/complete", About::Resource, &[Action::ManageMedication]),
    changes("POST /v1/medication-orders/{id}/entered-in-error", About::Resource, &[Action::ManageMedication]),
    changes("POST /v1/appointments/{id}/confirm", About::Resource, &[Action::ManageAppointment]),
    changes("POST /v1/appointments/{id}/check-in", About::Resource, &[Action::ManageAppointment]),
    changes("POST /v1/appointments/{id}/cancel", About::Resource, &[Action::ManageAppointment]),
    changes("POST /v1/appointments/{id}/no-show", About::Resource, &[Action::MarkNoShow]),
    changes("POST /v1/appointments/{id}/reminder-due", About::Resource, &[Action::RemindAppointment]),
    changes("POST /v1/appointments/{id}/entered-in-error", About::Resource, &[Action::ManageAppointment]),
    changes("POST /v1/consents/{id}/withdraw", About::Resource, &[Action::ManageConsent]),
    changes("POST /v1/emergency-accesses/{id}/review", About::Resource, &[Action::ReviewEmergency]),
    changes("PUT /v1/records/{type}/{id}", About::Resource, &[Action::FileRecord]),
    changes("POST /v1/records/{type}/{id}/retract", About::Resource, &[Action::FileRecord]),
    creates("POST /v1/directory", About::Nobody, &[Action::ManageDirectory]),
    changes("PUT /v1/directory/{type}/{id}", About::Nobody, &[Action::ManageDirectory]),
    changes("POST /v1/directory/{type}/{id}/retire", About::Nobody, &[Action::ManageDirectory]),
    creates("POST /fhir", About::Nobody, &[Action::ImportBundle]),
    reads("GET /v1/patients", About::Nobody, &[Action::SearchPatients]),
    reads("GET /v1/patients/{id}", About::Patient, &[Action::SearchPatients, Action::ReadChart]),
    reads("GET /v1/patients/{id}/chart", About::Patient, &[Action::ReadChart]),
    reads("GET /v1/patients/{id}/vital-signs", About::Patient, &[Action::ReadVitalSigns]),
    reads("GET /v1/patients/{id}/timeline", About::Patient, &[Action::ReadTimeline]),
    reads("GET /v1/patients/{id}/feed", About::Patient, &[Action::ReadTimeline]),
    reads("GET /v1/patients/{id}/accesses", About::Patient, &[Action::ReadPatientAccesses]),
    reads("GET /v1/patients/{id}/erasure", About::Patient, &[Action::ReadErasure]),
    reads("GET /v1/accesses", About::Nobody, &[Action::ReadAccessLog]),
    reads("GET /v1/census", About::Nobody, &[Action::ReadCensus]),
    reads("GET /v1/wards/{location}/census", About::Nobody, &[Action::ReadCensus]),
    reads("GET /v1/wards/{location}/feed", About::Nobody, &[Action::ReadCensus]),
    reads("GET /v1/wards/{location}/alerts", About::Nobody, &[Action::ReadAlerts]),
    reads("GET /v1/patients/{id}/alerts", About::Patient, &[Action::ReadAlerts]),
    reads("GET /v1/practitioners/{id}/appointments", About::Nobody, &[Action::ReadAppointments]),
    reads("GET /v1/population/conditions", About::Nobody, &[Action::ReadPopulation]),
    reads("GET /v1/population/age-bands", About::Nobody, &[Action::ReadPopulation]),
    reads("GET /v1/emergency-accesses", About::Nobody, &[Action::ReadEmergencies]),
    reads("GET /fhir/AuditEvent", About::Nobody, &[Action::ReadAccessLog]),
    reads("GET /fhir/AuditEvent/{id}", About::Nobody, &[Action::ReadAccessLog]),
    reads("GET /fhir/{type}/{id}", About::Resource, &[Action::ReadFhir]),
    reads("GET /v1/read-models", About::Nobody, &[Action::ReadOperations]),
    reads("GET /v1/parked", About::Nobody, &[Action::ReadOperations]),
    reads("GET /v1/read-models/feed", About::Nobody, &[Action::ReadOperations]),
    operates("POST /v1/parked/{read_model}/{subject}/retry"),
    operates("POST /v1/parked/{read_model}/{subject}/discard"),
];
