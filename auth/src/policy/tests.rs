//! Every role and every action, against a table that is written down a second time on purpose.

use uuid::Uuid;

use super::{
    Action, Circumstances, Decision, Purpose, Relation, ResourceContext, Sensitivity, Verdict, decide,
    depends_on_circumstances, purpose,
};
use crate::caller::{Caller, Identity, Role};

/// `+` always, `c` in a care relationship, `o` on one's own record only, `.` never. The columns stand in the order of
/// `Role::ALL`: registrar, nurse, physician, pharmacist, patient, auditor, analyst, operator, service, reactor.
const TABLE: [(Action, &str); 39] = [
    (Action::RegisterPatient, "+.......+."),
    (Action::UpdatePatient, "+.......+."),
    (Action::RecordDeath, "..c......."),
    (Action::LinkPatient, "+........."),
    (Action::ManageEncounter, ".cc.....+."),
    (Action::RecordObservation, ".cc.....+."),
    (Action::RecordCondition, "..c.....+."),
    (Action::RecordAllergy, ".cc.....+."),
    (Action::Prescribe, "..c......."),
    (Action::ManageMedication, ".ccc......"),
    (Action::ManageAppointment, "+cc......."),
    (Action::MarkNoShow, "+cc......+"),
    (Action::RemindAppointment, ".........+"),
    (Action::ManageConsent, "+.c.o....."),
    (Action::ManageAlert, ".........+"),
    (Action::FileRecord, ".cc.....+."),
    (Action::ManageDirectory, "........+."),
    (Action::ImportBundle, "........+."),
    (Action::RequestErasure, "+........."),
    (Action::ApproveErasure, ".....+...."),
    (Action::ManageLegalHold, ".....+...."),
    (Action::ReadErasure, "+....+...."),
    (Action::BreakGlass, "..+......."),
    (Action::ReviewEmergency, ".....+...."),
    (Action::SearchPatients, "++++......"),
    (Action::ReadChart, ".ccco....."),
    (Action::ReadVitalSigns, ".cc.o....."),
    (Action::ReadTimeline, ".cc.o+...."),
    (Action::ReadCensus, ".++......."),
    (Action::ReadAlerts, ".cc......."),
    (Action::ReadAppointments, "+++......."),
    (Action::ReadPopulation, "......+..."),
    (Action::ReadFhir, ".cc.o...+."),
    (Action::ReadDirectory, "++++++..+."),
    (Action::ReadEmergencies, ".....+...."),
    (Action::ReadOperations, ".....+.+.."),
    (Action::ManageOperations, ".......+.."),
    (Action::ReadAccessLog, ".....+...."),
    (Action::ReadPatientAccesses, "....o+...."),
];

const OWN: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

const STRANGER: Circumstances = Circumstances { relation: Relation::None, emergency: false, consent: None };
const COLLEAGUE: Circumstances = Circumstances { relation: Relation::Organization, ..STRANGER };
const CARING: Circumstances = Circumstances { relation: Relation::Own, ..STRANGER };
const EMERGENCY: Circumstances = Circumstances { emergency: true, ..STRANGER };

fn caller(roles: &[Role], patient: Option<Uuid>) -> Caller {
    with_scopes(roles, patient, "")
}

fn with_scopes(roles: &[Role], patient: Option<Uuid>, scopes: &str) -> Caller {
    Caller::new(Identity {
        id: "somebody".to_owned(),
        roles: roles.iter().copied().collect(),
        patient,
        practitioner: None,
        organization: None,
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        client_id: None,
        expires_at: i64::MAX,
    })
}

#[test]
fn every_role_may_do_what_the_table_says() {
    assert_eq!(TABLE.map(|(action, _)| action), Action::ALL, "the table has every action once, in order");
    for (action, row) in TABLE {
        assert_eq!(row.len(), Role::ALL.len(), "{action:?}");
        for (role, mark) in Role::ALL.into_iter().zip(row.chars()) {
            let caller = caller(&[role], Some(OWN));
            let contexts =
                [ResourceContext::of_subject(OWN), ResourceContext::of_subject(OTHER), ResourceContext::none()];
            let stranger = contexts.map(|context| decide(&caller, action, &context, &STRANGER));
            let caring = contexts.map(|context| decide(&caller, action, &context, &COLLEAGUE));
            use Decision::{Allow, Deny, Hide, Unrelated};
            let expected = match mark {
                '+' => ([Allow; 3], [Allow; 3]),
                'c' => ([Unrelated, Unrelated, Allow], [Allow; 3]),
                'o' => ([Allow, Hide, Hide], [Allow, Hide, Hide]),
                _ => ([Deny; 3], [Deny; 3]),
            };
            assert_eq!((stranger, caring), expected, "{role} {action:?}: own, another's, nobody's");
            assert_eq!(depends_on_circumstances(&caller, action), mark == 'c', "{role} {action:?}");
        }
    }
}

