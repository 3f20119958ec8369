//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{DirectoryEntry, DirectoryEntryCommand, DirectoryEntryEvent};
use crate::common::testing::{self, decided, fold_all, given, history, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};
use crate::types::{Claim, ClaimChange};

const NPI: &str = "http://hl7.org/fhir/sid/us-npi";

fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Practitioner",
        "id": "ffb3f581-4467-35fb-94c5-e5b0ff9ac59e",
        "identifier": [{"system": NPI, "value": "9999999989"}],
        "active": true,
        "name": [{"family": "Careful", "given": ["Adam"], "prefix": ["Dr."]}]
    }))
}

fn of_type(resource_type: &str) -> Resource {
    testing::resource(json!({
        "resourceType": resource_type,
        "id": "ffb3f581-4467-35fb-94c5-e5b0ff9ac59e",
        "name": "Ward 7"
    }))
}

fn identified(values: &[&str]) -> Resource {
    let identifiers: Vec<Value> = values.iter().map(|value| json!({"system": NPI, "value": value})).collect();
    resource().with("identifier", json!(identifiers))
}

fn register(resource: Resource) -> Issued<DirectoryEntryCommand> {
    decided(DirectoryEntryCommand::Register { resource })
}

fn update(resource: Resource) -> Issued<DirectoryEntryCommand> {
    decided(DirectoryEntryCommand::Update { resource })
}

fn retire() -> Issued<DirectoryEntryCommand> {
    decided(DirectoryEntryCommand::Retire)
}

fn registered(resource: Resource) -> Vec<DirectoryEntryEvent> {
    vec![DirectoryEntryEvent::Registered { resource, notes: Vec::new() }]
}

#[track_caller]
fn check(events: &[DirectoryEntryEvent], when: &Issued<DirectoryEntryCommand>, then: Result<&[&str], &str>) {
    testing::check::<DirectoryEntry>(events, when, then);
}

/// What the command's event takes and gives up.
fn claims(events: &[DirectoryEntryEvent], when: &Issued<DirectoryEntryCommand>) -> Vec<ClaimChange> {
    let state = given::<DirectoryEntry>(events);
    state.decide(when).unwrap().iter().flat_map(|event| state.claims(event)).collect()
}

#[test]
fn register_once() {
    check(&[], &register(resource()), Ok(&["DirectoryEntry.Registered"]));
    check(&registered(resource()), &register(resource()), Ok(&[]));
    check(&registered(resource()), &register(resource().with("active", json!(false))), Err("already-recorded"));
    let of_no_patient = Issued { patient: PatientFacts::default(), ..register(resource()) };
    check(&[], &of_no_patient, Ok(&["DirectoryEntry.Registered"]));
}

#[test]
fn form() {
    let refused = |changed: Resource, code| check(&[], &register(changed), Err(code));
    refused(of_type("Procedure"), "no-patient");
    refused(of_type("Immunization"), "wrong-resource-type");
    refused(of_type("Patient"), "wrong-resource-type");
    refused(resource().without("name").without("identifier"), "required-element-missing");
    refused(of_type("Location").without("name"), "required-element-missing");
    refused(resource().with("active", json!("yes")), "wrong-type");
    refused(of_type("Location").with("status", json!(true)), "wrong-type");
    refused(resource().with("identifier", json!({"system": NPI, "value": "1"})), "wrong-type");
    refused(resource().with("identifier", json!(["1"])), "wrong-type");
    refused(resource().with("identifier", json!([{"system": NPI, "value": 1}])), "wrong-type");
    refused(resource().with("qualification", json!([])), "empty-element");
    check(&[], &register(resource().without("name")), Ok(&["DirectoryEntry.Registered"]));
    check(&[], &register(resource().without("identifier")), Ok(&["DirectoryEntry.Registered"]));
    check(&[], &register(of_type("PractitionerRole").without("name")), Ok(&["DirectoryEntry.Registered"]));
}

/// Whoever reads the directory does not learn from it who is a patient.
#[test]
fn the_directory_names_no_patients() {
    let refused = |resource: Resource| check(&[], &register(resource), Err("patient-in-directory"));
    for person in ["Patient", "RelatedPerson", "Person"] {
        let reference = json!({"reference": format!("{person}/057aa36e-b892-9964-75b9-ffb46b097e34")});
        refused(of_type("Location").with("managingOrganization", reference));
        refused(of_type("Medication").with("contained", json!([{"resourceType": person, "id": "p"}])));
    }
    let entity = json!({"reference": "Practitioner/057aa36e-b892-9964-75b9-ffb46b097e34", "display": "Dr. Careful"});
    let team = of_type("Group").with("member", json!([{"entity": entity}]));
    check(&[], &register(team), Ok(&["DirectoryEntry.Registered"]));
}

/// What a patient is called, or a story about one, could not be erased with the patient.
#[test]
fn a_group_refers_to_patients_and_says_no_more() {
    let whom = "Patient/057aa36e-b892-9964-75b9-ffb46b097e34";
    let group = |entity: Value| of_type("Group").with("member", json!([{"entity": entity}]));
    let cohort = group(json!({"reference": whom}));
    check(&[], &register(cohort.clone()), Ok(&["DirectoryEntry.Registered"]));
    let refused = |resource: Resource| check(&[], &register(resource), Err("patient-in-directory"));
    refused(group(json!({"reference": whom, "display": "Ada Example"})));
    refused(group(json!({"reference": whom, "identifier": {"value": "7"}})));
    refused(group(json!({"type": "Patient", "identifier": {"value": "7"}})));
    refused(cohort.clone().with("text", json!({"status": "generated", "div": "<div>Ada</div>"})));
    refused(cohort.with("contained", json!([{"resourceType": "Patient", "id": "p"}])));
}

