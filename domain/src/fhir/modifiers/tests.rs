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