#[test]
fn without_a_role_nothing_is_allowed() {
    for action in Action::ALL {
        let decision = decide(&caller(&[], Some(OWN)), action, &ResourceContext::of_subject(OWN), &CARING);
        assert_eq!(decision, Decision::Deny);
    }
}

#[test]
fn a_patient_without_a_record_of_their_own_sees_no_record() {
    for context in [ResourceContext::none(), ResourceContext::of_subject(OWN)] {
        let decision = decide(&caller(&[Role::Patient], None), Action::ReadChart, &context, &STRANGER);
        assert_eq!(decision, Decision::Hide);
    }
}

#[test]
fn roles_add_up() {
    let other = ResourceContext::of_subject(OTHER);
    let both = caller(&[Role::Patient, Role::Nurse], Some(OWN));
    assert_eq!(decide(&both, Action::ReadChart, &other, &COLLEAGUE), Decision::Allow);
    assert_eq!(decide(&both, Action::ReadChart, &other, &STRANGER), Decision::Unrelated);
    let hidden = caller(&[Role::Patient, Role::Analyst], Some(OWN));
    assert_eq!(decide(&hidden, Action::ReadChart, &other, &STRANGER), Decision::Hide);
}

#[test]
fn care_may_begin_without_a_relationship_and_go_on_only_with_one() {
    let nurse = caller(&[Role::Nurse], None);
    let context = ResourceContext::of_subject(OTHER);
    for action in [Action::ManageEncounter, Action::ManageAppointment] {
        assert_eq!(decide(&nurse, action, &context.to_be_created(), &STRANGER), Decision::Allow);
        assert_eq!(decide(&nurse, action, &context, &STRANGER), Decision::Unrelated);
    }
    let observation = context.to_be_created();
    assert_eq!(decide(&nurse, Action::RecordObservation, &observation, &STRANGER), Decision::Unrelated);
}

#[test]
fn what_is_sensitive_is_for_few() {
    use Decision::{Allow, Hide};
    let sees = |role, circumstances: &Circumstances| {
        let levels = [Sensitivity::Normal, Sensitivity::Restricted, Sensitivity::VeryRestricted];
        levels.map(|level| {
            let context = ResourceContext::of_subject(OWN).as_sensitive_as(level);
            decide(&caller(&[role], Some(OWN)), Action::ReadTimeline, &context, circumstances)
        })
    };
    assert_eq!(sees(Role::Nurse, &COLLEAGUE), [Allow, Hide, Hide]);
    assert_eq!(sees(Role::Nurse, &CARING), [Allow, Allow, Hide]);
    assert_eq!(sees(Role::Physician, &COLLEAGUE), [Allow, Hide, Hide]);
    assert_eq!(sees(Role::Physician, &CARING), [Allow; 3]);
    assert_eq!(sees(Role::Physician, &EMERGENCY), [Allow; 3]);
    assert_eq!(sees(Role::Nurse, &EMERGENCY), [Decision::Unrelated; 3], "only physicians break the glass");
    assert_eq!(sees(Role::Patient, &STRANGER), [Allow; 3]);
    assert_eq!(sees(Role::Auditor, &STRANGER), [Allow, Hide, Hide]);
}

