//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::form::{CLINICAL, VERIFICATION};
use super::state::status_of;
use super::{Allergy, AllergyCommand, AllergyEvent};
use crate::common::testing::{self, about, check_notes, decided, fold_all, given, history, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};

/// After `AllergyIntolerance/medication` of HL7.
fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "AllergyIntolerance",
        "id": "311d1301-74ae-5dd5-d9a8-31648d31ade4",
        "clinicalStatus": concept(CLINICAL, "active"),
        "verificationStatus": concept(VERIFICATION, "confirmed"),
        "type": "allergy",
        "category": ["medication"],
        "criticality": "high",
        "code": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "7980", "display": "Penicillin G"}]},
        "patient": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "recordedDate": "2010-03-01"
    }))
}

fn concept(system: &str, code: &str) -> Value {
    json!({"coding": [{"system": system, "code": code}]})
}

fn in_error() -> Resource {
    resource().without("clinicalStatus").with("verificationStatus", concept(VERIFICATION, "entered-in-error"))
}

fn record(resource: Resource) -> Issued<AllergyCommand> {
    decided(AllergyCommand::Record { resource })
}

fn amend(resource: Resource) -> Issued<AllergyCommand> {
    decided(AllergyCommand::Amend { resource })
}

fn recorded() -> AllergyEvent {
    AllergyEvent::Recorded { resource: resource(), notes: Vec::new() }
}

fn after(action: AllergyCommand) -> Vec<AllergyEvent> {
    testing::after::<Allergy>(&[recorded()], &decided(action))
}

#[track_caller]
fn check(events: &[AllergyEvent], when: &Issued<AllergyCommand>, then: Result<&[&str], &str>) {
    testing::check::<Allergy>(events, when, then);
}

