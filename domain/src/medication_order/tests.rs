//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::state::Step;
use super::{Error, MedicationOrder, MedicationOrderCommand, MedicationOrderEvent};
use crate::allergy::ActiveAllergy;
use crate::common::testing::{self, about, at, check_notes, decided, fold_all, given, history, read_fixtures};
use crate::fhir::{Coding, Resource};
use crate::record::{Issued, PatientFacts, Record};

const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
const SNOMED: &str = "http://snomed.info/sct";

fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "MedicationRequest",
        "id": "438f3168-aa5c-eea4-eee9-d8949eae3841",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {
            "coding": [{"system": RXNORM, "code": "834061", "display": "Penicillin V Potassium 250 MG Oral Tablet"}],
            "text": "Penicillin V Potassium 250 MG Oral Tablet"
        },
        "subject": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "authoredOn": "2026-11-01T09:00:00Z"
    }))
}

fn with_status(status: &str) -> Resource {
    resource().with("status", json!(status))
}

/// An order that refers to a contained medication.
fn referring(code: serde_json::Value) -> Resource {
    resource()
        .without("medicationCodeableConcept")
        .with("medicationReference", json!({"reference": "#m"}))
        .with("contained", json!([{"resourceType": "Medication", "id": "m", "code": code}]))
}

fn allergy(system: &str, code: &str, words: &[&str]) -> ActiveAllergy {
    let codings = vec![Coding { system: system.to_owned(), code: code.to_owned(), display: None }];
    ActiveAllergy {
        id: Uuid::from_u128(7),
        codings,
        confirmed: true,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    }
}

fn prescribe(resource: Resource, allergies: &[ActiveAllergy], reason: Option<&str>) -> Issued<MedicationOrderCommand> {
    decided(MedicationOrderCommand::Prescribe {
        resource,
        override_reason: reason.map(str::to_owned),
        active_allergies: allergies.to_vec(),
    })
}

fn told(resource: Resource, allergies: &[ActiveAllergy]) -> Issued<MedicationOrderCommand> {
    history(MedicationOrderCommand::Record { resource, active_allergies: allergies.to_vec() })
}

fn amend(resource: Resource) -> Issued<MedicationOrderCommand> {
    decided(MedicationOrderCommand::Amend { resource })
}

fn hold() -> MedicationOrderCommand {
    MedicationOrderCommand::Hold { reason: "Surgery".to_owned() }
}

fn discontinue() -> MedicationOrderCommand {
    MedicationOrderCommand::Discontinue { reason: "No longer needed".to_owned() }
}

/// An order that has come as far as its status says.
fn recorded(status: &str) -> Vec<MedicationOrderEvent> {
    vec![MedicationOrderEvent::Recorded { resource: with_status(status), notes: Vec::new() }]
}

fn standing(events: &[MedicationOrderEvent]) -> Resource {
    given::<MedicationOrder>(events).resource().unwrap().clone()
}

#[track_caller]
fn check(events: &[MedicationOrderEvent], when: &Issued<MedicationOrderCommand>, then: Result<&[&str], &str>) {
    testing::check::<MedicationOrder>(events, when, then);
}