#[test]
fn consents_let_in_and_keep_out() {
    let decide = |role, action, circumstances| {
        decide(&caller(&[role], Some(OWN)), action, &ResourceContext::of_subject(OWN), &circumstances)
    };
    let (permit, deny) = (Some(Verdict::Permit), Some(Verdict::Deny));
    let permitted = Circumstances { consent: permit, ..STRANGER };
    assert_eq!(decide(Role::Nurse, Action::ReadChart, permitted), Decision::Allow);
    let denied = Circumstances { consent: deny, ..CARING };
    assert_eq!(decide(Role::Physician, Action::ReadChart, denied), Decision::Hide);
    assert_eq!(decide(Role::Physician, Action::RecordObservation, denied), Decision::Hide);
    assert_eq!(decide(Role::Patient, Action::ReadChart, denied), Decision::Allow);
    assert_eq!(decide(Role::Registrar, Action::UpdatePatient, denied), Decision::Allow);
    let emergency = Circumstances { emergency: true, ..denied };
    assert_eq!(decide(Role::Physician, Action::ReadChart, emergency), Decision::Allow);
    let permitted = ResourceContext::of_subject(OWN).as_sensitive_as(Sensitivity::Restricted);
    let circumstances = Circumstances { consent: permit, ..STRANGER };
    let decision = super::decide(&caller(&[Role::Nurse], None), Action::ReadFhir, &permitted, &circumstances);
    assert_eq!(decision, Decision::Hide, "a permit opens nothing that is restricted");
}

#[test]
fn scopes_limit_what_roles_allow() {
    use Decision::{Allow, Deny, Hide};
    let own = ResourceContext::of_subject(OWN);
    let fhir = |roles: &[Role], scopes, subject, resource_type| {
        let context = ResourceContext::of_subject(subject).of_type(resource_type);
        decide(&with_scopes(roles, Some(OWN), scopes), Action::ReadFhir, &context, &CARING)
    };
    let (patient, nurse) = (&[Role::Patient][..], &[Role::Nurse][..]);
    assert_eq!(fhir(patient, "openid fhirUser", OWN, "Observation"), Allow, "no scope about resources, no limit");
    assert_eq!(fhir(patient, "patient/Observation.rs", OWN, "Observation"), Allow);
    assert_eq!(fhir(patient, "patient/Observation.rs", OWN, "Condition"), Deny);
    assert_eq!(fhir(patient, "patient/Observation.s", OWN, "Observation"), Deny);
    assert_eq!(fhir(patient, "patient/*.cruds", OTHER, "Observation"), Hide, "scopes add nothing");
    assert_eq!(fhir(nurse, "patient/*.rs", OTHER, "Observation"), Deny, "not the patient of the token");
    assert_eq!(fhir(nurse, "user/*.rs", OTHER, "Observation"), Allow);
    assert_eq!(fhir(nurse, "system/*.rs", OTHER, "Observation"), Deny);
    assert_eq!(fhir(nurse, "user/Observation.nonsense", OTHER, "Observation"), Deny, "unknown scopes grant nothing");
    assert_eq!(fhir(&[Role::Service], "system/Observation.read", OTHER, "Observation"), Allow);
    assert_eq!(fhir(&[Role::Service], "user/Observation.read", OTHER, "Observation"), Deny);

    let write = |scopes, context: ResourceContext<'_>| {
        decide(&with_scopes(nurse, None, scopes), Action::RecordObservation, &context, &CARING)
    };
    assert_eq!(write("user/Observation.c", own.to_be_created()), Allow);
    assert_eq!(write("user/Observation.c", own), Deny);
    assert_eq!(write("user/Observation.write", own), Allow);

    let import = |scopes| {
        let service = with_scopes(&[Role::Service], None, scopes);
        decide(&service, Action::ImportBundle, &ResourceContext::none(), &STRANGER)
    };
    assert_eq!(import("system/*.cu"), Allow);
    assert_eq!(import("system/Observation.cu"), Deny, "a bundle may hold anything");
    let operator = with_scopes(&[Role::Operator], None, "user/*.cruds");
    assert_eq!(decide(&operator, Action::ReadOperations, &ResourceContext::none(), &STRANGER), Deny);
}

#[test]
fn the_purpose_follows_from_role_and_circumstances() {
    let of = |role, circumstances| purpose(&caller(&[role], None), circumstances);
    assert_eq!(of(Role::Physician, &CARING), Purpose::Treatment);
    assert_eq!(of(Role::Physician, &EMERGENCY), Purpose::EmergencyTreatment);
    assert_eq!(of(Role::Nurse, &EMERGENCY), Purpose::Treatment);
    assert_eq!(of(Role::Patient, &STRANGER), Purpose::PatientRequest);
}
