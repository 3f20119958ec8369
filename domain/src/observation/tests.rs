//! Given events, when a command, then events or a refusal. The table of limits has its own tests.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Observation, ObservationCommand, ObservationEvent};
use crate::common::testing::{self, about, at, check_notes, decided, fold_all, given, history, now, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};

const MORNING: &str = "2026-11-24T07:30:00Z";

fn loinc(code: &str) -> Value {
    json!({"coding": [{"system": "http://loinc.org", "code": code}]})
}

fn quantity(value: i64, unit: &str) -> Value {
    json!({"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit})
}

/// After `observation-blood-pressure` of HL7.
fn blood_pressure() -> Resource {
    pressures(quantity(107, "mm[Hg]"), quantity(60, "mm[Hg]"))
}

fn pressures(systolic: Value, diastolic: Value) -> Resource {
    resource().without("valueQuantity").with("code", loinc("85354-9")).with(
        "component",
        json!([
            {"code": loinc("8480-6"), "valueQuantity": systolic},
            {"code": loinc("8462-4"), "valueQuantity": diastolic}
        ]),
    )
}

/// After `observation-heart-rate` of HL7.
fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Observation",
        "id": "3a4f59f3-4c0b-4a5c-8d0a-5a8a4b1c9d21",
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "vital-signs"
        }]}],
        "code": loinc("8867-4"),
        "subject": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "effectiveDateTime": MORNING,
        "valueQuantity": quantity(44, "/min")
    }))
}

fn amended(rate: i64) -> Resource {
    resource().with("status", json!("amended")).with("valueQuantity", quantity(rate, "/min"))
}

#[track_caller]
fn check(events: &[ObservationEvent], when: &Issued<ObservationCommand>, then: Result<&[&str], &str>) {
    testing::check::<Observation>(events, when, then);
}

fn record(resource: Resource) -> Issued<ObservationCommand> {
    decided(ObservationCommand::Record { resource })
}

fn amend(resource: Resource) -> Issued<ObservationCommand> {
    decided(ObservationCommand::Amend { resource })
}

fn mistake() -> Issued<ObservationCommand> {
    decided(ObservationCommand::MarkEnteredInError)
}

fn recorded() -> Vec<ObservationEvent> {
    vec![ObservationEvent::Recorded { resource: resource(), notes: Vec::new() }]
}

fn after(when: &Issued<ObservationCommand>) -> Vec<ObservationEvent> {
    testing::after::<Observation>(&recorded(), when)
}

#[test]
fn record_takes_what_makes_sense() {
    let accepted = Ok(&["Observation.Recorded"][..]);
    check(&[], &record(resource()), accepted);
    check(&[], &record(blood_pressure()), accepted);
    let with = |name: &str, value: Value| record(resource().with(name, value));
    check(&[], &with("status", json!("done")), Err("unknown-code"));
    check(&[], &with("status", json!(7)), Err("wrong-type"));
    check(&[], &record(resource().without("status")), Err("required-element-missing"));
    check(&[], &record(resource().without("code")), Err("required-element-missing"));
    check(&[], &with("code", json!("8867-4")), Err("wrong-type"));
    check(&[], &with("code", json!({"coding": [{"display": "Heart rate"}]})), Err("required-element-missing"));
    check(&[], &with("code", json!({"text": "Pulse"})), accepted);
    check(&[], &record(resource().without("subject")), Err("required-element-missing"));
    check(&[], &with("valueRate", json!(44)), Err("unknown-element"));
    check(&[], &with("component", json!({})), Err("wrong-type"));
    check(&[], &with("component", json!(["x"])), Err("wrong-type"));
    check(&[], &with("component", json!([{"valueString": "x"}])), Err("required-element-missing"));
}

