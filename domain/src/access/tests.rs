//! Encounters, appointments, labels and consents as they come, against what they mean.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Asked, Care, ConsentRule, Marks, Ruling, UNKNOWN, codes, lenders, ruling, sensitivity};
use crate::fhir::Resource;

const DOCTOR: Uuid = Uuid::from_u128(0xd0c);
const OTHER: Uuid = Uuid::from_u128(0x0de);
const CLINIC: Uuid = Uuid::from_u128(0xc11);
const AUTHOR: Uuid = Uuid::from_u128(0xa07);

fn now() -> DateTime<Utc> {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn care(json: Value) -> Option<Care> {
    Care::of(&Resource::parse(json).unwrap())
}

fn encounter(status: &str, end: Option<&str>) -> Value {
    let mut encounter = json!({
        "resourceType": "Encounter", "status": status, "period": {"start": "2026-01-01T08:00:00Z"},
        "participant": [{"individual": {"reference": format!("Practitioner/{DOCTOR}")}}],
        "serviceProvider": {"reference": format!("Organization/{CLINIC}")}
    });
    if let Some(end) = end {
        encounter["period"]["end"] = json!(end);
    }
    encounter
}

#[test]
fn an_encounter_counts_while_it_is_open_and_for_a_while_after() {
    for status in ["planned", "arrived", "triaged", "in-progress", "onleave"] {
        let care = care(encounter(status, None)).unwrap();
        assert_eq!((care.practitioners.as_slice(), care.organizations.as_slice()), (&[DOCTOR][..], &[CLINIC][..]));
        assert!(care.counts_at(now()), "{status}");
    }
    for status in ["cancelled", "entered-in-error", "unknown"] {
        assert_eq!(care(encounter(status, None)), None, "{status}");
    }
    let finished = care(encounter("finished", Some("2026-10-26T12:00:00Z"))).unwrap();
    assert!(finished.counts_at(now()));
    assert!(!finished.counts_at(now() + TimeDelta::days(2)));
    assert_eq!(care(encounter("finished", None)), None, "without an end it might be long ago");
}

#[test]
fn an_appointment_counts_around_its_time() {
    let appointment = |status: &str| {
        json!({
            "resourceType": "Appointment", "status": status, "start": "2026-11-25T10:00:00Z", "end": "2026-11-25T11:00:00Z",
            "participant": [
                {"actor": {"reference": format!("Practitioner/{DOCTOR}")}, "status": "accepted"},
                {"actor": {"reference": format!("Practitioner/{OTHER}")}, "status": "declined"},
                {"actor": {"reference": format!("Patient/{OTHER}")}, "status": "accepted"}
            ]
        })
    };
    let booked = care(appointment("booked")).unwrap();
    assert_eq!(booked.practitioners, [DOCTOR]);
    assert!(booked.counts_at(now()), "22 hours before");
    assert!(!booked.counts_at(now() - TimeDelta::hours(3)));
    assert!(booked.counts_at(now() + TimeDelta::hours(46)));
    assert!(!booked.counts_at(now() + TimeDelta::hours(48)));
    for status in ["cancelled", "noshow", "entered-in-error"] {
        assert_eq!(care(appointment(status)), None, "{status}");
    }
}

#[test]
fn labels_say_how_sensitive_a_resource_is() {
    let level = |labels: Value| {
        sensitivity(&Resource::parse(json!({"resourceType": "Basic", "meta": {"security": labels}})).unwrap())
    };
    let confidentiality =
        |code: &str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": code});
    let act = |code: &str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code});
    assert_eq!(level(json!([])), 0);
    assert_eq!(level(json!([confidentiality("N")])), 0);
    assert_eq!(level(json!([confidentiality("R")])), 1);
    assert_eq!(level(json!([act("HIV"), confidentiality("N")])), 1);
    assert_eq!(level(json!([act("PSY"), confidentiality("V")])), 2);
    assert_eq!(level(json!([{"system": "elsewhere", "code": "V"}])), 0);
    assert_eq!(level(json!("V")), 0);
}

fn rule(provision: Value) -> ConsentRule {
    let consent = json!({
        "resourceType": "Consent", "status": "active", "provision": provision,
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "organization": [{"reference": format!("Organization/{AUTHOR}")}]
    });
    ConsentRule::of(&Resource::parse(consent).unwrap()).unwrap()
}

fn doctor() -> Asked<'static> {
    Asked {
        practitioner: Some(DOCTOR),
        organization: Some(CLINIC),
        purpose: "TREAT",
        resource_type: None,
        codes: &[],
        sensitivity: 0,
        now: now(),
    }
}

fn says(provision: Value, asked: Asked<'_>) -> Option<Ruling> {
    ruling(&[rule(provision)], &asked)
}

fn actor(kind: &str, id: Uuid) -> Value {
    json!([{"role": {"text": "x"}, "reference": {"reference": format!("{kind}/{id}")}}])
}

