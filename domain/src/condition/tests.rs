//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::decide::{CLINICAL, VERIFICATION};
use super::state::status_of;
use super::{Condition, ConditionCommand, ConditionEvent, Error};
use crate::common::testing::{self, about, at, check_notes, decided, fold_all, given, history, now, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};

fn resource() -> Resource {
    Resource::parse(json!({
        "resourceType": "Condition",
        "id": "d17f1175-960a-4a2b-8270-d263f74d4456",
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
        "verificationStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed"}]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003", "display": "Hypertension"}]},
        "subject": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "onsetDateTime": "2020-05-01"
    }))
    .unwrap()
}

fn recorded() -> ConditionEvent {
    ConditionEvent::Recorded { resource: resource(), notes: Vec::new() }
}

fn after(action: ConditionCommand) -> Vec<ConditionEvent> {
    testing::after::<Condition>(&[recorded()], &decided(action))
}

#[track_caller]
fn check(history: &[ConditionEvent], when: &Issued<ConditionCommand>, then: Result<&[&str], &str>) {
    testing::check::<Condition>(history, when, then);
}

#[test]
fn record() {
    let record =
        |change: &dyn Fn(Resource) -> Resource| decided(ConditionCommand::Record { resource: change(resource()) });
    check(&[], &record(&|r| r), Ok(&["Condition.Recorded"]));
    check(&[recorded()], &record(&|r| r), Ok(&[]));
    check(&[recorded()], &record(&|r| r.with("onsetDateTime", json!("2021"))), Err("already-recorded"));
    // R4 demands no code, and lets one be absent for a reason that is given.
    check(&[], &record(&|r| r.without("code")), Ok(&["Condition.Recorded"]));
    let absent = json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}]});
    check(&[], &record(&|r| r.with("code", absent.clone())), Ok(&["Condition.Recorded"]));
    check(&[], &record(&|r| r.with("code", json!({"id": "x"}))), Err("required-element-missing"));
    check(&[], &record(&|r| r.without("subject")), Err("required-element-missing"));
    check(&[], &record(&|r| r.with("onsetDateTime", json!("2027-01-01"))), Err("in-the-future"));
    check(&[], &record(&|r| r.with("onsetDateTime", json!("May"))), Err("bad-date"));
    check(&[], &record(&|r| r.with("clinicalStatus", json!({"coding": [{"code": "nice"}]}))), Err("unknown-code"));
    check(&[], &record(&|r| r.with("colour", json!("red"))), Err("unknown-element"));
    let mut stranger = record(&|r| r);
    stranger.patient.exists = false;
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn a_replaced_patient_refuses_decisions_and_notes_history() {
    let replaced = |issued| about(issued, PatientFacts { replaced: true, ..PatientFacts::default() });
    let record = ConditionCommand::Record { resource: resource() };
    check(&[], &replaced(decided(record.clone())), Err("patient-replaced"));
    check_notes::<Condition>(&[], &replaced(history(record)), &["patient-replaced"]);
}