#[test]
fn prescribe_once() {
    let prescribed = testing::after::<MedicationOrder>(&[], &prescribe(resource(), &[], None));
    check(&[], &prescribe(resource(), &[], None), Ok(&["MedicationOrder.Prescribed"]));
    check(&prescribed, &prescribe(resource(), &[], None), Ok(&[]));
    check(&prescribed, &prescribe(resource().with("priority", json!("stat")), &[], None), Err("already-recorded"));
    check(&[], &prescribe(with_status("draft"), &[], None), Err("prescription-not-active"));
    let mut stranger = prescribe(resource(), &[], None);
    stranger.patient.exists = false;
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn form() {
    let refused = |changed: Resource, code| check(&[], &prescribe(changed, &[], None), Err(code));
    refused(resource().with("resourceType", json!("Condition")), "wrong-resource-type");
    refused(resource().with("colour", json!("red")), "unknown-element");
    refused(resource().without("subject"), "required-element-missing");
    refused(resource().without("status"), "required-element-missing");
    refused(with_status("ended"), "unknown-code");
    refused(resource().without("intent"), "required-element-missing");
    refused(resource().with("intent", json!("wish")), "unknown-code");
    refused(resource().with("priority", json!("soon")), "unknown-code");
    refused(resource().with("doNotPerform", json!("no")), "wrong-type");
    refused(resource().without("medicationCodeableConcept"), "required-element-missing");
    refused(resource().with("medicationCodeableConcept", json!("Penicillin")), "wrong-type");
    refused(resource().with("medicationReference", json!({"display": "Penicillin"})), "choice-twice");
    refused(
        resource().without("medicationCodeableConcept").with("medicationReference", json!("Penicillin")),
        "wrong-type",
    );
    refused(resource().with("authoredOn", json!("2026-11-25T09:00:00Z")), "in-the-future");
    refused(resource().with("authoredOn", json!("today")), "bad-date");
    refused(resource().with("dosageInstruction", json!({"text": "Once a day"})), "wrong-type");
}

/// Rows: what is ordered, what the patient is allergic to, whether the allergy speaks against the order.
#[test]
fn an_active_allergy_speaks_against_the_medication() {
    let same_code = allergy(RXNORM, "834061", &[]);
    let same_word = allergy(SNOMED, "91936005", &["penicillin"]);
    let reference = |display: &str| {
        resource().without("medicationCodeableConcept").with(
            "medicationReference",
            json!({"reference": "Medication/2b93ad99-0f89-01f5-4c8a-ca80e5278705", "display": display}),
        )
    };
    let text = |text: &str| resource().with("medicationCodeableConcept", json!({"text": text}));
    let ingredient = resource()
        .without("medicationCodeableConcept")
        .with("medicationReference", json!({"reference": "#m"}))
        .with("contained", json!([{"resourceType": "Medication", "id": "m", "ingredient": [{"itemCodeableConcept": {"coding": [{"system": RXNORM, "code": "834061"}]}}]}]));
    let rows = [
        (resource(), &same_code, true),
        (resource(), &same_word, true),
        (resource(), &allergy(SNOMED, "91936005", &["penicill"]), false),
        (resource(), &allergy(SNOMED, "300913006", &["shellfish"]), false),
        (text("PENICILLINS, mixed"), &same_word, true),
        (text("Benzylpenicillin"), &same_word, false),
        (referring(json!({"coding": [{"system": RXNORM, "code": "834061"}]})), &same_code, true),
        (referring(json!({"text": "penicillin"})), &same_word, true),
        (ingredient, &same_code, true),
        (reference("Penicillin V"), &same_word, true),
        (text("ASA 81 MG Oral Tablet"), &allergy(SNOMED, "293586001", &["asa"]), true),
        (reference("Ibuprofen"), &same_word, false),
        (resource().with("doNotPerform", json!(true)), &same_code, false),
    ];
    for (order, allergy, refused) in rows {
        let then: Result<&[&str], &str> =
            if refused { Err("active-allergy") } else { Ok(&["MedicationOrder.Prescribed"]) };
        check(&[], &prescribe(order.clone(), std::slice::from_ref(allergy), None), then);
        let notes: &[&str] = if refused { &["active-allergy"] } else { &[] };
        check_notes::<MedicationOrder>(&[], &told(order, std::slice::from_ref(allergy)), notes);
    }
}

/// What only another stream knows by name could be anything.
#[test]
fn a_medication_without_a_name_is_not_taken_for_harmless() {
    let unnamed = resource()
        .without("medicationCodeableConcept")
        .with("medicationReference", json!({"reference": "Medication/2b93ad99-0f89-01f5-4c8a-ca80e5278705"}));
    let allergies = [allergy(SNOMED, "91936005", &["penicillin"])];
    check(&[], &prescribe(unnamed.clone(), &[], None), Ok(&["MedicationOrder.Prescribed"]));
    check(&[], &prescribe(unnamed.clone(), &allergies, None), Err("medication-not-checkable"));
    check(&[], &prescribe(unnamed.clone(), &allergies, Some("Checked by hand")), Ok(&["MedicationOrder.Prescribed"]));
    check_notes::<MedicationOrder>(&[], &told(unnamed, &allergies), &["medication-not-checkable"]);
}

/// Rows: what is ordered, what the patient is allergic to, whether one can be compared with the other.
#[test]
fn what_shares_neither_code_system_nor_words_is_not_taken_for_harmless() {
    let only = |concept: serde_json::Value| resource().with("medicationCodeableConcept", concept);
    let code = only(json!({"coding": [{"system": RXNORM, "code": "834061"}]}));
    let bare = only(json!({"coding": [{"code": "834061"}]}));
    let words = only(json!({"text": "Ibuprofen"}));
    let rows = [
        (resource(), allergy(SNOMED, "91936005", &[]), false),
        (code.clone(), allergy(SNOMED, "91936005", &[]), false),
        (code.clone(), allergy(SNOMED, "91936005", &["penicillin"]), false),
        (words.clone(), allergy(RXNORM, "7980", &[]), false),
        (bare.clone(), allergy("", "7980", &[]), false),
        (code, allergy(RXNORM, "7980", &[]), true),
        (words, allergy(SNOMED, "91936005", &["penicillin"]), true),
    ];
    for (order, allergy, comparable) in rows {
        let then: Result<&[&str], &str> =
            if comparable { Ok(&["MedicationOrder.Prescribed"]) } else { Err("medication-not-checkable") };
        // One that can be compared does not vouch for the other.
        let allergies = [self::allergy("urn:x", "1", &["latex"]), allergy];
        check(&[], &prescribe(order.clone(), &allergies[1..], None), then);
        let overridden = prescribe(order.clone(), &allergies, Some("Checked by hand"));
        check(&[], &overridden, Ok(&["MedicationOrder.Prescribed"]));
        if !comparable {
            check(&[], &prescribe(order, &allergies, None), then);
        }
    }
}

#[test]
fn an_override_needs_a_reason_and_is_kept() {
    let allergies = [allergy(RXNORM, "834061", &[])];
    check(&[], &prescribe(resource(), &allergies, Some("  ")), Err("active-allergy"));
    let kept = |allergies: &[ActiveAllergy]| match &testing::after::<MedicationOrder>(
        &[],
        &prescribe(resource(), allergies, Some("Desensitised")),
    )[..]
    {
        [MedicationOrderEvent::Prescribed { override_reason, notes, .. }] => {
            assert!(notes.is_empty());
            override_reason.clone()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(kept(&allergies).as_deref(), Some("Desensitised"));
    assert_eq!(kept(&[]), None, "nothing was overridden");
}

#[test]
fn refusals_name_neither_allergy_nor_medication() {
    let allergies = [allergy(RXNORM, "834061", &["penicillin"])];
    let refusal = given::<MedicationOrder>(&[]).decide(&prescribe(resource(), &allergies, None)).unwrap_err();
    assert_eq!(refusal, Error::ActiveAllergy);
    assert!(!format!("{refusal} {refusal:?}").to_lowercase().contains("penicillin"));
}

#[test]
fn the_dead_and_the_replaced_get_no_new_orders() {
    let dead =
        PatientFacts { deceased: true, deceased_at: Some(at("2026-11-10T00:00:00Z")), ..PatientFacts::default() };
    let replaced = PatientFacts { replaced: true, ..PatientFacts::default() };
    check(&[], &about(prescribe(resource(), &[], None), dead.clone()), Err("patient-deceased"));
    check(&[], &about(prescribe(resource(), &[], None), replaced.clone()), Err("patient-replaced"));
    let late = resource().with("authoredOn", json!("2026-11-20"));
    check_notes::<MedicationOrder>(&[], &about(told(late, &[]), dead.clone()), &["patient-deceased"]);
    check_notes::<MedicationOrder>(&[], &about(told(resource(), &[]), dead.clone()), &[]);
    check_notes::<MedicationOrder>(&[], &about(told(resource(), &[]), replaced), &["patient-replaced"]);
    let resume = about(decided(MedicationOrderCommand::Resume), dead.clone());
    check(&recorded("on-hold"), &resume, Err("patient-deceased"));
    check(&recorded("active"), &about(decided(discontinue()), dead), Ok(&["MedicationOrder.Discontinued"]));
}

/// Rows: how far the order has come, and what each step then does.
#[test]
fn order_of_steps() {
    type Then = Result<&'static [&'static str], &'static str>;
    const HELD: Then = Ok(&["MedicationOrder.Held"]);
    const RESUMED: Then = Ok(&["MedicationOrder.Resumed"]);
    const DISCONTINUED: Then = Ok(&["MedicationOrder.Discontinued"]);
    const COMPLETED: Then = Ok(&["MedicationOrder.Completed"]);
    const NOTHING: Then = Ok(&[]);
    let rows: [(&str, [Then; 4]); 8] = [
        ("active", [HELD, NOTHING, DISCONTINUED, COMPLETED]),
        ("on-hold", [Err("order-on-hold"), RESUMED, DISCONTINUED, Err("order-on-hold")]),
        ("draft", [Err("order-not-active"); 4]),
        ("unknown", [Err("order-not-active"); 4]),
        ("stopped", [Err("order-stopped"); 4]),
        ("cancelled", [Err("order-stopped"); 4]),
        ("completed", [Err("order-completed"), Err("order-completed"), Err("order-completed"), NOTHING]),
        ("entered-in-error", [Err("entered-in-error"); 4]),
    ];
    let steps = [hold(), MedicationOrderCommand::Resume, discontinue(), MedicationOrderCommand::Complete];
    for (status, outcomes) in rows {
        for (step, then) in steps.iter().zip(outcomes) {
            check(&recorded(status), &decided(step.clone()), then);
        }
    }
    for step in steps.into_iter().chain([MedicationOrderCommand::MarkEnteredInError]) {
        check(&[], &decided(step), Err("unknown-medication-order"));
    }
}

#[test]
fn a_step_changes_status_and_reason_and_has_its_effect_once() {
    let held = testing::after::<MedicationOrder>(&recorded("active"), &decided(hold()));
    assert_eq!(standing(&held).text("status"), Some("on-hold"));
    assert_eq!(standing(&held).text_at("/statusReason/text"), Some("Surgery"));
    check(&held, &decided(hold()), Ok(&[]));
    let resumed = testing::after::<MedicationOrder>(&held, &decided(MedicationOrderCommand::Resume));
    assert_eq!(standing(&resumed), resource());
    let stopped = testing::after::<MedicationOrder>(&resumed, &decided(discontinue()));
    assert_eq!(standing(&stopped).text("status"), Some("stopped"));
    assert_eq!(standing(&stopped).text_at("/statusReason/text"), Some("No longer needed"));
    check(&stopped, &decided(discontinue()), Ok(&[]));
    let blank = " ".to_owned();
    check(&resumed, &decided(MedicationOrderCommand::Hold { reason: blank.clone() }), Err("required-element-missing"));
    check(&resumed, &decided(MedicationOrderCommand::Discontinue { reason: blank }), Err("required-element-missing"));
}

#[test]
fn amend_what_stands() {
    let urgent = resource().with("priority", json!("urgent"));
    check(&[], &amend(urgent.clone()), Err("unknown-medication-order"));
    check(&recorded("active"), &amend(resource()), Ok(&[]));
    check(&recorded("active"), &amend(urgent.clone()), Ok(&["MedicationOrder.Amended"]));
    let moved = urgent.clone().with("subject", json!({"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}));
    check(&recorded("active"), &amend(moved), Err("subject-changed"));
    let other = resource().with("medicationCodeableConcept", json!({"text": "Amoxicillin"}));
    check(&recorded("active"), &amend(other.clone()), Err("medication-changed"));
    check(&recorded("stopped"), &amend(urgent.clone()), Err("order-stopped"));
    check(&recorded("completed"), &amend(urgent.clone()), Err("order-completed"));
    check(&recorded("completed"), &amend(with_status("entered-in-error")), Ok(&["MedicationOrder.Amended"]));
    check(&recorded("entered-in-error"), &amend(urgent), Err("entered-in-error"));
    let late = history(MedicationOrderCommand::Amend { resource: other });
    check_notes::<MedicationOrder>(&recorded("stopped"), &late, &["order-stopped", "medication-changed"]);
}

/// The medication is also what is contained: the reference to it may stay the same.
#[test]
fn a_contained_medication_does_not_change_either() {
    let events = vec![MedicationOrderEvent::Recorded { resource: referring(json!({"text": "A"})), notes: Vec::new() }];
    check(&events, &amend(referring(json!({"text": "B"}))), Err("medication-changed"));
}

#[test]
fn mark_entered_in_error() {
    let mistake = decided(MedicationOrderCommand::MarkEnteredInError);
    check(&recorded("completed"), &mistake, Ok(&["MedicationOrder.EnteredInError"]));
    check(&recorded("entered-in-error"), &mistake, Ok(&[]));
    let events = testing::after::<MedicationOrder>(&recorded("active"), &mistake);
    assert_eq!(standing(&events).text("status"), Some("entered-in-error"));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<MedicationOrder>("medication_order"),
        [
            "MedicationOrder.Amended 1.0",
            "MedicationOrder.Completed 1.0",
            "MedicationOrder.Discontinued 1.0",
            "MedicationOrder.EnteredInError 1.0",
            "MedicationOrder.Held 1.0",
            "MedicationOrder.Prescribed 1.0",
            "MedicationOrder.Recorded 1.0",
            "MedicationOrder.Resumed 1.0"
        ]
    );
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let statuses =
        vec!["active", "on-hold", "cancelled", "completed", "entered-in-error", "stopped", "draft", "unknown", "ended"];
    let medications = vec![
        resource(),
        referring(json!({"text": "Amoxicillin"})),
        resource()
            .without("medicationCodeableConcept")
            .with("medicationReference", json!({"reference": "Medication/2b93ad99-0f89-01f5-4c8a-ca80e5278705"})),
    ];
    (prop::sample::select(statuses), prop::sample::select(medications))
        .prop_map(|(status, order)| order.with("status", json!(status)))
}

fn any_command() -> impl Strategy<Value = Issued<MedicationOrderCommand>> {
    let allergies =
        prop::sample::subsequence(vec![allergy(RXNORM, "834061", &[]), allergy(SNOMED, "1", &["amoxicillin"])], 0..=2);
    let reason = || prop::sample::select(vec!["", "Surgery", "Pregnancy"]).prop_map(str::to_owned);
    let action = prop_oneof![
        (any_resource(), prop::option::of(reason()), allergies.clone()).prop_map(
            |(resource, override_reason, active_allergies)| MedicationOrderCommand::Prescribe {
                resource,
                override_reason,
                active_allergies
            }
        ),
        (any_resource(), allergies)
            .prop_map(|(resource, active_allergies)| MedicationOrderCommand::Record { resource, active_allergies }),
        any_resource().prop_map(|resource| MedicationOrderCommand::Amend { resource }),
        reason().prop_map(|reason| MedicationOrderCommand::Hold { reason }),
        Just(MedicationOrderCommand::Resume),
        reason().prop_map(|reason| MedicationOrderCommand::Discontinue { reason }),
        Just(MedicationOrderCommand::Complete),
        Just(MedicationOrderCommand::MarkEnteredInError),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20)) {
        let commands: Vec<_> = std::iter::once(prescribe(resource(), &[], None)).chain(commands).collect();
        let accepted = fold_all::<MedicationOrder>(&commands, |state| {
            let resource = state.resource().unwrap();
            assert_eq!(state.step, Step::of(resource));
            // What stands is in form, whatever the way it came to be.
            check(&[], &told(resource.clone(), &[]), Ok(&["MedicationOrder.Recorded"]));
        });
        prop_assert!(accepted >= 1);
    }
}
