//! Every role and every action, against a table that is written down a second time on purpose.

use uuid::Uuid;

use super::{Action, Decision, ResourceContext, decide};
use crate::caller::{Caller, Identity, Role};

/// `+` always, `o` on one's own record only, `.` never. The columns stand in the order of `Role::ALL`:
/// registrar, nurse, physician, pharmacist, patient, auditor, analyst, operator, service.
const TABLE: [(Action, &str); 31] = [
    (Action::RegisterPatient, "+.......+"),
    (Action::UpdatePatient, "+.......+"),
    (Action::RecordDeath, "..+......"),
    (Action::LinkPatient, "+........"),
    (Action::ManageEncounter, ".++.....+"),
    (Action::RecordObservation, ".++.....+"),
    (Action::RecordCondition, "..+.....+"),
    (Action::RecordAllergy, ".++.....+"),
    (Action::Prescribe, "..+......"),
    (Action::ManageMedication, ".+++....."),
    (Action::ManageAppointment, "+++......"),
    (Action::ManageConsent, "+.+.o...."),
    (Action::FileRecord, ".++.....+"),
    (Action::ManageDirectory, "........+"),
    (Action::ImportBundle, "........+"),
    (Action::RequestErasure, "+........"),
    (Action::ApproveErasure, ".....+..."),
    (Action::ManageLegalHold, ".....+..."),
    (Action::ReadErasure, "+....+..."),
    (Action::SearchPatients, "++++....."),
    (Action::ReadChart, ".+++o...."),
    (Action::ReadVitalSigns, ".++.o...."),
    (Action::ReadTimeline, ".++.o+..."),
    (Action::ReadCensus, ".++......"),
    (Action::ReadAppointments, "+++......"),
    (Action::ReadPopulation, "......+.."),
    (Action::ReadFhir, ".++.o...+"),
    (Action::ReadDirectory, "++++++..+"),
    (Action::ReadOperations, ".....+.+."),
    (Action::ReadAccessLog, ".....+..."),
    (Action::ReadPatientAccesses, "....o+..."),
];

const OWN: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

fn caller(roles: &[Role], patient: Option<Uuid>) -> Caller {
    Caller::new(Identity {
        id: "somebody".to_owned(),
        roles: roles.iter().copied().collect(),
        patient,
        scopes: Vec::new(),
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
            let own = decide(&caller, action, &ResourceContext::of_subject(OWN));
            let other = decide(&caller, action, &ResourceContext::of_subject(OTHER));
            let nobodys = decide(&caller, action, &ResourceContext::none());
            let expected = match mark {
                '+' => [Decision::Allow; 3],
                'o' => [Decision::Allow, Decision::Hide, Decision::Hide],
                _ => [Decision::Deny; 3],
            };
            assert_eq!([own, other, nobodys], expected, "{role} {action:?}: own, another's, nobody's");
        }
    }
}

#[test]
fn without_a_role_nothing_is_allowed() {
    for action in Action::ALL {
        assert_eq!(decide(&caller(&[], Some(OWN)), action, &ResourceContext::of_subject(OWN)), Decision::Deny);
    }
}

#[test]
fn a_patient_without_a_record_of_their_own_sees_no_record() {
    for context in [ResourceContext::none(), ResourceContext::of_subject(OWN)] {
        assert_eq!(decide(&caller(&[Role::Patient], None), Action::ReadChart, &context), Decision::Hide);
    }
}

#[test]
fn roles_add_up() {
    let both = caller(&[Role::Patient, Role::Nurse], Some(OWN));
    assert_eq!(decide(&both, Action::ReadChart, &ResourceContext::of_subject(OTHER)), Decision::Allow);
    let hidden = caller(&[Role::Patient, Role::Analyst], Some(OWN));
    assert_eq!(decide(&hidden, Action::ReadChart, &ResourceContext::of_subject(OTHER)), Decision::Hide);
}