#[test]
fn amend() {
    let amend = |resource| decided(ConditionCommand::Amend { resource });
    check(&[], &amend(resource()), Err("unknown-condition"));
    check(&[recorded()], &amend(resource()), Ok(&[]));
    check(&[recorded()], &amend(resource().with("onsetDateTime", json!("2021"))), Ok(&["Condition.Amended"]));
    let moved = resource().with("subject", json!({"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}));
    check(&[recorded()], &amend(moved), Err("subject-changed"));
    let changed = resource().with("onsetDateTime", json!("2021"));
    check(&after(ConditionCommand::Refute), &amend(changed.clone()), Err("condition-refuted"));
    check(&after(ConditionCommand::MarkEnteredInError), &amend(changed), Err("entered-in-error"));
}

#[test]
fn resolve() {
    let resolve = |text| ConditionCommand::Resolve { abated_at: at(text) };
    let may = "2026-05-01T00:00:00Z";
    check(&[], &decided(resolve(may)), Err("unknown-condition"));
    check(&[recorded()], &decided(resolve(may)), Ok(&["Condition.Resolved"]));
    check(&after(resolve(may)), &decided(resolve(may)), Ok(&[]));
    check(&[recorded()], &decided(resolve("2027-05-01T00:00:00Z")), Err("in-the-future"));
    check(&[recorded()], &decided(resolve("2019-05-01T00:00:00Z")), Err("abatement-before-onset"));
    for status in ["remission", "inactive"] {
        let resource = resource().with("clinicalStatus", json!({"coding": [{"system": CLINICAL, "code": status}]}));
        let past = ConditionEvent::Recorded { resource, notes: Vec::new() };
        check(&[past], &decided(resolve(may)), Ok(&["Condition.Resolved"]));
    }
    let state = given::<Condition>(&after(resolve(may)));
    assert_eq!(state.resource().unwrap().text("abatementDateTime"), Some(may));
}

#[test]
fn refute_and_mark_entered_in_error() {
    check(&[recorded()], &decided(ConditionCommand::Refute), Ok(&["Condition.Refuted"]));
    check(&after(ConditionCommand::Refute), &decided(ConditionCommand::Refute), Ok(&[]));
    check(&[recorded()], &decided(ConditionCommand::MarkEnteredInError), Ok(&["Condition.EnteredInError"]));
    check(&after(ConditionCommand::MarkEnteredInError), &decided(ConditionCommand::Refute), Err("entered-in-error"));
    assert!(
        given::<Condition>(&after(ConditionCommand::MarkEnteredInError))
            .resource()
            .unwrap()
            .get("clinicalStatus")
            .is_none()
    );
    assert_eq!(given::<Condition>(&[]).decide(&decided(ConditionCommand::Refute)), Err(Error::Unknown));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<Condition>("condition"),
        [
            "Condition.Amended 1.0",
            "Condition.EnteredInError 1.0",
            "Condition.Recorded 1.0",
            "Condition.Refuted 1.0",
            "Condition.Resolved 1.0"
        ]
    );
}

/// The status counts wherever it stands among the codings.
#[test]
fn a_local_coding_does_not_hide_the_status() {
    let local =
        json!({"coding": [{"system": "urn:x:local", "code": "A"}, {"system": VERIFICATION, "code": "refuted"}]});
    let refuted =
        ConditionEvent::Recorded { resource: resource().with("verificationStatus", local), notes: Vec::new() };
    check(&[refuted], &decided(ConditionCommand::Refute), Ok(&[]));
}

fn concept(system: &str, code: &str) -> Value {
    json!({"coding": [{"system": system, "code": code}]})
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let clinical = prop::sample::select(vec!["active", "remission", "resolved", "nice"]);
    let verification = prop::sample::select(vec!["provisional", "confirmed", "refuted", "entered-in-error"]);
    (clinical, verification, any::<bool>()).prop_map(|(clinical, verification, dated)| {
        let made = resource()
            .with("clinicalStatus", concept(CLINICAL, clinical))
            .with("verificationStatus", concept(VERIFICATION, verification));
        if dated { made } else { made.without("onsetDateTime") }
    })
}

fn any_command() -> impl Strategy<Value = Issued<ConditionCommand>> {
    let action = prop_oneof![
        any_resource().prop_map(|resource| ConditionCommand::Record { resource }),
        any_resource().prop_map(|resource| ConditionCommand::Amend { resource }),
        (0..3_u64).prop_map(|day| ConditionCommand::Resolve { abated_at: now() - chrono::Days::new(day) }),
        Just(ConditionCommand::Refute),
        Just(ConditionCommand::MarkEnteredInError),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let first = decided(ConditionCommand::Record { resource: resource() });
        let commands: Vec<_> = std::iter::once(first.clone()).chain(commands).collect();
        let accepted = fold_all::<Condition>(&commands, |state| {
            let resource = state.resource().unwrap().clone();
            assert_eq!(state.status, status_of(&resource));
            // What stands is in form, whatever the way it came to be.
            check(&[], &decided(ConditionCommand::Record { resource }), Ok(&["Condition.Recorded"]));
        });
        prop_assert!(accepted >= 1);
    }
}
