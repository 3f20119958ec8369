//! Given events, when a command, then events or a refusal.

use proptest::prelude::*;
use serde_json::json;

use super::{Alert, AlertCommand, AlertEvent, risk_of, score_of, undecided_of};
use crate::common::testing::{self, about, check_notes, decided, fold_all, given, history, read_fixtures};
use crate::early_warning::{Parameter, Risk};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};

fn flag(risk: Risk) -> Resource {
    testing::resource(json!({
        "resourceType": "Flag",
        "id": "5cc6df9b-3cf0-4a8e-9d0f-0a9a9d2d5a11",
        "status": if risk == Risk::Low { "inactive" } else { "active" },
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "clinical"}]}],
        "code": {"coding": [
            {"system": "urn:nexushealth:early-warning-risk", "code": risk.as_str()},
            {"system": "urn:nexushealth:news2-score", "code": "7"}
        ]},
        "subject": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"},
        "period": {"start": "2026-11-24T07:00:00Z"},
        "encounter": {"reference": "Encounter/0696ac49-3128-87d3-7344-04510aa4f324"}
    }))
}

fn assess(resource: Resource) -> Issued<AlertCommand> {
    decided(AlertCommand::Assess { resource })
}

/// An alert that has come to this in these steps.
fn assessed(risks: &[Risk]) -> Vec<AlertEvent> {
    risks.iter().fold(Vec::new(), |events, risk| testing::after::<Alert>(&events, &assess(flag(*risk))))
}

#[track_caller]
fn check(events: &[AlertEvent], when: &Issued<AlertCommand>, then: Result<&[&str], &str>) {
    testing::check::<Alert>(events, when, then);
}

#[test]
fn every_step_from_one_risk_to_another() {
    use Risk::{High, Low, LowMedium, Medium};
    let rows: [(&[Risk], Risk, &[&str]); 12] = [
        (&[], Low, &[]),
        (&[], LowMedium, &["Alert.Raised"]),
        (&[], High, &["Alert.Raised"]),
        (&[LowMedium], LowMedium, &[]),
        (&[LowMedium], Medium, &["Alert.Escalated"]),
        (&[LowMedium], High, &["Alert.Escalated"]),
        (&[LowMedium], Low, &["Alert.Cleared"]),
        (&[High], Medium, &["Alert.Eased"]),
        (&[High, Medium], High, &["Alert.Escalated"]),
        (&[High, Medium], Low, &["Alert.Cleared"]),
        (&[High, Low], Low, &[]),
        (&[High, Low], Medium, &["Alert.Raised"]),
    ];
    for (before, now, events) in rows {
        check(&assessed(before), &assess(flag(now)), Ok(events));
    }
}

#[test]
fn a_flag_tells_what_its_score_leaves_out() {
    let of = |code: &str| json!({"system": "urn:nexushealth:news2-undecided", "code": code});
    let flag = flag(Risk::Medium);
    assert_eq!(undecided_of(&flag), []);
    let mut code = flag.get("code").unwrap().clone();
    code["coding"].as_array_mut().unwrap().extend([of("blood-pressure"), of("nonsense"), of("pulse")]);
    assert_eq!(undecided_of(&flag.with("code", code)), [Parameter::BloodPressure, Parameter::Pulse]);
    assert!(Parameter::ALL.iter().all(|it| Parameter::parse(it.as_str()) == Some(*it)));
}

#[test]
fn it_lasts_from_when_it_was_raised() {
    let later = |risk, period| assess(flag(risk).with("period", period));
    let raised = assessed(&[Risk::Medium]);
    let escalated = testing::after::<Alert>(&raised, &later(Risk::High, json!({"start": "2026-11-24T07:30:00Z"})));
    let start =
        |events: &[AlertEvent]| given::<Alert>(events).resource().unwrap().text_at("/period/start").unwrap().to_owned();
    assert_eq!(start(&escalated), "2026-11-24T07:00:00Z");
    let over = json!({"start": "2026-11-24T07:45:00Z", "end": "2026-11-24T07:45:00Z"});
    let cleared = testing::after::<Alert>(&escalated, &later(Risk::Low, over));
    assert_eq!(start(&cleared), "2026-11-24T07:00:00Z");
    let again = testing::after::<Alert>(&cleared, &later(Risk::Medium, json!({"start": "2026-11-24T07:50:00Z"})));
    assert_eq!(start(&again), "2026-11-24T07:50:00Z");
}

#[test]
fn form() {
    for element in ["status", "code", "subject", "period", "encounter"] {
        check(&[], &assess(flag(Risk::High).without(element)), Err("required-element-missing"));
    }
    check(&[], &assess(flag(Risk::High).with("status", json!("entered-in-error"))), Err("unknown-code"));
    check(&[], &assess(flag(Risk::Low).with("status", json!("active"))), Err("unknown-code"));
    let other = json!({"coding": [{"system": "http://snomed.info/sct", "code": "1"}]});
    check(&[], &assess(flag(Risk::High).with("code", other)), Err("unknown-code"));
    check(&[], &assess(flag(Risk::High).with("colour", json!("red"))), Err("unknown-element"));
    let backwards = json!({"start": "2026-11-24T07:00:00Z", "end": "2026-11-24T06:00:00Z"});
    check(&[], &assess(flag(Risk::Low).with("period", backwards)), Err("end-before-start"));
    let task = testing::resource(json!({"resourceType": "Basic", "code": {"text": "x"}}));
    check(&[], &assess(task), Err("wrong-resource-type"));
}

#[test]
fn it_tells_its_risk_and_its_score() {
    assert_eq!((risk_of(&flag(Risk::High)), score_of(&flag(Risk::High))), (Some(Risk::High), Some(7)));
    assert_eq!((risk_of(&flag(Risk::Low)), score_of(&flag(Risk::Low).without("code"))), (None, None));
}

#[test]
fn it_stays_with_its_stay_and_on_record() {
    let other = json!({"reference": "Encounter/0696ac49-3128-87d3-7344-04510aa4f325"});
    check(&assessed(&[Risk::High]), &assess(flag(Risk::Low).with("encounter", other)), Err("alert-of-other-encounter"));
    check(&assessed(&[Risk::High]), &decided(AlertCommand::Retract), Err("permanent"));
    let nobody = Issued { patient: PatientFacts::default(), ..assess(flag(Risk::High)) };
    check(&[], &nobody, Err("unknown-patient"));
    let replaced = PatientFacts { replaced: true, ..PatientFacts::default() };
    check(&[], &about(assess(flag(Risk::High)), replaced.clone()), Err("patient-replaced"));
    let told = history(AlertCommand::Assess { resource: flag(Risk::High) });
    check_notes::<Alert>(&[], &about(told, replaced), &["patient-replaced"]);
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    let read = read_fixtures::<Alert>("alert");
    assert_eq!(read, ["Alert.Cleared 1.0", "Alert.Eased 1.0", "Alert.Escalated 1.0", "Alert.Raised 1.0"]);
}

proptest! {
    #[test]
    fn any_accepted_history_folds(risks in prop::collection::vec(prop::sample::select(Risk::ALL.to_vec()), 1..20)) {
        let commands: Vec<_> = risks.iter().map(|risk| assess(flag(*risk))).collect();
        fold_all::<Alert>(&commands, |state| assert_eq!(state.risk(), state.resource().and_then(risk_of)));
        let last = *risks.last().unwrap();
        let stands = given::<Alert>(&assessed(&risks)).risk();
        prop_assert_eq!(stands, Some(last).filter(|risk| *risk > Risk::Low));
    }
}
