//! Given events, when a command, then events or a refusal.

use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::state::Step;
use super::{Encounter, EncounterCommand, EncounterEvent};
use crate::common::testing::{self, about, at, check_notes, decided, fold_all, given, history, now, read_fixtures};
use crate::fhir::{Coding, Resource};
use crate::record::{Issued, PatientFacts, Record};

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const DISPOSITION: &str = "http://terminology.hl7.org/CodeSystem/discharge-disposition";
const WARD: Uuid = Uuid::from_u128(0x0a);
const THEATRE: Uuid = Uuid::from_u128(0x0b);
const MONDAY: &str = "2026-11-23T09:00:00Z";
const NOON: &str = "2026-11-23T12:00:00Z";
const EVENING: &str = "2026-11-23T18:00:00Z";

/// After `encounter-example` of HL7.
fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Encounter",
        "id": "810bf091-ca72-5669-030f-a11a46cf8080",
        "status": "in-progress",
        "class": {"system": ACT_CODE, "code": "IMP", "display": "inpatient encounter"},
        "subject": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "period": {"start": MONDAY},
        "location": [{"location": {"reference": format!("Location/{WARD}")}}]
    }))
}

fn with_status(status: &str) -> Resource {
    resource().with("status", json!(status))
}

#[track_caller]
fn check(events: &[EncounterEvent], when: &Issued<EncounterCommand>, then: Result<&[&str], &str>) {
    testing::check::<Encounter>(events, when, then);
}

fn start(resource: Resource) -> Issued<EncounterCommand> {
    decided(EncounterCommand::Start { resource })
}

fn record(resource: Resource) -> Issued<EncounterCommand> {
    history(EncounterCommand::Record { resource })
}

fn amend(resource: Resource) -> Issued<EncounterCommand> {
    decided(EncounterCommand::Amend { resource })
}

fn transfer(location: Uuid, time: &str) -> Issued<EncounterCommand> {
    decided(EncounterCommand::Transfer { location, at: at(time) })
}

fn coding(system: &str, code: &str) -> Coding {
    Coding { system: system.to_owned(), code: code.to_owned(), display: None }
}

fn finish(time: &str, code: &str) -> Issued<EncounterCommand> {
    decided(EncounterCommand::Finish { at: at(time), disposition: coding(DISPOSITION, code) })
}

fn cancel() -> Issued<EncounterCommand> {
    decided(EncounterCommand::Cancel { reason: Some("left".to_owned()) })
}

fn mistake() -> Issued<EncounterCommand> {
    decided(EncounterCommand::MarkEnteredInError)
}

fn recorded(status: &str) -> Vec<EncounterEvent> {
    vec![EncounterEvent::Recorded { resource: with_status(status), notes: Vec::new() }]
}

fn started() -> Vec<EncounterEvent> {
    testing::after::<Encounter>(&[], &start(resource()))
}

fn after(when: &Issued<EncounterCommand>) -> Vec<EncounterEvent> {
    testing::after::<Encounter>(&started(), when)
}

fn standing(events: &[EncounterEvent]) -> Resource {
    given::<Encounter>(events).resource().unwrap().clone()
}

#[test]
fn start_begins_now() {
    check(&[], &start(resource()), Ok(&["Encounter.Started"]));
    check(&[], &start(with_status("planned")), Err("encounter-starts-in-progress"));
    check(&[], &start(resource().without("period")), Err("required-element-missing"));
    check(&[], &start(resource().with("period", json!({"start": "2026-11-25T09:00:00Z"}))), Err("in-the-future"));
    check(&started(), &start(resource()), Ok(&[]));
    check(&after(&transfer(THEATRE, NOON)), &start(resource()), Ok(&[]));
    check(&started(), &start(resource().without("location")), Err("already-recorded"));
}

#[test]
fn form() {
    let accepted = Ok(&["Encounter.Recorded"][..]);
    let mut statuses = vec!["planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled"];
    statuses.extend(["entered-in-error", "unknown"]);
    for status in statuses {
        check(&[], &record(with_status(status)), accepted);
    }
    let with = |name: &str, value: Value| record(resource().with(name, value));
    check(&[], &with("status", json!("done")), Err("unknown-code"));
    check(&[], &record(resource().without("status")), Err("required-element-missing"));
    check(&[], &record(resource().without("class")), Err("required-element-missing"));
    // R4 demands a class, and neither a system nor a code in it.
    check(&[], &with("class", json!({"code": "IMP"})), accepted);
    check(&[], &with("class", json!({"system": ACT_CODE})), accepted);
    check(&[], &with("class", json!({"display": "somewhere"})), accepted);
    check(&[], &with("class", json!("IMP")), Err("wrong-type"));
    check(&[], &with("class", json!({"system": ACT_CODE, "code": "BED"})), Err("unknown-code"));
    check(&[], &with("class", json!({"system": "urn:own:class", "code": "BED"})), accepted);
    check(&[], &with("class", json!({"system": "urn:own:class", "code": 1})), Err("wrong-type"));
    check(&[], &record(resource().without("subject")), Err("required-element-missing"));
    check(&[], &with("period", json!({"start": NOON, "end": MONDAY})), Err("end-before-start"));
    check(&[], &with("period", json!(MONDAY)), Err("wrong-type"));
    check(&[], &with("location", json!([{"status": "active"}])), Err("required-element-missing"));
    let place = |status: &str| json!([{"location": {"display": "Ward 1"}, "status": status}]);
    check(&[], &with("location", place("active")), accepted);
    check(&[], &with("location", place("there")), Err("unknown-code"));
    check(&[], &with("statusHistory", json!([{"status": "arriving"}])), Err("unknown-code"));
    check(&[], &with("bed", json!("7")), Err("unknown-element"));
    let future = json!({"start": "2026-12-01T09:00:00Z"});
    check(&[], &record(with_status("planned").with("period", future.clone())), accepted);
    check(&[], &record(with_status("finished").with("period", future)), Err("in-the-future"));
}

