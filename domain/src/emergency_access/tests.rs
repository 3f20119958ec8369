//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::json;

use super::{EmergencyAccess, EmergencyAccessCommand, EmergencyAccessEvent};
use crate::common::testing::{self, decided, fold_all, given, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts};

fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Task",
        "id": "5cc6df9b-3cf0-4a8e-9d0f-0a9a9d2d5a11",
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "BTG"}]},
        "for": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "authoredOn": "2026-11-24T08:00:00Z",
        "requester": {
            "reference": "Practitioner/0696ac49-3128-87d3-7344-04510aa4f324",
            "identifier": {"system": "urn:nexushealth:account", "value": "doctor"}
        },
        "reasonCode": {"text": "Unconscious, brought in by ambulance."},
        "restriction": {"period": {"start": "2026-11-24T08:00:00Z", "end": "2026-11-24T08:30:00Z"}}
    }))
}

fn open(resource: Resource) -> Issued<EmergencyAccessCommand> {
    decided(EmergencyAccessCommand::Open { resource })
}

fn review(finding: &str, reviewer: &str) -> Issued<EmergencyAccessCommand> {
    decided(EmergencyAccessCommand::Review { finding: finding.to_owned(), reviewer: reviewer.to_owned() })
}

fn opened() -> Vec<EmergencyAccessEvent> {
    vec![EmergencyAccessEvent::Opened { resource: resource(), notes: Vec::new() }]
}

fn reviewed() -> Vec<EmergencyAccessEvent> {
    testing::after::<EmergencyAccess>(&opened(), &review("Justified.", "auditor"))
}

#[track_caller]
fn check(events: &[EmergencyAccessEvent], when: &Issued<EmergencyAccessCommand>, then: Result<&[&str], &str>) {
    testing::check::<EmergencyAccess>(events, when, then);
}

#[test]
fn open_for_a_reason_and_a_time() {
    check(&[], &open(resource()), Ok(&["EmergencyAccess.Opened"]));
    check(&opened(), &open(resource()), Ok(&[]));
    check(&opened(), &open(resource().with("reasonCode", json!({"text": "Other."}))), Err("already-recorded"));
    check(&[], &open(resource().with("reasonCode", json!({"text": " "}))), Err("empty-element"));
    for element in ["for", "requester", "reasonCode", "restriction"] {
        check(&[], &open(resource().without(element)), Err("required-element-missing"));
    }
    check(&[], &open(resource().with("status", json!("completed"))), Err("unknown-code"));
    let until = |end: &str| json!({"period": {"start": "2026-11-24T08:00:00Z", "end": end}});
    for end in ["2026-11-24T09:00:01Z", "2026-11-24T08:00:00Z"] {
        check(&[], &open(resource().with("restriction", until(end))), Err("out-of-range"));
    }
    check(&[], &open(resource().with("restriction", until("2026-11-24T07:00:00Z"))), Err("end-before-start"));
    let nobody = Issued { patient: PatientFacts::default(), ..open(resource()) };
    check(&[], &nobody, Err("unknown-patient"));
    let other = testing::resource(json!({"resourceType": "Basic", "code": {"text": "x"}}));
    check(&[], &open(other), Err("wrong-resource-type"));
}

#[test]
fn review_once_and_by_somebody_else() {
    check(&[], &review("Justified.", "auditor"), Err("unknown-emergency-access"));
    check(&opened(), &review("Justified.", "auditor"), Ok(&["EmergencyAccess.Reviewed"]));
    check(&opened(), &review("Justified.", "doctor"), Err("own-case"));
    check(&opened(), &review("", "auditor"), Err("empty-element"));
    check(&reviewed(), &review("Justified.", "auditor"), Ok(&[]));
    check(&reviewed(), &review("Not justified.", "auditor"), Err("already-reviewed"));
    assert!(given::<EmergencyAccess>(&reviewed()).is_reviewed());
}

#[test]
fn it_stays_on_record() {
    check(&opened(), &decided(EmergencyAccessCommand::Retract), Err("permanent"));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    let read = read_fixtures::<EmergencyAccess>("emergency_access");
    assert_eq!(read, ["EmergencyAccess.Opened 1.0", "EmergencyAccess.Reviewed 1.0"]);
}

fn any_command() -> impl Strategy<Value = Issued<EmergencyAccessCommand>> {
    let action = prop_oneof![
        any::<bool>().prop_map(|changed| {
            let resource = if changed { resource().without("authoredOn") } else { resource() };
            EmergencyAccessCommand::Open { resource }
        }),
        prop::sample::select(vec!["doctor", "auditor"]).prop_map(|reviewer| EmergencyAccessCommand::Review {
            finding: "Justified.".to_owned(),
            reviewer: reviewer.to_owned()
        }),
        Just(EmergencyAccessCommand::Retract),
    ];
    action.prop_map(decided)
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let commands: Vec<_> = std::iter::once(open(resource())).chain(commands).collect();
        let accepted = fold_all::<EmergencyAccess>(&commands, |_| {});
        prop_assert!(accepted >= 1);
    }
}