/// The impossible value may be the very reason for taking it back.
#[test]
fn what_was_taken_back_may_have_been_impossible() {
    let impossible = resource().with("valueQuantity", quantity(9999, "bpm"));
    for (status, then) in [
        ("final", Err("unit-not-ucum")),
        ("cancelled", Ok(&["Observation.Recorded"][..])),
        ("entered-in-error", Ok(&["Observation.Recorded"][..])),
    ] {
        let told = ObservationCommand::Record { resource: impossible.clone().with("status", json!(status)) };
        check(&[], &history(told), then);
    }
}

#[test]
fn a_number_beyond_measure_passes_no_limit() {
    let value: Value =
        serde_json::from_str(r#"{"value": 1e400, "system": "http://unitsofmeasure.org", "code": "/min"}"#).unwrap();
    check(&[], &record(resource().with("valueQuantity", value)), Err("number-out-of-range"));
}

#[test]
fn a_result_has_one_value_or_a_reason_for_none() {
    let accepted = Ok(&["Observation.Recorded"][..]);
    let bare = || resource().without("valueQuantity");
    let unknown = json!({"text": "not performed"});
    check(&[], &record(bare()), Err("value-missing"));
    check(&[], &record(bare().with("status", json!("registered"))), accepted);
    check(&[], &record(bare().with("dataAbsentReason", unknown.clone())), accepted);
    check(&[], &record(resource().with("dataAbsentReason", unknown.clone())), Err("value-and-absent-reason"));
    check(&[], &record(resource().with("valueString", json!("slow"))), Err("choice-twice"));
    let member = json!([{"reference": "Observation/3a4f59f3-4c0b-4a5c-8d0a-5a8a4b1c9d22"}]);
    check(&[], &record(bare().with("hasMember", member)), accepted);
    let part = |part: Value| record(bare().with("component", json!([part])));
    check(&[], &part(json!({"code": loinc("8480-6"), "dataAbsentReason": unknown})), accepted);
    check(&[], &part(json!({"code": loinc("8480-6")})), Err("value-missing"));
    for (name, value, then) in [
        ("valueBoolean", json!(true), accepted),
        ("valueBoolean", json!("yes"), Err("wrong-type")),
        ("valueInteger", json!(3), accepted),
        ("valueInteger", json!(3.5), Err("wrong-type")),
        ("valueString", json!("slow"), accepted),
        ("valueString", json!(3), Err("wrong-type")),
        ("valueDateTime", json!("yesterday"), Err("bad-date")),
        ("valueCodeableConcept", json!("x"), Err("wrong-type")),
        ("valueQuantity", json!({"value": "44"}), Err("wrong-type")),
    ] {
        check(&[], &record(bare().with(name, value)), then);
    }
}

#[test]
fn vital_signs_are_held_to_what_bodies_can_show() {
    let rate = |value: Value| record(resource().with("valueQuantity", value));
    check(&[], &rate(quantity(501, "/min")), Err("value-impossible"));
    check(&[], &rate(quantity(44, "bpm")), Err("unit-not-ucum"));
    check(&[], &rate(json!({"value": 44, "unit": "beats/minute"})), Err("unit-not-ucum"));
    let high = record(pressures(quantity(107, "mm[Hg]"), quantity(600, "mm[Hg]")));
    check(&[], &high, Err("value-impossible"));
    let error = given::<Observation>(&[]).decide(&high).unwrap_err();
    assert_eq!(crate::types::RuleError::pointer(&error), Some("/component/1/valueQuantity/value"));
    let imported =
        history(ObservationCommand::Record { resource: resource().with("valueQuantity", quantity(501, "/min")) });
    check(&[], &imported, Err("value-impossible"));
}

#[test]
fn times() {
    let with = |name: &str, value: Value| record(resource().without("effectiveDateTime").with(name, value));
    let accepted = Ok(&["Observation.Recorded"][..]);
    check(&[], &with("effectiveDateTime", json!("1929-04-30")), accepted);
    check(&[], &with("effectiveDateTime", json!("2026-11-24T08:06:00Z")), Err("in-the-future"));
    check(&[], &with("effectiveInstant", json!("2026-11-24T08:06:00Z")), Err("in-the-future"));
    check(
        &[],
        &with("effectivePeriod", json!({"start": MORNING, "end": "2026-11-25T08:06:00Z"})),
        Err("in-the-future"),
    );
    check(&[], &with("effectivePeriod", json!({"start": MORNING, "end": "2026-11-23"})), Err("end-before-start"));
    check(&[], &with("effectiveDateTime", json!("today")), Err("bad-date"));
    check(&[], &record(resource().with("effectiveInstant", json!(MORNING))), Err("choice-twice"));
    check(&[], &record(resource().with("issued", json!("2026-11-25T08:06:00Z"))), Err("in-the-future"));
}

/// A monitor that is ahead must not cost a hospital its history; a decision is taken by a clock that can be set right.
#[test]
fn history_from_a_clock_that_is_ahead_is_noted() {
    let told = |name: &str, value: Value| ObservationCommand::Record {
        resource: resource().without("effectiveDateTime").with(name, value),
    };
    let ahead = [
        ("effectiveDateTime", json!("2026-11-24T08:21:00Z")),
        ("effectiveInstant", json!("2026-11-24T19:30:00+00:00")),
        ("effectivePeriod", json!({"start": MORNING, "end": "9999-12-31"})),
        ("effectiveTiming", json!({"event": ["2026-11-24T09:00:00Z"]})),
        ("issued", json!("2026-11-24T10:05:00Z")),
    ];
    for (name, value) in ahead {
        check_notes::<Observation>(&[], &history(told(name, value.clone())), &["in-the-future"]);
        check(&[], &decided(told(name, value)), Err("in-the-future"));
    }
    check(&[], &history(told("effectiveDateTime", json!("2027-11-24T08:00:00Z"))), Err("in-the-future"));
    check_notes::<Observation>(&[], &history(told("effectiveDateTime", json!(MORNING))), &[]);
}

#[test]
fn history_in_units_of_the_house_is_noted() {
    for quantity in [json!({"value": 66, "unit": "bpm"}), json!({"value": 66}), json!({"value": 66, "code": "/min"})] {
        let told = ObservationCommand::Record { resource: resource().with("valueQuantity", quantity) };
        check_notes::<Observation>(&[], &history(told.clone()), &["unit-not-ucum"]);
        check(&[], &decided(told), Err("unit-not-ucum"));
    }
}

#[test]
fn timings_and_comparators_have_their_form() {
    let timing = |value: Value| record(resource().without("effectiveDateTime").with("effectiveTiming", value));
    check(&[], &timing(json!({"event": ["2025-03-04", MORNING]})), Ok(&["Observation.Recorded"]));
    check(&[], &timing(json!({"event": ["2025-03-04", "noon"]})), Err("bad-date"));
    check(&[], &timing(json!({"event": "2025-03-04"})), Err("wrong-type"));
    check(&[], &timing(json!(["2025-03-04"])), Err("wrong-type"));
    let bounds = json!({"repeat": {"boundsPeriod": {"start": "2025-03-04", "end": "2025-03-03"}}});
    check(&[], &timing(bounds), Err("end-before-start"));
    let compared = |comparator: Value| {
        let mut value = quantity(66, "/min");
        value["comparator"] = comparator;
        record(resource().with("valueQuantity", value))
    };
    for comparator in ["<", "<=", ">=", ">", "ad"] {
        check(&[], &compared(json!(comparator)), Ok(&["Observation.Recorded"]));
    }
    check(&[], &compared(json!("~")), Err("unknown-code"));
    check(&[], &compared(json!(1)), Err("wrong-type"));
}

#[test]
fn recording_again_is_fine_if_it_says_the_same() {
    check(&recorded(), &record(resource()), Ok(&[]));
    check(&after(&amend(amended(45))), &record(resource()), Ok(&[]));
    check(&recorded(), &record(blood_pressure()), Err("already-recorded"));
}

#[test]
fn patients_who_are_dead_or_replaced_refuse_decisions_and_note_history() {
    let died = |text: &str| PatientFacts { deceased: true, deceased_at: Some(at(text)), ..PatientFacts::default() };
    let before = "2026-11-24T07:00:00Z";
    let imported = || history(ObservationCommand::Record { resource: resource() });
    check(&[], &about(record(resource()), died(before)), Err("patient-deceased"));
    check(&[], &about(record(resource()), died("2026-11-24T07:31:00Z")), Ok(&["Observation.Recorded"]));
    check(&[], &about(record(resource().without("effectiveDateTime")), died(before)), Err("patient-deceased"));
    check_notes::<Observation>(&[], &about(imported(), died(before)), &["patient-deceased"]);
    let untimed = history(ObservationCommand::Record { resource: resource().without("effectiveDateTime") });
    check_notes::<Observation>(&[], &about(untimed, died(before)), &[]);
    let replaced = PatientFacts { replaced: true, ..PatientFacts::default() };
    check(&[], &about(record(resource()), replaced.clone()), Err("patient-replaced"));
    check_notes::<Observation>(&[], &about(imported(), replaced), &["patient-replaced"]);
    let mut stranger = imported();
    stranger.patient = PatientFacts::default();
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn amend_shows_that_a_result_was_changed() {
    check(&[], &amend(resource()), Err("unknown-observation"));
    check(&recorded(), &amend(resource()), Ok(&[]));
    check(&recorded(), &amend(amended(45)), Ok(&["Observation.Amended"]));
    check(&recorded(), &amend(amended(501)), Err("value-impossible"));
    let moved = amended(44).with("subject", json!({"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}));
    check(&recorded(), &amend(moved), Err("subject-changed"));
    for status in ["final", "preliminary", "registered"] {
        let silent = amended(45).with("status", json!(status));
        check(&recorded(), &amend(silent.clone()), Err("not-marked-amended"));
        let imported = history(ObservationCommand::Amend { resource: silent });
        check_notes::<Observation>(&recorded(), &imported, &["not-marked-amended"]);
    }
    let preliminary =
        ObservationEvent::Recorded { resource: resource().with("status", json!("preliminary")), notes: Vec::new() };
    check(&[preliminary], &amend(resource()), Ok(&["Observation.Amended"]));
    check(&after(&mistake()), &amend(amended(45)), Err("entered-in-error"));
}

#[test]
fn mark_entered_in_error() {
    check(&[], &mistake(), Err("unknown-observation"));
    check(&recorded(), &mistake(), Ok(&["Observation.EnteredInError"]));
    check(&after(&mistake()), &mistake(), Ok(&[]));
    let state = given::<Observation>(&after(&mistake()));
    assert_eq!(state.resource().unwrap().text("status"), Some("entered-in-error"));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<Observation>("observation"),
        [
            "Observation.Amended 1.0",
            "Observation.EnteredInError 1.0",
            "Observation.Recorded 1.0",
            "Observation.Recorded 2.0"
        ]
    );
}

fn any_command() -> impl Strategy<Value = Issued<ObservationCommand>> {
    let resources = (prop::sample::select(super::form::STATUSES.to_vec()), -50..600_i64, any::<bool>()).prop_map(
        |(status, value, single)| {
            let made = if single {
                resource().with("valueQuantity", quantity(value, "/min"))
            } else {
                pressures(quantity(value, "mm[Hg]"), quantity(value, "kPa"))
            };
            made.with("status", json!(status))
        },
    );
    let action = prop_oneof![
        resources.clone().prop_map(|resource| ObservationCommand::Record { resource }),
        resources.prop_map(|resource| ObservationCommand::Amend { resource }),
        Just(ObservationCommand::MarkEnteredInError),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let commands: Vec<_> = std::iter::once(record(resource())).chain(commands).collect();
        let accepted = fold_all::<Observation>(&commands, |state| {
            let resource = state.resource().unwrap();
            assert_eq!(state.status(), resource.text("status"));
            super::form::check(resource, now()).unwrap();
        });
        prop_assert!(accepted >= 1);
    }
}
