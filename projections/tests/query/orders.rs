//! Orders, as the fold of a reactor writes them.

use chrono::{TimeDelta, Utc};
use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

/// A command-api whose clock is ahead holds no alert back: the next one, of a clock that is right, would overtake it.
#[tokio::test]
async fn an_alert_is_due_at_once_whatever_the_clock_said_that_recorded_its_cause() {
    let world = World::new().await;
    let (id, stay) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let encounter = json!({
        "resourceType": "Encounter", "id": stay, "status": "in-progress", "subject": reference("Patient", id),
        "class": {"code": "IMP"}, "period": {"start": Utc::now()}
    });
    let started = world.event("Started", encounter, json!({"notes": []})).await;
    let pulse = json!({
        "resourceType": "Observation", "id": Uuid::new_v4(), "status": "final", "subject": reference("Patient", id),
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": Utc::now(),
        "valueQuantity": {"value": 140, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    });
    let mut measured = world.recorded(pulse).await;
    measured.recorded_at = Utc::now() + TimeDelta::minutes(10);
    world.apply(&[started, measured]).await;
    let due: Vec<bool> = sqlx::query_scalar("select due_at <= now() and try_at <= now() from early_warning_v2.orders")
        .fetch_all(&world.read)
        .await
        .unwrap();
    assert_eq!(due, [true]);
}

fn measured(patient: Uuid, code: &str, unit: &str, value: f64) -> Value {
    json!({
        "resourceType": "Observation", "id": Uuid::new_v4(), "status": "final", "subject": reference("Patient", patient),
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "effectiveDateTime": "2026-11-24T09:59:00Z",
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    })
}

/// From what was recorded to what is ordered: nobody is alarmed or reassured by what is not the patient's own and of now.
#[tokio::test]
async fn orders_follow_from_what_is_known_of_the_patient_now() {
    let world = World::new().await;
    let (id, stay) = (Uuid::new_v4(), Uuid::new_v4());
    let encounter = json!({
        "resourceType": "Encounter", "id": stay, "status": "in-progress", "subject": reference("Patient", id),
        "class": {"code": "IMP"}, "period": {"start": "2026-11-24T08:00:00Z"}
    });
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    world.apply(&[world.event("Started", encounter, json!({"notes": []})).await]).await;
    let pulse = |value: f64, name: &str, with: Value| {
        let mut resource = measured(id, "8867-4", "/min", value);
        if name.starts_with("effective") || name == "issued" {
            resource.as_object_mut().unwrap().shift_remove("effectiveDateTime");
        }
        match name.strip_prefix("valueQuantity/") {
            Some(member) => resource["valueQuantity"][member] = with,
            None => resource[name] = with,
        }
        resource
    };
    let noise = |value: f64| {
        [
            pulse(value, "focus", json!([reference("RelatedPerson", Uuid::new_v4())])),
            pulse(value, "modifierExtension", json!([{"url": "urn:x", "valueBoolean": true}])),
            pulse(value, "effectiveDateTime", json!("2018-04-05T06:07:08Z")),
            pulse(value, "effectiveDateTime", json!("2026-11")),
            pulse(value, "effectiveTiming", json!({"code": {"text": "daily"}})),
            pulse(value, "issued", json!("2026-11-24T09:59:30Z")),
            pulse(value, "status", json!("unknown")),
        ]
    };
    let orders = async || {
        let bodies: Vec<Value> = sqlx::query_scalar("select body from early_warning_v2.orders order by position")
            .fetch_all(&world.read)
            .await
            .unwrap();
        bodies.iter().map(|body| (body["risk"].clone(), body["undecided"].clone())).collect::<Vec<_>>()
    };
    world.record_only(noise(150.0)).await;
    world.record_only([pulse(60.0, "valueQuantity/comparator", json!(">"))]).await;
    assert_eq!(orders().await, [], "nothing is raised");
    world.record_only([pulse(150.0, "valueQuantity/comparator", json!(">="))]).await;
    let others = json!(["respiration", "saturation", "blood-pressure", "temperature"]);
    assert_eq!(orders().await, [(json!("low-medium"), others.clone())], "3, however much more it is");
    world
        .record_only([
            measured(id, "9279-1", "/min", 16.0),
            measured(id, "2708-6", "%", 98.0),
            measured(id, "8480-6", "mm[Hg]", 120.0),
            measured(id, "8310-5", "Cel", 36.8),
        ])
        .await;
    world.record_only(noise(70.0)).await;
    world.record_only([pulse(200.0, "valueQuantity/comparator", json!("<"))]).await;
    assert_eq!(orders().await.len(), 1, "nothing is cleared");
    world.record_only([measured(id, "8867-4", "/min", 70.0)]).await;
    assert_eq!(orders().await[1..], [(json!("low"), json!([]))]);
}

#[tokio::test]
async fn an_alert_tells_what_its_score_leaves_out() {
    let world = World::new().await;
    let (id, flag) = (Uuid::new_v4(), Uuid::new_v4());
    let coded = |system: &str, code: &str| json!({"system": system, "code": code});
    let resource = json!({
        "resourceType": "Flag", "id": flag, "status": "active", "subject": reference("Patient", id),
        "code": {"coding": [
            coded("urn:nexushealth:early-warning-risk", "medium"), coded("urn:nexushealth:news2-score", "5"),
            coded("urn:nexushealth:news2-undecided", "pulse"), coded("urn:nexushealth:news2-undecided", "temperature"),
        ]},
        "encounter": reference("Encounter", Uuid::new_v4()), "period": {"start": "2026-11-24T09:59:00Z"}
    });
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    world.apply(&[world.event_of("Alert", "Raised", resource, json!({"notes": []})).await]).await;
    let alerts = world.get(Role::Nurse, &format!("/v1/patients/{id}/alerts")).await.items();
    assert_eq!((&alerts[0]["score"], &alerts[0]["undecided"]), (&json!(5), &json!(["pulse", "temperature"])));
}
