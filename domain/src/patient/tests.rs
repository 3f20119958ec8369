//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Patient, PatientCommand, PatientEvent};
use crate::common::testing::{self, at, check_notes, decided, fold_all, given, history, now, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};
use crate::types::{Claim, ClaimChange};

const ID: &str = "057aa36e-b892-9964-75b9-ffb46b097e34";
const SURVIVOR: Uuid = Uuid::from_u128(0x0696_ac49_3128_87d3_7344_0451_0aa4_f324);
const MARCH: &str = "2026-03-01T12:00:00Z";

fn identifier(kind: &str, system: &str, value: &str) -> Value {
    json!({"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": kind}]}, "system": system, "value": value})
}

/// After `patient-example` of HL7.
fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Patient",
        "id": ID,
        "identifier": [identifier("MR", "urn:oid:1.2.36.146.595.217.0.1", "12345")],
        "active": true,
        "name": [{"use": "official", "family": "Chalmers", "given": ["Peter", "James"]}],
        "gender": "male",
        "birthDate": "1974-12-25",
        "deceasedBoolean": false
    }))
}

#[track_caller]
fn check(events: &[PatientEvent], when: &Issued<PatientCommand>, then: Result<&[&str], &str>) {
    testing::check::<Patient>(events, when, then);
}

fn register(change: &dyn Fn(Resource) -> Resource) -> Issued<PatientCommand> {
    decided(PatientCommand::Register { resource: change(resource()) })
}

fn update(resource: Resource) -> Issued<PatientCommand> {
    decided(PatientCommand::Update { resource })
}

fn death(text: &str) -> Issued<PatientCommand> {
    decided(PatientCommand::RecordDeath { died_at: at(text) })
}

fn link(survivor: Uuid) -> Issued<PatientCommand> {
    decided(PatientCommand::LinkDuplicate { survivor, survivor_exists: true })
}

fn mistake() -> Issued<PatientCommand> {
    decided(PatientCommand::MarkEnteredInError)
}

fn registered() -> Vec<PatientEvent> {
    registered_as(resource())
}

fn registered_as(resource: Resource) -> Vec<PatientEvent> {
    vec![PatientEvent::Registered { resource, notes: Vec::new() }]
}

fn after(when: &Issued<PatientCommand>) -> Vec<PatientEvent> {
    testing::after::<Patient>(&registered(), when)
}

fn standing(events: &[PatientEvent]) -> Resource {
    given::<Patient>(events).resource().unwrap().clone()
}

#[test]
fn register_takes_what_makes_sense() {
    let accepted = Ok(&["Patient.Registered"][..]);
    check(&[], &register(&|r| r), accepted);
    check(&[], &register(&|r| r.without("name")), accepted);
    check(&[], &register(&|r| r.without("identifier")), accepted);
    check(&[], &register(&|r| r.without("name").without("identifier")), Err("required-element-missing"));
    check(&[], &register(&|r| r.with("name", json!("Peter"))), Err("wrong-type"));
    check(&[], &register(&|r| r.with("gender", json!("m"))), Err("unknown-code"));
    check(&[], &register(&|r| r.with("gender", json!(1))), Err("wrong-type"));
    check(&[], &register(&|r| r.with("colour", json!("red"))), Err("unknown-element"));
    check(&[], &register(&|r| r.with("resourceType", json!("Person"))), Err("wrong-resource-type"));
}

#[test]
fn register_looks_at_dates() {
    let with = |name: &'static str, value: Value| register(&move |r| r.with(name, value.clone()));
    check(&[], &with("birthDate", json!("1929")), Ok(&["Patient.Registered"]));
    check(&[], &with("birthDate", json!("2026-11-24")), Ok(&["Patient.Registered"]));
    check(&[], &with("birthDate", json!("2026-11-26")), Err("in-the-future"));
    check(&[], &with("birthDate", json!("1849-12-31")), Err("birth-date-implausible"));
    check(&[], &with("birthDate", json!("25.12.1974")), Err("bad-date"));
    check(&[], &with("birthDate", json!("1974-12-25T09:00:00Z")), Err("bad-date"));
    check(&[], &with("deceasedBoolean", json!("no")), Err("wrong-type"));
    check(&[], &with("deceasedDateTime", json!("2020")), Err("choice-twice"));
    let died =
        |text: &'static str| register(&move |r| r.without("deceasedBoolean").with("deceasedDateTime", json!(text)));
    check(&[], &died("2020"), Ok(&["Patient.Registered"]));
    check(&[], &died("1974"), Ok(&["Patient.Registered"]));
    check(&[], &died("1973"), Err("death-before-birth"));
    check(&[], &died("2027"), Err("in-the-future"));
}

