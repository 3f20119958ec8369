//! Given events, when somebody asks to be forgotten, then events or a refusal.

use chrono::Days;
use serde_json::json;

use super::{ERASED, Patient, PatientCommand, PatientEvent, REQUEST_DAYS_MAX};
use crate::common::testing::{self, decided, given, now};
use crate::record::{Issued, PatientFacts, Record};
use crate::types::{Claim, ClaimChange};

const REASON: &str = "The patient asks for it.";

fn registered() -> Vec<PatientEvent> {
    let number = json!({"type": {"coding": [{"code": "MR"}]}, "system": "urn:x:mr", "value": "12345"});
    let resource = testing::resource(json!({
        "resourceType": "Patient", "id": "057aa36e-b892-9964-75b9-ffb46b097e34", "identifier": [number],
        "name": [{"family": "Chalmers"}]
    }));
    vec![PatientEvent::Registered { resource, notes: Vec::new() }]
}

fn request(by: &str) -> Issued<PatientCommand> {
    decided(PatientCommand::RequestErasure { by: by.to_owned(), reason: REASON.to_owned() })
}

fn approve(by: &str) -> Issued<PatientCommand> {
    decided(PatientCommand::ApproveErasure { by: by.to_owned() })
}

fn withdraw() -> Issued<PatientCommand> {
    decided(PatientCommand::WithdrawErasure { by: "grace".to_owned() })
}

fn hold(reason: &str) -> Issued<PatientCommand> {
    decided(PatientCommand::PlaceLegalHold { by: "judge".to_owned(), reason: reason.to_owned() })
}

fn release() -> Issued<PatientCommand> {
    decided(PatientCommand::ReleaseLegalHold { by: "judge".to_owned(), reason: "over".to_owned() })
}

fn later(days: u64, mut issued: Issued<PatientCommand>) -> Issued<PatientCommand> {
    issued.now = now() + Days::new(days);
    issued
}

fn after(commands: &[Issued<PatientCommand>]) -> Vec<PatientEvent> {
    commands.iter().fold(registered(), |events, when| testing::after::<Patient>(&events, when))
}

#[track_caller]
fn check(events: &[PatientEvent], when: &Issued<PatientCommand>, then: Result<&[&str], &str>) {
    testing::check::<Patient>(events, when, then);
}

#[test]
fn one_asks_and_another_approves() {
    check(&[], &request("ada"), Err("unknown-patient"));
    check(&registered(), &approve("grace"), Err("erasure-not-requested"));
    check(&registered(), &request("ada"), Ok(&["Patient.ErasureRequested"]));
    let asked = after(&[request("ada")]);
    check(&asked, &request("ada"), Ok(&[]));
    check(&asked, &request("grace"), Err("erasure-already-requested"));
    check(&asked, &approve("ada"), Err("erasure-needs-second-person"));
    check(&asked, &approve("grace"), Ok(&[ERASED]));
}

#[test]
fn nothing_is_asked_without_a_reason() {
    let (by, reason) = ("ada".to_owned(), " ".to_owned());
    let nameless = decided(PatientCommand::RequestErasure { by: by.clone(), reason: reason.clone() });
    check(&registered(), &nameless, Err("required-element-missing"));
    check(&registered(), &hold(" "), Err("required-element-missing"));
    let freed = decided(PatientCommand::ReleaseLegalHold { by, reason });
    check(&after(&[hold("a lawsuit")]), &freed, Err("required-element-missing"));
}

#[test]
fn a_request_is_withdrawn_or_lapses() {
    check(&registered(), &withdraw(), Ok(&[]));
    let asked = after(&[request("ada")]);
    check(&asked, &withdraw(), Ok(&["Patient.ErasureWithdrawn"]));
    check(&after(&[request("ada"), withdraw()]), &approve("grace"), Err("erasure-not-requested"));
    let days = u64::try_from(REQUEST_DAYS_MAX).unwrap();
    check(&asked, &later(days, approve("grace")), Ok(&[ERASED]));
    check(&asked, &later(days + 1, approve("grace")), Err("erasure-lapsed"));
    check(&asked, &later(days + 1, request("grace")), Ok(&["Patient.ErasureRequested"]));
}

#[test]
fn a_legal_hold_wins() {
    check(&[], &hold("a lawsuit"), Err("unknown-patient"));
    check(&registered(), &release(), Ok(&[]));
    check(&registered(), &hold("a lawsuit"), Ok(&["Patient.LegalHoldPlaced"]));
    let held = after(&[hold("a lawsuit")]);
    check(&held, &hold("a lawsuit"), Ok(&[]));
    check(&held, &hold("another"), Err("already-held"));
    check(&held, &request("ada"), Ok(&["Patient.ErasureRequested"]));
    let asked = after(&[hold("a lawsuit"), request("ada")]);
    check(&asked, &approve("grace"), Err("legal-hold"));
    check(&after(&[request("ada"), hold("a lawsuit")]), &approve("grace"), Err("legal-hold"));
    let freed = after(&[hold("a lawsuit"), request("ada"), release()]);
    check(&freed, &approve("grace"), Ok(&[ERASED]));
}

#[test]
fn nothing_is_left_of_an_erased_patient_and_nothing_follows() {
    let erased = after(&[request("ada"), approve("grace")]);
    let state = given::<Patient>(&erased);
    assert_eq!(state.facts(), PatientFacts::default());
    assert_eq!(state.resource().unwrap().members().len(), 2, "type and id");
    check(&erased, &approve("grace"), Ok(&[]));
    for when in [request("ada"), withdraw(), hold("a lawsuit"), release()] {
        check(&erased, &when, Err("subject-erased"));
    }
    let again = registered()[0].clone();
    let PatientEvent::Registered { resource, .. } = again else { panic!("registered() registers") };
    check(&erased, &decided(PatientCommand::Register { resource }), Err("subject-erased"));
    check(&erased, &decided(PatientCommand::MarkEnteredInError), Err("subject-erased"));
}

#[test]
fn the_record_number_may_be_used_again() {
    let asked = after(&[request("ada")]);
    let erased = testing::after::<Patient>(&asked, &approve("grace"));
    let released = given::<Patient>(&asked).claims(erased.last().unwrap());
    assert_eq!(released, [ClaimChange::Release(Claim::medical_record_number("urn:x:mr", "12345"))]);
}