#[test]
fn whom_a_provision_names() {
    let (permit, deny) = (Some(Ruling::Permit), Some(Ruling::Deny));
    assert_eq!(says(json!({"type": "permit"}), doctor()), None, "a permit that names nobody lets nobody in");
    assert_eq!(says(json!({"type": "permit", "actor": actor("Practitioner", DOCTOR)}), doctor()), permit);
    assert_eq!(says(json!({"type": "permit", "actor": actor("Organization", CLINIC)}), doctor()), permit);
    assert_eq!(says(json!({"type": "permit", "actor": actor("Practitioner", OTHER)}), doctor()), None);
    assert_eq!(says(json!({"type": "deny", "actor": actor("Practitioner", DOCTOR)}), doctor()), deny);
    assert_eq!(says(json!({"type": "deny", "actor": actor("RelatedPerson", DOCTOR)}), doctor()), None);
    assert_eq!(says(json!({"type": "deny"}), doctor()), deny, "a denial that names nobody means everybody");
    let keeper = Asked { organization: Some(AUTHOR), ..doctor() };
    assert_eq!(says(json!({"type": "deny"}), keeper), None, "but whoever keeps it");
}

#[test]
fn when_and_what_for() {
    let deny = Some(Ruling::Deny);
    let in_time = |start: &str, end: &str| json!({"type": "deny", "period": {"start": start, "end": end}});
    assert_eq!(says(in_time("2026-01-01", "2026-11-24"), doctor()), deny);
    assert_eq!(says(in_time("2026-01-01", "2026-11-23"), doctor()), None);
    assert_eq!(says(in_time("2026-11-25", "2027"), doctor()), None);
    assert_eq!(says(in_time("2026-01-01", "soon"), doctor()), deny, "what can't be read does not weaken a denial");
    let purpose = |code: &str| json!({"type": "deny", "purpose": [{"code": code}]});
    assert_eq!(says(purpose("TREAT"), doctor()), deny);
    assert_eq!(says(purpose("HRESCH"), doctor()), None);
}