#[test]
fn register_looks_at_identifiers_and_links() {
    let identified = |value: Value| register(&move |r| r.with("identifier", json!([value.clone()])));
    check(&[], &identified(json!({"value": "7"})), Ok(&["Patient.Registered"]));
    check(&[], &identified(json!({"system": "urn:x:y"})), Err("required-element-missing"));
    check(&[], &identified(json!({"system": "urn:x:y", "value": 7})), Err("wrong-type"));
    check(&[], &identified(json!({"system": "our house", "value": "7"})), Err("bad-uri"));
    let no_system = json!({"type": {"coding": [{"code": "MR"}]}, "value": "7"});
    check(&[], &identified(no_system), Err("required-element-missing"));
    let linked = |value: Value| register(&move |r| r.with("link", json!([value.clone()])));
    let other = json!({"reference": format!("Patient/{SURVIVOR}")});
    check(&[], &linked(json!({"other": other, "type": "seealso"})), Ok(&["Patient.Registered"]));
    check(&[], &linked(json!({"other": other, "type": "twin"})), Err("unknown-code"));
    check(&[], &linked(json!({"type": "seealso"})), Err("required-element-missing"));
    check(&[], &linked(json!({"other": other})), Err("required-element-missing"));
}

/// HL7's `patient-newborn` has neither name nor identifier, `patient-f001` an identifier without a value.
#[test]
fn history_may_know_patients_that_nobody_could_find() {
    let told = |resource: Resource| history(PatientCommand::Register { resource });
    let mut newborn = resource().without("name").without("identifier");
    check_notes::<Patient>(&[], &told(newborn.clone()), &["required-element-missing"]);
    let no_value = json!({"use": "usual", "system": "urn:oid:2.16.840.1.113883.2.4.6.3"});
    let no_system = json!({"type": {"coding": [{"code": "MR"}]}, "value": "7"});
    let incomplete = resource().with("identifier", json!([no_value, {"value": "8"}, no_system]));
    check_notes::<Patient>(&[], &told(incomplete), &["required-element-missing"; 2]);
    newborn = newborn.with("gender", json!("female"));
    check_notes::<Patient>(
        &registered(),
        &history(PatientCommand::Update { resource: newborn.clone() }),
        &["required-element-missing"],
    );
    check(&registered(), &update(newborn), Err("required-element-missing"));
    check(&[], &told(resource().with("identifier", json!([{"value": 7}]))), Err("wrong-type"));
}

#[test]
fn registering_again_is_fine_if_it_says_the_same() {
    check(&registered(), &register(&|r| r), Ok(&[]));
    check(&registered(), &register(&|r| r.with("gender", json!("other"))), Err("already-recorded"));
    let updated = after(&update(resource().with("gender", json!("other"))));
    check(&updated, &register(&|r| r), Ok(&[]));
    check(&updated, &register(&|r| r.with("gender", json!("other"))), Ok(&[]));
}

#[test]
fn update_replaces_the_resource() {
    let changed = || resource().with("gender", json!("other"));
    check(&[], &update(changed()), Err("unknown-patient"));
    check(&registered(), &update(resource()), Ok(&[]));
    check(&registered(), &update(changed()), Ok(&["Patient.Updated"]));
    check(&registered(), &update(changed().with("gender", json!("m"))), Err("unknown-code"));
    check(&after(&mistake()), &update(changed()), Err("entered-in-error"));
}

#[test]
fn the_dead_are_corrected_but_not_revived_by_silence() {
    let dead = after(&death(MARCH));
    check(&dead, &update(standing(&dead).with("gender", json!("other"))), Ok(&["Patient.Updated"]));
    check(&dead, &update(resource().without("deceasedBoolean")), Err("death-dropped"));
    check(&dead, &update(resource().with("active", json!(false))), Ok(&["Patient.Updated"]));
}