#[test]
fn patients_who_are_dead_or_replaced_refuse_decisions_and_note_history() {
    let dead = PatientFacts { deceased: true, deceased_at: Some(at(MONDAY)), ..PatientFacts::default() };
    let replaced = PatientFacts { replaced: true, ..PatientFacts::default() };
    check(&[], &about(start(resource()), dead.clone()), Err("patient-deceased"));
    check(&[], &about(start(resource()), replaced.clone()), Err("patient-replaced"));
    let later = resource().with("period", json!({"start": NOON}));
    check_notes::<Encounter>(&[], &about(record(later), dead.clone()), &["patient-deceased"]);
    check_notes::<Encounter>(&[], &about(record(resource()), dead), &[]);
    check_notes::<Encounter>(&[], &about(record(resource()), replaced), &["patient-replaced"]);
    let mut stranger = record(resource());
    stranger.patient = PatientFacts::default();
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn amend_corrects_but_takes_no_step_back() {
    let changed = |status: &str| with_status(status).with("priority", json!({"text": "urgent"}));
    check(&[], &amend(resource()), Err("unknown-encounter"));
    check(&started(), &amend(resource()), Ok(&[]));
    check(&started(), &amend(changed("in-progress")), Ok(&["Encounter.Amended"]));
    let moved = resource().with("subject", json!({"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}));
    check(&started(), &amend(moved), Err("subject-changed"));
    for (from, to, then) in [
        ("planned", "in-progress", Ok(&["Encounter.Amended"][..])),
        ("finished", "finished", Ok(&["Encounter.Amended"])),
        ("finished", "entered-in-error", Ok(&["Encounter.Amended"])),
        ("in-progress", "planned", Err("encounter-step-back")),
        ("finished", "in-progress", Err("encounter-step-back")),
        ("finished", "cancelled", Err("encounter-already-finished")),
        ("cancelled", "in-progress", Err("encounter-cancelled")),
        ("cancelled", "finished", Err("encounter-cancelled")),
        ("entered-in-error", "planned", Err("entered-in-error")),
    ] {
        check(&recorded(from), &amend(changed(to)), then);
    }
    let reopened = history(EncounterCommand::Amend { resource: changed("in-progress") });
    check_notes::<Encounter>(&recorded("finished"), &reopened, &["encounter-step-back"]);
}

#[test]
fn transfer_keeps_the_way_taken() {
    check(&[], &transfer(THEATRE, NOON), Err("unknown-encounter"));
    check(&started(), &transfer(THEATRE, NOON), Ok(&["Encounter.Transferred"]));
    check(&started(), &transfer(WARD, NOON), Ok(&[]));
    check(&started(), &transfer(THEATRE, "2026-11-23T08:59:59Z"), Err("before-last-step"));
    check(&started(), &transfer(THEATRE, "2026-11-25T09:00:00Z"), Err("in-the-future"));
    let moved = after(&transfer(THEATRE, NOON));
    check(&moved, &transfer(THEATRE, NOON), Ok(&[]));
    check(&moved, &transfer(WARD, MONDAY), Err("before-last-step"));
    check(&moved, &transfer(WARD, EVENING), Ok(&["Encounter.Transferred"]));
    assert_eq!(
        standing(&moved).get("location"),
        Some(&json!([
            {"location": {"reference": format!("Location/{WARD}")}, "status": "completed", "period": {"end": NOON}},
            {"location": {"reference": format!("Location/{THEATRE}")}, "status": "active", "period": {"start": NOON}}
        ]))
    );
    for (status, code) in [
        ("planned", "encounter-not-in-progress"),
        ("finished", "encounter-already-finished"),
        ("cancelled", "encounter-cancelled"),
        ("entered-in-error", "entered-in-error"),
    ] {
        check(&recorded(status), &transfer(THEATRE, NOON), Err(code));
        check(&recorded(status), &finish(NOON, "home"), Err(code));
    }
}

#[test]
fn places_only_meant_are_not_left() {
    let planned = json!({"location": {"reference": format!("Location/{THEATRE}")}, "status": "planned"});
    let here = json!({"location": {"reference": format!("Location/{WARD}")}, "status": "active"});
    let events = testing::after::<Encounter>(&[], &start(resource().with("location", json!([planned, here]))));
    let moved = testing::after::<Encounter>(&events, &transfer(THEATRE, NOON));
    let resource = standing(&moved);
    let statuses: Vec<&str> = resource.items("location").iter().filter_map(|item| item["status"].as_str()).collect();
    assert_eq!(statuses, ["planned", "completed", "active"]);
}

#[test]
fn finish_says_where_to() {
    check(&[], &finish(NOON, "home"), Err("unknown-encounter"));
    check(&started(), &finish(NOON, "home"), Ok(&["Encounter.Finished"]));
    check(&recorded("onleave"), &finish(NOON, "home"), Ok(&["Encounter.Finished"]));
    check(&started(), &finish(NOON, "away"), Err("unknown-code"));
    let elsewhere = EncounterCommand::Finish { at: at(NOON), disposition: coding("urn:own:list", "away") };
    check(&started(), &decided(elsewhere), Ok(&["Encounter.Finished"]));
    let nowhere = EncounterCommand::Finish { at: at(NOON), disposition: coding("", "home") };
    check(&started(), &decided(nowhere), Err("required-element-missing"));
    check(&started(), &finish("2026-11-22T09:00:00Z", "home"), Err("before-last-step"));
    check(&started(), &finish("2026-11-24T09:00:00Z", "home"), Err("in-the-future"));
    let finished = after(&finish(EVENING, "home"));
    check(&finished, &finish(EVENING, "home"), Ok(&[]));
    check(&finished, &finish(EVENING, "hosp"), Err("encounter-already-finished"));
    check(&finished, &finish(NOON, "home"), Err("encounter-already-finished"));
    let resource = standing(&finished);
    assert_eq!(resource.text("status"), Some("finished"));
    assert_eq!(resource.get("period"), Some(&json!({"start": MONDAY, "end": EVENING})));
    assert_eq!(resource.text_at("/hospitalization/dischargeDisposition/coding/0/code"), Some("home"));
    assert_eq!(resource.text_at("/location/0/status"), Some("completed"));
}

#[test]
fn cancel_comes_before_the_end() {
    check(&[], &cancel(), Err("unknown-encounter"));
    check(&started(), &cancel(), Ok(&["Encounter.Cancelled"]));
    check(&recorded("planned"), &cancel(), Ok(&["Encounter.Cancelled"]));
    check(&after(&cancel()), &cancel(), Ok(&[]));
    check(&recorded("finished"), &cancel(), Err("encounter-already-finished"));
    check(&recorded("entered-in-error"), &cancel(), Err("entered-in-error"));
    let blank = decided(EncounterCommand::Cancel { reason: Some(" ".to_owned()) });
    check(&started(), &blank, Err("empty-element"));
    assert_eq!(standing(&after(&cancel())).text("status"), Some("cancelled"));
}

#[test]
fn mark_entered_in_error() {
    check(&[], &mistake(), Err("unknown-encounter"));
    check(&recorded("finished"), &mistake(), Ok(&["Encounter.EnteredInError"]));
    check(&after(&mistake()), &mistake(), Ok(&[]));
    assert_eq!(standing(&after(&mistake())).text("status"), Some("entered-in-error"));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<Encounter>("encounter"),
        [
            "Encounter.Amended 1.0",
            "Encounter.Cancelled 1.0",
            "Encounter.EnteredInError 1.0",
            "Encounter.Finished 1.0",
            "Encounter.Recorded 1.0",
            "Encounter.Started 1.0",
            "Encounter.Transferred 1.0"
        ]
    );
}

fn any_command() -> impl Strategy<Value = Issued<EncounterCommand>> {
    let statuses = ["planned", "in-progress", "onleave", "finished", "cancelled", "entered-in-error", "unknown"];
    let resources = (prop::sample::select(statuses.to_vec()), 0..3_i64).prop_map(|(status, days)| {
        let start = (now() - TimeDelta::days(days)).to_rfc3339();
        with_status(status).with("period", json!({"start": start}))
    });
    let times = (0..4_i64).prop_map(|days| now() - TimeDelta::days(days));
    let action = prop_oneof![
        resources.clone().prop_map(|resource| EncounterCommand::Start { resource }),
        resources.clone().prop_map(|resource| EncounterCommand::Record { resource }),
        resources.prop_map(|resource| EncounterCommand::Amend { resource }),
        (1..4_u128, times.clone())
            .prop_map(|(location, at)| EncounterCommand::Transfer { location: Uuid::from_u128(location), at }),
        times.prop_map(|at| EncounterCommand::Finish { at, disposition: coding(DISPOSITION, "home") }),
        Just(EncounterCommand::Cancel { reason: None }),
        Just(EncounterCommand::MarkEnteredInError),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let commands: Vec<_> = std::iter::once(start(resource())).chain(commands).collect();
        let accepted = fold_all::<Encounter>(&commands, |state| {
            let resource = state.resource().unwrap();
            assert_eq!(state.step, Step::of(resource));
            super::form::check(resource, now()).unwrap();
            let active = resource.items("location").iter().filter(|item| item["status"] == "active").count();
            assert!(active <= 1);
        });
        prop_assert!(accepted >= 1);
    }
}
