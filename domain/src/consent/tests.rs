//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::json;

use super::state::Status;
use super::{Consent, ConsentCommand, ConsentEvent};
use crate::common::testing::{self, about, check_notes, decided, fold_all, given, history, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};

/// After `Consent/consent-example-basic` of HL7.
fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Consent",
        "id": "5cc6df9b-3cf0-4a8e-9d0f-0a9a9d2d5a11",
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "dateTime": "2026-05-11",
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": {"period": {"start": "2026-05-11", "end": "2030"}}
    }))
}

fn with_status(status: &str) -> Resource {
    resource().with("status", json!(status))
}

fn grant(resource: Resource) -> Issued<ConsentCommand> {
    decided(ConsentCommand::Grant { resource })
}

fn told(resource: Resource) -> Issued<ConsentCommand> {
    history(ConsentCommand::Grant { resource })
}

fn amend(resource: Resource) -> Issued<ConsentCommand> {
    decided(ConsentCommand::Amend { resource })
}

fn withdraw() -> Issued<ConsentCommand> {
    decided(ConsentCommand::Withdraw { reason: Some("Changed their mind".to_owned()) })
}

/// A consent that stands as its status says.
fn recorded(status: &str) -> Vec<ConsentEvent> {
    vec![ConsentEvent::Granted { resource: with_status(status), notes: Vec::new() }]
}

#[track_caller]
fn check(events: &[ConsentEvent], when: &Issued<ConsentCommand>, then: Result<&[&str], &str>) {
    testing::check::<Consent>(events, when, then);
}

#[test]
fn grant_once() {
    check(&[], &grant(resource()), Ok(&["Consent.Granted"]));
    check(&recorded("active"), &grant(resource()), Ok(&[]));
    check(&recorded("active"), &grant(resource().with("dateTime", json!("2026"))), Err("already-recorded"));
    check(&[], &grant(with_status("proposed")), Err("consent-not-active"));
    check_notes::<Consent>(&[], &told(with_status("rejected")), &["consent-not-active"]);
    let mut stranger = grant(resource());
    stranger.patient.exists = false;
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn a_replaced_patient_refuses_decisions_and_notes_history() {
    let replaced = |issued| about(issued, PatientFacts { replaced: true, ..PatientFacts::default() });
    check(&[], &replaced(grant(resource())), Err("patient-replaced"));
    check_notes::<Consent>(&[], &replaced(told(resource())), &["patient-replaced"]);
}

#[test]
fn form() {
    let refused = |changed: Resource, code| check(&[], &grant(changed), Err(code));
    refused(resource().with("resourceType", json!("Condition")), "wrong-resource-type");
    refused(resource().with("colour", json!("red")), "unknown-element");
    refused(resource().without("patient"), "required-element-missing");
    refused(resource().without("status"), "required-element-missing");
    refused(with_status("granted"), "unknown-code");
    refused(resource().without("scope"), "required-element-missing");
    refused(resource().with("scope", json!("all")), "wrong-type");
    refused(resource().without("category"), "required-element-missing");
    refused(resource().with("category", json!({"text": "x"})), "wrong-type");
    refused(resource().with("dateTime", json!("2027")), "in-the-future");
    let period = |start: &str, end: &str| json!({"period": {"start": start, "end": end}});
    refused(resource().with("provision", period("2026-05-11", "2026-05-10")), "end-before-start");
    let data = json!({"dataPeriod": {"start": "2026", "end": "2025"}});
    refused(resource().with("provision", data), "end-before-start");
    check(&[], &grant(resource().with("provision", period("2026-05", "2026"))), Ok(&["Consent.Granted"]));
}

#[test]
fn withdraw_what_holds() {
    check(&[], &withdraw(), Err("unknown-consent"));
    check(&recorded("active"), &withdraw(), Ok(&["Consent.Withdrawn"]));
    check(&recorded("proposed"), &withdraw(), Err("consent-not-in-force"));
    check(&recorded("rejected"), &withdraw(), Err("consent-not-in-force"));
    check(&recorded("entered-in-error"), &withdraw(), Err("entered-in-error"));
    let withdrawn = testing::after::<Consent>(&recorded("active"), &withdraw());
    assert_eq!(given::<Consent>(&withdrawn).resource().unwrap().text("status"), Some("inactive"));
    check(&withdrawn, &withdraw(), Ok(&[]));
    check(&withdrawn, &decided(ConsentCommand::Withdraw { reason: None }), Ok(&[]));
    let nul = ConsentCommand::Withdraw { reason: Some("\0".to_owned()) };
    check(&withdrawn, &decided(nul), Err("control-character"));
    check(&withdrawn, &amend(resource().with("dateTime", json!("2026"))), Err("consent-withdrawn"));
    check(&withdrawn, &amend(with_status("inactive").without("provision")), Ok(&["Consent.Amended"]));
    let back = history(ConsentCommand::Amend { resource: resource() });
    check_notes::<Consent>(&withdrawn, &back, &["consent-withdrawn"]);
}

#[test]
fn amend_what_stands() {
    let shorter = resource().without("provision");
    check(&[], &amend(shorter.clone()), Err("unknown-consent"));
    check(&recorded("active"), &amend(resource()), Ok(&[]));
    check(&recorded("active"), &amend(shorter.clone()), Ok(&["Consent.Amended"]));
    check(&recorded("proposed"), &amend(resource()), Ok(&["Consent.Amended"]));
    let moved = shorter.clone().with("patient", json!({"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}));
    check(&recorded("active"), &amend(moved), Err("subject-changed"));
    check(&recorded("entered-in-error"), &amend(shorter), Err("entered-in-error"));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<Consent>("consent"),
        ["Consent.Amended 1.0", "Consent.Granted 1.0", "Consent.Withdrawn 1.0"]
    );
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let statuses = vec!["draft", "proposed", "active", "rejected", "inactive", "entered-in-error", "granted"];
    (prop::sample::select(statuses), any::<bool>()).prop_map(|(status, bounded)| {
        let made = with_status(status);
        if bounded { made } else { made.without("provision") }
    })
}

fn any_command() -> impl Strategy<Value = Issued<ConsentCommand>> {
    let action = prop_oneof![
        any_resource().prop_map(|resource| ConsentCommand::Grant { resource }),
        any_resource().prop_map(|resource| ConsentCommand::Amend { resource }),
        prop::option::of(Just("Moved".to_owned())).prop_map(|reason| ConsentCommand::Withdraw { reason }),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let commands: Vec<_> = std::iter::once(grant(resource())).chain(commands).collect();
        let accepted = fold_all::<Consent>(&commands, |state| {
            let resource = state.resource().unwrap();
            assert_eq!(state.status, Status::of(resource));
            // What stands is in form, whatever the way it came to be.
            check(&[], &told(resource.clone()), Ok(&["Consent.Granted"]));
        });
        prop_assert!(accepted >= 1);
    }
}