#[test]
fn what_it_is_about() {
    let deny = Some(Ruling::Deny);
    let coded = ["8867-4", "364075005"].map(String::from);
    let observation = Asked { resource_type: Some("Observation"), codes: &coded, ..doctor() };
    let class =
        json!({"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]});
    assert_eq!(says(class.clone(), observation), deny);
    assert_eq!(says(class.clone(), Asked { resource_type: Some("Condition"), ..doctor() }), None);
    assert_eq!(says(class, doctor()), None, "the record as a whole stays open");
    let code = json!({"type": "deny", "code": [{"coding": [{"code": "8867-4"}]}]});
    assert_eq!(says(code.clone(), observation), deny);
    assert_eq!(says(code.clone(), Asked { codes: &["1-8".into()], ..observation }), None);
    assert_eq!(says(code, doctor()), None, "the record as a whole stays open");
    let second = json!({"type": "deny", "code": [{"text": "x"}, {"coding": [{"code": "1-8"}, {"code": "364075005"}]}]});
    assert_eq!(says(second, observation), deny, "any coding of the one is among those of the other");
    let label = json!({"type": "deny", "securityLabel": [{"code": "HIV"}]});
    assert_eq!(says(label.clone(), Asked { sensitivity: 1, ..observation }), deny);
    assert_eq!(says(label, observation), None);
}

#[test]
fn exceptions_and_what_is_not_understood() {
    let (permit, deny) = (Some(Ruling::Permit), Some(Ruling::Deny));
    let all_but_one =
        json!({"type": "deny", "provision": [{"type": "permit", "actor": actor("Practitioner", DOCTOR)}]});
    assert_eq!(says(all_but_one.clone(), doctor()), permit);
    assert_eq!(says(all_but_one, Asked { practitioner: Some(OTHER), ..doctor() }), deny);
    let quarrel = json!({"type": "permit", "provision": [
        {"type": "permit", "actor": actor("Practitioner", DOCTOR)}, {"type": "deny", "actor": actor("Organization", CLINIC)}
    ]});
    assert_eq!(says(quarrel, doctor()), deny, "at the same depth a denial wins");
    let action = json!([{"coding": [{"code": "disclose"}]}]);
    assert_eq!(
        says(json!({"type": "permit", "action": action, "actor": actor("Practitioner", DOCTOR)}), doctor()),
        None
    );
    assert_eq!(says(json!({"type": "deny", "action": action}), doctor()), deny);
    let both = [rule(json!({"type": "permit", "actor": actor("Practitioner", DOCTOR)})), rule(json!({"type": "deny"}))];
    assert_eq!(ruling(&both, &doctor()), deny, "of several consents a denial wins");
}

#[test]
fn only_active_consents_count_and_research_is_apart() {
    let consent = |status: &str, scope: &str| {
        let json = json!({
            "resourceType": "Consent", "status": status, "scope": {"coding": [{"code": scope}]}, "provision": {"type": "deny"}
        });
        ConsentRule::of(&Resource::parse(json).unwrap())
    };
    for status in ["draft", "proposed", "rejected", "inactive", "entered-in-error"] {
        assert_eq!(consent(status, "patient-privacy"), None, "{status}");
    }
    let research = consent("active", "research").unwrap();
    assert!(research.excludes_from_research());
    assert_eq!(ruling(&[research], &doctor()), None);
    let rules = [consent("active", "patient-privacy").unwrap()];
    let kept: Vec<ConsentRule> = serde_json::from_value(serde_json::to_value(&rules).unwrap()).unwrap();
    assert_eq!(kept, rules, "a row gives back what was kept in it");
}

#[test]
fn a_resource_is_meant_by_each_of_its_codes() {
    let concept =
        |codes: &[&str]| json!({"coding": codes.iter().map(|code| json!({"code": code})).collect::<Vec<_>>()});
    let codes_of = |json: Value| codes(&Resource::parse(json).unwrap());
    let pressure = json!({
        "resourceType": "Observation", "code": concept(&["85354-9", "75367002"]), "category": [concept(&["vital-signs"])],
        "component": [
            {"code": concept(&["8480-6", "271649006"]), "valueCodeableConcept": concept(&["high"])},
            {"code": concept(&["8462-4", "75367002"])}
        ]
    });
    let all = ["85354-9", "75367002", "vital-signs", "8480-6", "271649006", "high", "8462-4"];
    assert_eq!(codes_of(pressure), all, "each once");
    assert_eq!(
        codes_of(json!({"resourceType": "Immunization", "vaccineCode": concept(&["207", "208"])})),
        ["207", "208"]
    );
    let encounter = json!({
        "resourceType": "Encounter", "class": {"code": "AMB"}, "type": [concept(&["1"]), concept(&["2"])],
        "reasonCode": [concept(&["3"])]
    });
    assert_eq!(codes_of(encounter), ["1", "2", "3", "AMB"]);
    let imaging =
        json!({"resourceType": "ImagingStudy", "series": [{"modality": {"code": "CT"}}, {"modality": {"code": "MR"}}]});
    assert_eq!(codes_of(imaging), ["CT", "MR"]);
    assert_eq!(codes_of(json!({"resourceType": "Basic", "code": "no concept", "component": 3})), [""; 0]);
}

#[test]
fn a_resource_is_meant_by_what_it_contains_and_borrows() {
    let parse = |json: Value| Resource::parse(json).unwrap();
    let inner = json!({"resourceType": "Medication", "id": "m", "code": {"coding": [{"code": "J05AR"}]},
        "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]},
        "ingredient": [{"itemCodeableConcept": {"coding": [{"code": "J05AF06"}]}}]});
    let order = |more: Value| {
        let mut json = json!({"resourceType": "MedicationRequest", "status": "active"});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse(json)
    };
    let contains = order(json!({"contained": [inner], "medicationReference": {"reference": "#m"}}));
    assert_eq!((codes(&contains), sensitivity(&contains)), (vec!["J05AR".to_owned(), "J05AF06".to_owned()], 1));
    assert!(lenders(&contains).is_empty());
    let named = order(json!({"medicationReference": {"reference": format!("Medication/{OTHER}/_history/2")},
        "reasonReference": [{"reference": format!("Condition/{DOCTOR}")}, {"reference": format!("Observation/{DOCTOR}")}]}));
    assert_eq!(lenders(&named), [("Condition", DOCTOR), ("Medication", OTHER)]);
    assert_eq!(codes(&named), [""; 0]);
    let elsewhere =
        [json!({"reference": "https://pharmacy.example/Medication/7"}), json!({"identifier": {"value": "7"}})];
    for reference in elsewhere {
        assert_eq!(codes(&order(json!({"medicationReference": reference}))), [UNKNOWN]);
    }
    assert_eq!(codes(&order(json!({"medicationReference": {"display": "Senna"}}))), [""; 0], "words have no code");
}

#[test]
fn what_is_out_of_sight_may_be_what_is_denied_and_is_never_what_is_permitted() {
    let unknown = Marks::unknown();
    let asked = Asked { resource_type: Some("MedicationRequest"), codes: &unknown.codes, sensitivity: 2, ..doctor() };
    let code = json!([{"coding": [{"code": "J05AR"}]}]);
    assert_eq!(says(json!({"type": "deny", "code": code}), asked), Some(Ruling::Deny));
    let permit = json!({"type": "permit", "code": code, "actor": actor("Practitioner", DOCTOR)});
    assert_eq!(says(permit, asked), None);
}

#[test]
fn what_is_not_understood_opens_nothing_and_keeps_denying() {
    let strange = json!([{"url": "urn:example:unless", "valueBoolean": true}]);
    let mut json = json!({"resourceType": "Consent", "status": "active", "modifierExtension": strange,
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "provision": {"type": "permit", "actor": actor("Practitioner", DOCTOR)}});
    let rule = |json: &Value| ConsentRule::of(&Resource::parse(json.clone()).unwrap()).unwrap();
    assert_eq!(ruling(&[rule(&json)], &doctor()), None);
    json["provision"]["type"] = json!("deny");
    assert_eq!(ruling(&[rule(&json)], &doctor()), Some(Ruling::Deny));
    let visit = json!({"resourceType": "Encounter", "status": "in-progress", "modifierExtension": strange});
    assert_eq!(Care::of(&Resource::parse(visit).unwrap()), None);
}