#[test]
fn record_once() {
    check(&[], &record(resource()), Ok(&["Allergy.Recorded"]));
    check(&[recorded()], &record(resource()), Ok(&[]));
    check(&[recorded()], &record(resource().with("criticality", json!("low"))), Err("already-recorded"));
    let mut stranger = record(resource());
    stranger.patient.exists = false;
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn form() {
    let refused = |changed: Resource, code| check(&[], &record(changed), Err(code));
    refused(resource().with("resourceType", json!("Condition")), "wrong-resource-type");
    refused(resource().with("colour", json!("red")), "unknown-element");
    // R4 demands no code.
    check(&[], &record(resource().without("code")), Ok(&["Allergy.Recorded"]));
    refused(resource().with("code", json!({"coding": [{"display": "Penicillin"}]})), "required-element-missing");
    refused(resource().without("patient"), "required-element-missing");
    refused(resource().with("clinicalStatus", concept(CLINICAL, "nice")), "unknown-code");
    refused(resource().with("clinicalStatus", concept("urn:x:other", "active")), "unknown-code");
    refused(resource().with("verificationStatus", concept(VERIFICATION, "maybe")), "unknown-code");
    refused(resource().with("criticality", json!("middling")), "unknown-code");
    refused(resource().with("criticality", json!(1)), "wrong-type");
    refused(resource().with("type", json!("dislike")), "unknown-code");
    refused(resource().with("category", json!(["medication", "drug"])), "unknown-code");
    refused(resource().with("category", json!("medication")), "wrong-type");
    refused(resource().with("onsetDateTime", json!("2027")), "in-the-future");
    refused(resource().with("recordedDate", json!("2026-11-26")), "in-the-future");
    refused(resource().with("lastOccurrence", json!("soon")), "bad-date");
    refused(resource().without("clinicalStatus"), "required-element-missing");
    refused(in_error().with("clinicalStatus", concept(CLINICAL, "active")), "not-allowed-here");
    check(&[], &record(in_error()), Ok(&["Allergy.Recorded"]));
}

#[test]
fn a_replaced_patient_refuses_decisions_and_notes_history() {
    let replaced = |issued| about(issued, PatientFacts { replaced: true, ..PatientFacts::default() });
    check(&[], &replaced(record(resource())), Err("patient-replaced"));
    let recorded = history(AllergyCommand::Record { resource: resource() });
    check_notes::<Allergy>(&[], &replaced(recorded), &["patient-replaced"]);
}

#[test]
fn amend_what_stands() {
    let low = resource().with("criticality", json!("low"));
    check(&[], &amend(low.clone()), Err("unknown-allergy"));
    check(&[recorded()], &amend(resource()), Ok(&[]));
    check(&[recorded()], &amend(low.clone()), Ok(&["Allergy.Amended"]));
    let moved = low.clone().with("patient", json!({"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}));
    check(&[recorded()], &amend(moved), Err("subject-changed"));
    check(&after(AllergyCommand::Refute), &amend(low.clone()), Err("allergy-refuted"));
    check(&after(AllergyCommand::MarkEnteredInError), &amend(low.clone()), Err("entered-in-error"));
    let late = history(AllergyCommand::Amend { resource: low });
    check_notes::<Allergy>(&after(AllergyCommand::Refute), &late, &["allergy-refuted"]);
}

#[test]
fn refute_and_mark_entered_in_error() {
    let (refute, mistake) = (AllergyCommand::Refute, AllergyCommand::MarkEnteredInError);
    check(&[], &decided(refute.clone()), Err("unknown-allergy"));
    check(&[], &decided(mistake.clone()), Err("unknown-allergy"));
    check(&[recorded()], &decided(refute.clone()), Ok(&["Allergy.Refuted"]));
    check(&after(refute.clone()), &decided(refute.clone()), Ok(&[]));
    check(&after(refute.clone()), &decided(mistake.clone()), Ok(&["Allergy.EnteredInError"]));
    check(&after(mistake.clone()), &decided(mistake.clone()), Ok(&[]));
    check(&after(mistake.clone()), &decided(refute.clone()), Err("entered-in-error"));

    let refuted = given::<Allergy>(&after(refute));
    let refuted = refuted.resource().unwrap();
    assert_eq!(refuted.text_at("/clinicalStatus/coding/0/code"), Some("inactive"));
    assert_eq!(refuted.text_at("/verificationStatus/coding/0/code"), Some("refuted"));
    let mistaken = given::<Allergy>(&after(mistake));
    assert_eq!(mistaken.resource().unwrap().get("clinicalStatus"), None);
    check(&[], &record(refuted.clone()), Ok(&["Allergy.Recorded"]));
}

#[test]
fn only_an_allergy_that_holds_is_active() {
    let active =
        |resource: Resource| given::<Allergy>(&[AllergyEvent::Recorded { resource, notes: Vec::new() }]).active();
    let allergy = active(resource()).unwrap();
    assert_eq!((allergy.codings[0].code.as_str(), &allergy.words[..]), ("7980", &["penicillin".to_owned()][..]));
    assert!(!format!("{allergy:?}").to_lowercase().contains("penicillin"));

    let reaction = json!([{"substance": {"text": "Amoxicillin"}, "manifestation": [{"text": "Hives"}]}]);
    assert_eq!(active(resource().with("reaction", reaction)).unwrap().words, ["amoxicillin", "penicillin"]);

    let none_known = json!({"coding": [{"system": "http://snomed.info/sct", "code": "409137002", "display": "No Known Drug Allergy (situation)"}]});
    assert_eq!(active(resource().with("code", none_known)), None);
    assert_eq!(active(resource().with("clinicalStatus", concept(CLINICAL, "resolved"))), None);
    assert_eq!(active(resource().with("clinicalStatus", concept(CLINICAL, "inactive"))), None);
    assert_eq!(active(in_error()), None);
    assert_eq!(given::<Allergy>(&after(AllergyCommand::Refute)).active(), None);
    assert_eq!(given::<Allergy>(&[]).active(), None);

    // The status counts wherever it stands among the codings.
    let local = json!({"coding": [{"system": "urn:x:local", "code": "A"}, {"system": CLINICAL, "code": "resolved"}]});
    assert_eq!(active(resource().with("clinicalStatus", local)), None);
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<Allergy>("allergy"),
        ["Allergy.Amended 1.0", "Allergy.EnteredInError 1.0", "Allergy.Recorded 1.0", "Allergy.Refuted 1.0"]
    );
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let clinical = prop::sample::select(vec![None, Some("active"), Some("inactive"), Some("resolved"), Some("nice")]);
    let verification = prop::sample::select(vec![
        None,
        Some("unconfirmed"),
        Some("confirmed"),
        Some("refuted"),
        Some("entered-in-error"),
    ]);
    (clinical, verification).prop_map(|(clinical, verification)| {
        let mut made = resource().without("clinicalStatus").without("verificationStatus");
        if let Some(code) = clinical {
            made = made.with("clinicalStatus", concept(CLINICAL, code));
        }
        if let Some(code) = verification {
            made = made.with("verificationStatus", concept(VERIFICATION, code));
        }
        made
    })
}

fn any_command() -> impl Strategy<Value = Issued<AllergyCommand>> {
    let action = prop_oneof![
        any_resource().prop_map(|resource| AllergyCommand::Record { resource }),
        any_resource().prop_map(|resource| AllergyCommand::Amend { resource }),
        Just(AllergyCommand::Refute),
        Just(AllergyCommand::MarkEnteredInError),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let commands: Vec<_> = std::iter::once(record(resource())).chain(commands).collect();
        let accepted = fold_all::<Allergy>(&commands, |state| {
            let resource = state.resource().unwrap();
            assert_eq!(state.status, status_of(resource));
            // What stands is in form, whatever the way it came to be.
            check(&[], &record(resource.clone()), Ok(&["Allergy.Recorded"]));
        });
        prop_assert!(accepted >= 1);
    }
}