#[test]
fn record_death() {
    check(&[], &death(MARCH), Err("unknown-patient"));
    check(&registered(), &death(MARCH), Ok(&["Patient.Died"]));
    check(&registered(), &death("2026-11-24T08:04:00Z"), Ok(&["Patient.Died"]));
    check(&registered(), &death("2026-11-24T08:06:00Z"), Err("in-the-future"));
    check(&registered(), &death("1974-12-24T09:00:00Z"), Err("death-before-birth"));
    check(&after(&death(MARCH)), &death(MARCH), Ok(&[]));
    check(&after(&death(MARCH)), &death("2026-03-02T12:00:00Z"), Err("already-dead"));
    check(&after(&mistake()), &death(MARCH), Err("entered-in-error"));
    check(&after(&link(SURVIVOR)), &death(MARCH), Err("patient-replaced"));
    let dead = standing(&after(&death(MARCH)));
    assert_eq!((dead.text("deceasedDateTime"), dead.get("deceasedBoolean")), (Some(MARCH), None));
}

#[test]
fn a_death_known_by_the_day_may_become_exact() {
    let day = registered_as(resource().without("deceasedBoolean").with("deceasedDateTime", json!("2026-03-01")));
    check(&day, &death(MARCH), Ok(&["Patient.Died"]));
    check(&day, &death("2026-03-02T00:00:00Z"), Err("already-dead"));
    let somehow = registered_as(resource().with("deceasedBoolean", json!(true)));
    check(&somehow, &death(MARCH), Ok(&["Patient.Died"]));
}

#[test]
fn link_duplicate() {
    check(&[], &link(SURVIVOR), Err("unknown-patient"));
    check(&registered(), &link(SURVIVOR), Ok(&["Patient.LinkedAsDuplicate"]));
    check(&registered(), &link(ID.parse().unwrap()), Err("linked-to-itself"));
    let nobody = decided(PatientCommand::LinkDuplicate { survivor: SURVIVOR, survivor_exists: false });
    check(&registered(), &nobody, Err("unknown-survivor"));
    let linked = after(&link(SURVIVOR));
    check(&linked, &link(SURVIVOR), Ok(&[]));
    check(&linked, &link(Uuid::from_u128(1)), Err("patient-replaced"));
    check(&after(&mistake()), &link(SURVIVOR), Err("entered-in-error"));
    let resource = standing(&linked);
    assert_eq!(resource.text_at("/link/0/other/reference"), Some(format!("Patient/{SURVIVOR}").as_str()));
    assert_eq!(resource.text_at("/link/0/type"), Some("replaced-by"));
    assert_eq!(resource.get("active"), Some(&json!(false)));
}

#[test]
fn a_replaced_record_refuses_decisions_and_notes_history() {
    let linked = after(&link(SURVIVOR));
    let changed = standing(&linked).with("gender", json!("other"));
    check(&linked, &update(changed.clone()), Err("patient-replaced"));
    check(&linked, &update(changed.clone().without("link")), Err("link-dropped"));
    let recorded = history(PatientCommand::Update { resource: changed });
    check_notes::<Patient>(&linked, &recorded, &["patient-replaced"]);
}

#[test]
fn mark_entered_in_error() {
    check(&[], &mistake(), Err("unknown-patient"));
    check(&registered(), &mistake(), Ok(&["Patient.EnteredInError"]));
    check(&after(&mistake()), &mistake(), Ok(&[]));
    assert_eq!(standing(&after(&mistake())).get("active"), Some(&json!(false)));
}

#[test]
fn others_learn_what_they_need() {
    let facts = |events: &[PatientEvent]| given::<Patient>(events).facts();
    let alive = PatientFacts { exists: true, ..PatientFacts::default() };
    assert_eq!(facts(&[]), PatientFacts::default());
    assert_eq!(facts(&registered()), alive);
    assert_eq!(facts(&after(&link(SURVIVOR))), PatientFacts { replaced: true, ..alive.clone() });
    assert_eq!(
        facts(&after(&death(MARCH))),
        PatientFacts { deceased: true, deceased_at: Some(at(MARCH)), ..alive.clone() }
    );
    let somehow = registered_as(resource().with("deceasedBoolean", json!(true)));
    assert_eq!(facts(&somehow), PatientFacts { deceased: true, ..alive });
    let day = registered_as(resource().without("deceasedBoolean").with("deceasedDateTime", json!("2026-03-01")));
    assert_eq!(facts(&day).deceased_at, Some(at("2026-03-01T23:59:59.999Z")));
    assert_eq!(facts(&after(&mistake())), PatientFacts::default());
}