#[test]
fn what_is_about_no_patient_is_kept_here() {
    let patient = json!({"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"});
    let place = json!({"reference": "Location/057aa36e-b892-9964-75b9-ffb46b097e34"});
    let bare = |resource_type: &str| of_type(resource_type).without("name");
    for (kept, element, value) in [
        ("Observation", "subject", place.clone()),
        ("Flag", "subject", place.clone()),
        ("Device", "location", place.clone()),
        ("Provenance", "target", json!([place])),
        ("StructureDefinition", "status", json!("draft")),
    ] {
        check(&[], &register(bare(kept).with(element, value)), Ok(&["DirectoryEntry.Registered"]));
    }
    let refused = |resource: Resource, code| check(&[], &register(resource), Err(code));
    refused(bare("Device").with("patient", patient.clone()), "patient-in-directory");
    refused(bare("Observation").with("subject", patient), "patient-in-directory");
    refused(bare("Observation"), "no-patient");
    refused(bare("Observation").with("subject", json!({"display": "Jane"})), "no-patient");
    refused(bare("Binary"), "wrong-resource-type");
    refused(bare("Subscription"), "wrong-resource-type");
}

#[test]
fn update_what_stands() {
    let renamed = resource().with("name", json!([{"family": "Careless"}]));
    check(&[], &update(renamed.clone()), Err("unknown-directory-entry"));
    check(&registered(resource()), &update(resource()), Ok(&[]));
    check(&registered(resource()), &update(renamed), Ok(&["DirectoryEntry.Updated"]));
    check(&registered(of_type("Location")), &update(of_type("Organization")), Err("type-changed"));
    let retired = testing::after::<DirectoryEntry>(&registered(resource()), &retire());
    check(&retired, &update(resource()), Ok(&["DirectoryEntry.Updated"]));
}

/// Rows: a type, and how it says that it is no longer in use.
#[test]
fn retire_in_the_words_of_each_type() {
    let rows = [
        ("Practitioner", "active", json!(false)),
        ("Organization", "active", json!(false)),
        ("Location", "status", json!("inactive")),
        ("Endpoint", "status", json!("off")),
        ("Slot", "status", json!("busy-unavailable")),
        ("ValueSet", "status", json!("retired")),
        ("Medication", "status", json!("inactive")),
        ("Library", "status", json!("retired")),
        ("Group", "active", json!(false)),
        ("Device", "status", json!("entered-in-error")),
        (
            "Basic",
            "meta",
            json!({"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "EIE"}]}),
        ),
        ("ConceptMap", "status", json!("retired")),
        (
            "DeviceDefinition",
            "meta",
            json!({"tag": [{"system": "http://hl7.org/fhir/publication-status", "code": "retired"}]}),
        ),
        (
            "SubstanceProtein",
            "meta",
            json!({"tag": [{"system": "http://hl7.org/fhir/publication-status", "code": "retired"}]}),
        ),
    ];
    for (resource_type, element, value) in rows {
        let events = testing::after::<DirectoryEntry>(&registered(of_type(resource_type)), &retire());
        assert_eq!(given::<DirectoryEntry>(&events).resource().unwrap().get(element), Some(&value), "{resource_type}");
        check(&events, &retire(), Ok(&[]));
    }
    check(&[], &retire(), Err("unknown-directory-entry"));
}

#[test]
fn identifiers_are_claims() {
    let claim = |value: &str| Claim::directory_identifier("Practitioner", NPI, value);
    let (take, release) = (|value| ClaimChange::Take(claim(value)), |value| ClaimChange::Release(claim(value)));
    assert_eq!(claims(&[], &register(identified(&["1", "2", "1"]))), [take("1"), take("2")]);
    let standing = registered(identified(&["1", "2"]));
    assert_eq!(claims(&standing, &update(identified(&["2", "3"]))), [release("1"), take("3")]);
    assert_eq!(claims(&standing, &update(resource().without("identifier"))), [release("1"), release("2")]);
    assert_eq!(claims(&standing, &retire()), []);
    let copies = of_type("Medication").with("identifier", json!([{"system": "urn:x", "value": "1"}]));
    assert_eq!(claims(&[], &register(copies)), []);
    let unclear = json!([{"value": "1"}, {"system": NPI}]);
    assert_eq!(claims(&[], &register(resource().with("identifier", unclear))), []);
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<DirectoryEntry>("directory_entry"),
        ["DirectoryEntry.Registered 1.0", "DirectoryEntry.Retired 1.0", "DirectoryEntry.Updated 1.0"]
    );
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let identifiers = prop::sample::subsequence(vec!["1", "2", "3"], 0..=3);
    let types = prop::sample::select(vec!["Practitioner", "Practitioner", "Location", "Slot", "Procedure"]);
    (identifiers, types, any::<bool>()).prop_map(|(identifiers, resource_type, active)| {
        let made = identified(&identifiers).with("resourceType", json!(resource_type)).with("active", json!(active));
        if identifiers.is_empty() { made.without("identifier") } else { made }
    })
}

fn any_command() -> impl Strategy<Value = Issued<DirectoryEntryCommand>> {
    let action = prop_oneof![
        any_resource().prop_map(|resource| DirectoryEntryCommand::Register { resource }),
        any_resource().prop_map(|resource| DirectoryEntryCommand::Update { resource }),
        Just(DirectoryEntryCommand::Retire),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let commands: Vec<_> = std::iter::once(register(resource())).chain(commands).collect();
        let accepted = fold_all::<DirectoryEntry>(&commands, |state| {
            // What stands is in form, whatever the way it came to be.
            check(&[], &register(state.resource().unwrap().clone()), Ok(&["DirectoryEntry.Registered"]));
        });
        prop_assert!(accepted >= 1);
    }
}
