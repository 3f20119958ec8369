use serde_json::{Value, json};

use super::*;

fn resource(json: Value) -> Resource {
    Resource::parse(json).unwrap()
}

#[test]
fn what_no_one_knows_is_not_understood_wherever_it_stands() {
    let strange = json!([{"url": "urn:example:only-if-it-rains", "valueBoolean": true}]);
    let not = [
        json!({"resourceType": "Observation", "modifierExtension": strange}),
        json!({"resourceType": "Observation", "implicitRules": "urn:example:rules"}),
        json!({"resourceType": "Observation", "component": [{"code": {"text": "x"}}, {"modifierExtension": strange}]}),
        json!({"resourceType": "MedicationRequest", "dosageInstruction": [{"timing": {"modifierExtension": strange}}]}),
        json!({"resourceType": "MedicationRequest", "contained": [{"resourceType": "Medication", "implicitRules": "urn:x"}]}),
    ];
    for json in not {
        assert_eq!(understood(&resource(json.clone())), Understanding::NotUnderstood, "{json}");
        assert_eq!(stance(&resource(json)), Stance::NotUnderstood);
    }
    let plain =
        json!({"resourceType": "Basic", "extension": strange, "code": {"text": "modifierExtension, implicitRules"}});
    assert_eq!(understood(&resource(plain)), Understanding::Understood);
}

#[test]
fn a_resource_says_how_it_is_to_be_taken() {
    let verified = |system: &str, code: &str| {
        let other = json!({"system": "urn:example:local", "code": "confirmed"});
        let own = json!({"system": format!("{}{system}", "http://terminology.hl7.org/CodeSystem/"), "code": code});
        json!({"coding": [other, own]})
    };
    let condition = |code: &str| {
        let active = verified("condition-clinical", "active");
        let verified = verified("condition-ver-status", code);
        json!({"resourceType": "Condition", "clinicalStatus": active, "verificationStatus": verified})
    };
    let allergy = |code: &str| {
        json!({"resourceType": "AllergyIntolerance",
            "verificationStatus": verified("allergyintolerance-verification", code)})
    };
    let order = |name: &str, value: Value| {
        let json = json!({"resourceType": "MedicationRequest", "status": "active", "intent": "order"});
        resource(json).with(name, value).into_json()
    };
    let rows = [
        (condition("confirmed"), Stance::Fact, Some("active")),
        (condition("differential"), Stance::Doubtful("differential"), Some("active")),
        (condition("refuted"), Stance::Denied("refuted"), Some("refuted")),
        (condition("entered-in-error"), Stance::Error, Some("entered-in-error")),
        (allergy("unconfirmed"), Stance::Doubtful("unconfirmed"), None),
        (allergy("refuted"), Stance::Denied("refuted"), Some("refuted")),
        (order("intent", json!("filler-order")), Stance::Fact, Some("active")),
        (order("intent", json!("plan")), Stance::Meant("plan"), Some("plan")),
        (order("doNotPerform", json!(true)), Stance::Denied("not-to-be-given"), Some("not-to-be-given")),
        (order("doNotPerform", json!(false)), Stance::Fact, Some("active")),
        (order("status", json!("on-hold")), Stance::Fact, Some("on-hold")),
        (json!({"resourceType": "CarePlan", "intent": "plan", "status": "active"}), Stance::Fact, Some("active")),
        (json!({"resourceType": "Procedure", "status": "not-done"}), Stance::Denied("not-done"), Some("not-done")),
        (
            json!({"resourceType": "Goal", "lifecycleStatus": "entered-in-error"}),
            Stance::Error,
            Some("entered-in-error"),
        ),
        (
            json!({"resourceType": "AdverseEvent", "actuality": "potential"}),
            Stance::Meant("potential"),
            Some("potential"),
        ),
        (
            json!({"resourceType": "Immunization", "status": "completed", "isSubpotent": true}),
            Stance::Doubtful("subpotent"),
            Some("completed"),
        ),
    ];
    for (json, expected, shown) in rows {
        let resource = resource(json.clone());
        assert_eq!((stance(&resource), status(&resource)), (expected, shown), "{json}");
    }
}

#[test]
fn every_modifier_element_of_r4_is_decided_about_and_nothing_else() {
    let elements: Vec<String> = decisions::elements().collect();
    assert!(elements.len() > 900, "the whole of R4: {}", elements.len());
    let undecided: Vec<_> = elements.iter().filter(|element| decisions::decision(element).is_none()).collect();
    assert!(undecided.is_empty(), "nobody decided about {undecided:?}");
    for row in decisions::ROWS {
        let meant =
            elements.iter().filter(|element| decisions::decision(element).is_some_and(|it| std::ptr::eq(it, row)));
        assert!(meant.count() > 0, "{:?} decides about nothing", row.elements);
        for exact in row.elements.iter().filter(|pattern| !pattern.contains('*')) {
            assert!(elements.iter().any(|element| element == exact), "{exact} is no modifier element of R4");
        }
    }
}

#[test]
fn nothing_of_r4_is_missing_from_the_list() {
    for resource_type in crate::fhir::resource_types::RESOURCE_TYPES {
        assert!(decisions::R4.lines().any(|line| line.starts_with(&format!("{resource_type} "))), "{resource_type}");
    }
}

#[test]
fn the_page_says_what_was_decided() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/modifiers.md");
    if std::env::var_os("NEXUS_UPDATE").is_some() {
        std::fs::write(&path, decisions::page()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), decisions::page(), "run with NEXUS_UPDATE=1");
}