#[test]
fn medical_record_numbers_are_claimed_and_given_up() {
    let claims = |events: &[PatientEvent], event: &PatientEvent| given::<Patient>(events).claims(event);
    let mrn = |value: &str| Claim::medical_record_number("urn:oid:1.2.36.146.595.217.0.1", value);
    let first = registered();
    assert_eq!(claims(&[], &first[0]), [ClaimChange::Take(mrn("12345"))]);
    let identifiers = json!([
        identifier("MR", "urn:oid:1.2.36.146.595.217.0.1", "777"),
        identifier("MR", "urn:oid:1.2.36.146.595.217.0.1", "777"),
        identifier("SS", "http://hl7.org/fhir/sid/us-ssn", "999-69-6815")
    ]);
    let updated = after(&update(resource().with("identifier", identifiers)));
    assert_eq!(claims(&first, &updated[1]), [ClaimChange::Release(mrn("12345")), ClaimChange::Take(mrn("777"))]);
    for (when, expected) in
        [(death(MARCH), vec![]), (link(SURVIVOR), vec![]), (mistake(), vec![ClaimChange::Release(mrn("12345"))])]
    {
        assert_eq!(claims(&first, &after(&when)[1]), expected);
    }
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<Patient>("patient"),
        [
            "Patient.Died 1.0",
            "Patient.EnteredInError 1.0",
            "Patient.Erased 1.0",
            "Patient.ErasureRequested 1.0",
            "Patient.ErasureWithdrawn 1.0",
            "Patient.LegalHoldPlaced 1.0",
            "Patient.LegalHoldReleased 1.0",
            "Patient.LinkedAsDuplicate 1.0",
            "Patient.Registered 1.0",
            "Patient.Registered 2.0",
            "Patient.Updated 1.0"
        ]
    );
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let numbers = prop::collection::vec(0..4_u8, 1..3);
    let ends = prop_oneof![
        Just(None),
        Just(Some(("deceasedBoolean", json!(false)))),
        Just(Some(("deceasedBoolean", json!(true)))),
        Just(Some(("deceasedDateTime", json!("2026-03-01")))),
        Just(Some(("deceasedDateTime", json!("2027"))))
    ];
    (numbers, ends, any::<bool>()).prop_map(|(numbers, end, linked)| {
        let identifiers: Vec<Value> =
            numbers.iter().map(|number| identifier("MR", "urn:x:mr", &number.to_string())).collect();
        let mut made = resource().without("deceasedBoolean").with("identifier", json!(identifiers));
        if let Some((name, value)) = end {
            made = made.with(name, value);
        }
        if linked {
            let other = json!({"reference": format!("Patient/{SURVIVOR}")});
            made = made.with("link", json!([{"other": other, "type": "replaced-by"}]));
        }
        made
    })
}

fn forgetting() -> impl Strategy<Value = PatientCommand> {
    let (by, reason) = (prop_oneof![Just("ada".to_owned()), Just("grace".to_owned())], Just("why".to_owned()));
    (by, reason, 0..5_u8).prop_map(|(by, reason, which)| match which {
        0 => PatientCommand::PlaceLegalHold { by, reason },
        1 => PatientCommand::ReleaseLegalHold { by, reason },
        2 => PatientCommand::RequestErasure { by, reason },
        3 => PatientCommand::WithdrawErasure { by },
        _ => PatientCommand::ApproveErasure { by },
    })
}

fn any_command() -> impl Strategy<Value = Issued<PatientCommand>> {
    let action = prop_oneof![
        any_resource().prop_map(|resource| PatientCommand::Register { resource }),
        any_resource().prop_map(|resource| PatientCommand::Update { resource }),
        (0..3_u32).prop_map(|day| PatientCommand::RecordDeath { died_at: now() - chrono::Days::new(day.into()) }),
        (1..3_u128)
            .prop_map(|id| PatientCommand::LinkDuplicate { survivor: Uuid::from_u128(id), survivor_exists: true }),
        Just(PatientCommand::MarkEnteredInError),
        forgetting(),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let first = Issued { action: PatientCommand::Register { resource: resource() }, ..commands[0].clone() };
        let commands: Vec<_> = std::iter::once(first).chain(commands).collect();
        let accepted = fold_all::<Patient>(&commands, |state| {
            let (facts, resource) = (state.facts(), state.resource().unwrap());
            if state.entered_in_error || state.erased {
                assert_eq!(facts, PatientFacts::default());
            } else {
                assert_eq!(facts.deceased_at.is_some(), resource.get("deceasedDateTime").is_some());
                assert_eq!(facts.replaced, resource.text_at("/link/0/type") == Some("replaced-by"));
            }
        });
        prop_assert!(accepted >= 1);
    }
}
