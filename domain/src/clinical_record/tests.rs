//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::retraction::is_retracted;
use super::{ClinicalRecord, ClinicalRecordCommand, ClinicalRecordEvent};
use crate::common::testing::{self, about, check_notes, decided, fold_all, given, history, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};

const PATIENT: &str = "Patient/057aa36e-b892-9964-75b9-ffb46b097e34";

fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Procedure",
        "id": "7a2b2f43-7f3b-4d52-8f0e-0a3a1f2d9c77",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "430193006"}]},
        "subject": {"reference": PATIENT},
        "performedDateTime": "2026-05-11"
    }))
}

fn of_type(resource_type: &str) -> Resource {
    testing::resource(json!({
        "resourceType": resource_type,
        "id": "7a2b2f43-7f3b-4d52-8f0e-0a3a1f2d9c77",
        "meta": {"tag": [{"system": "urn:x:ours", "code": "kept"}]},
        "patient": {"reference": PATIENT}
    }))
}

fn file(resource: Resource) -> Issued<ClinicalRecordCommand> {
    decided(ClinicalRecordCommand::File { resource })
}

fn amend(resource: Resource) -> Issued<ClinicalRecordCommand> {
    decided(ClinicalRecordCommand::Amend { resource })
}

fn retract() -> Issued<ClinicalRecordCommand> {
    decided(ClinicalRecordCommand::Retract)
}

fn filed(resource: Resource) -> Vec<ClinicalRecordEvent> {
    vec![ClinicalRecordEvent::Filed { resource, notes: Vec::new() }]
}

#[track_caller]
fn check(events: &[ClinicalRecordEvent], when: &Issued<ClinicalRecordCommand>, then: Result<&[&str], &str>) {
    testing::check::<ClinicalRecord>(events, when, then);
}

#[test]
fn file_once() {
    check(&[], &file(resource()), Ok(&["ClinicalRecord.Filed"]));
    check(&filed(resource()), &file(resource()), Ok(&[]));
    check(&filed(resource()), &file(resource().with("status", json!("stopped"))), Err("already-recorded"));
    let mut stranger = file(resource());
    stranger.patient.exists = false;
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn form() {
    for kept_elsewhere in ["Observation", "Patient", "Practitioner", "StructureDefinition"] {
        check(&[], &file(of_type(kept_elsewhere)), Err("wrong-resource-type"));
    }
    for kept_nowhere in ["AuditEvent", "Bundle", "Subscription"] {
        check(&[], &file(of_type(kept_nowhere)), Err("unsupported-type"));
    }
    check(&[], &file(resource().with("status", json!(1))), Err("wrong-type"));
    check(&[], &file(resource().with("meta", json!({"tag": "x"}))), Err("wrong-type"));
    check(&[], &file(resource().with("performedDateTime", json!("May"))), Err("bad-date"));
    check(&[], &file(resource().with("note", json!([]))), Err("empty-element"));
    check(&[], &file(resource().with("partOf", json!([{"reference": "#nothing"}]))), Err("unresolved-reference"));
}

#[test]
fn a_replaced_patient_refuses_decisions_and_notes_history() {
    let replaced = |issued| about(issued, PatientFacts { replaced: true, ..PatientFacts::default() });
    check(&[], &replaced(file(resource())), Err("patient-replaced"));
    let told = history(ClinicalRecordCommand::File { resource: resource() });
    check_notes::<ClinicalRecord>(&[], &replaced(told), &["patient-replaced"]);
}

#[test]
fn amend_what_stands() {
    let changed = resource().with("status", json!("stopped"));
    check(&[], &amend(changed.clone()), Err("unknown-record"));
    check(&filed(resource()), &amend(resource()), Ok(&[]));
    check(&filed(resource()), &amend(changed.clone()), Ok(&["ClinicalRecord.Amended"]));
    check(&filed(resource()), &amend(resource().with("resourceType", json!("Media"))), Err("type-changed"));
    let moved = resource().with("subject", json!({"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}));
    check(&filed(resource()), &amend(moved), Err("subject-changed"));
    let retracted = testing::after::<ClinicalRecord>(&filed(resource()), &retract());
    check(&retracted, &amend(changed.clone()), Err("entered-in-error"));
    let late = history(ClinicalRecordCommand::Amend { resource: changed });
    check_notes::<ClinicalRecord>(&retracted, &late, &["entered-in-error"]);
}

/// Rows: a type, and where it says that it should not have been filed.
#[test]
fn retract_in_the_words_of_each_type() {
    let rows = [
        ("Procedure", "/status", json!("entered-in-error")),
        ("Goal", "/lifecycleStatus", json!("entered-in-error")),
        ("DeviceMetric", "/operationalStatus", json!("entered-in-error")),
        ("RelatedPerson", "/active", json!(false)),
        ("RelatedPerson", "/meta/tag/1/code", json!("EIE")),
        ("ImmunizationRecommendation", "/meta/tag/0/code", json!("kept")),
        ("ImmunizationRecommendation", "/meta/tag/1/code", json!("EIE")),
        ("Provenance", "/meta/tag/1/code", json!("EIE")),
    ];
    for (resource_type, pointer, value) in rows {
        let events = testing::after::<ClinicalRecord>(&filed(of_type(resource_type)), &retract());
        assert_eq!(given::<ClinicalRecord>(&events).resource().unwrap().at(pointer), Some(&value), "{resource_type}");
        check(&events, &retract(), Ok(&[]));
    }
    check(&[], &retract(), Err("unknown-record"));
    check(&filed(of_type("Media").with("status", json!("entered-in-error"))), &retract(), Ok(&[]));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<ClinicalRecord>("clinical_record"),
        ["ClinicalRecord.Amended 1.0", "ClinicalRecord.Filed 1.0", "ClinicalRecord.Retracted 1.0"]
    );
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let types = vec!["Procedure", "Goal", "RelatedPerson", "Provenance", "Observation"];
    let extras: Vec<Option<(&str, Value)>> = vec![
        None,
        Some(("status", json!("completed"))),
        Some(("status", json!("entered-in-error"))),
        Some(("meta", json!({"tag": "not a list"}))),
        Some(("note", json!([]))),
    ];
    (prop::sample::select(types), prop::sample::select(extras)).prop_map(|(resource_type, extra)| match extra {
        Some((name, value)) => of_type(resource_type).with(name, value),
        None => of_type(resource_type),
    })
}

fn any_command() -> impl Strategy<Value = Issued<ClinicalRecordCommand>> {
    let action = prop_oneof![
        any_resource().prop_map(|resource| ClinicalRecordCommand::File { resource }),
        any_resource().prop_map(|resource| ClinicalRecordCommand::Amend { resource }),
        Just(ClinicalRecordCommand::Retract),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        fold_all::<ClinicalRecord>(&commands, |state| {
            let resource = state.resource().unwrap();
            assert_eq!(state.retracted, is_retracted(resource));
            // What stands is in form, whatever the way it came to be.
            check(&[], &file(resource.clone()), Ok(&["ClinicalRecord.Filed"]));
        });
    }
}
