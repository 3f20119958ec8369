//! Who is on which ward.

use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

fn encounter(id: Uuid, patient: Uuid, status: &str, locations: Value) -> Value {
    json!({
        "resourceType": "Encounter",
        "id": id,
        "status": status,
        "class": {"code": "IMP"},
        "subject": reference("Patient", patient),
        "reasonCode": [{"text": "Pneumonia"}],
        "period": {"start": "2026-11-24T08:00:00Z"},
        "location": locations,
    })
}

fn at(location: Uuid, start: &str, end: Option<&str>) -> Value {
    let mut item = json!({"location": reference("Location", location), "period": {"start": start}});
    if let Some(end) = end {
        item["status"] = json!("completed");
        item["period"]["end"] = json!(end);
    }
    item
}

async fn ward(world: &World, location: Uuid) -> Vec<Value> {
    world.get(Role::Nurse, &format!("/v1/wards/{location}/census")).await.items()
}

async fn counts(world: &World) -> Vec<(Value, Value, i64)> {
    let items = world.get(Role::Nurse, "/v1/census").await.items();
    items.into_iter().map(|it| (it["location"].clone(), it["name"].clone(), it["patients"].as_i64().unwrap())).collect()
}

#[tokio::test]
async fn a_patient_is_on_one_ward_from_start_over_transfer_to_finish() {
    let world = World::new().await;
    let (id, stay) = (Uuid::new_v4(), Uuid::new_v4());
    let (east, west) = (Uuid::new_v4(), Uuid::new_v4());
    world
        .record([
            patient(id, "Cormier", "Chi", "1959-07-30"),
            json!({"resourceType": "Location", "id": east, "name": "Ward East"}),
            json!({"resourceType": "Location", "id": west, "name": "Ward West"}),
        ])
        .await;
    let start = encounter(stay, id, "in-progress", json!([at(east, "2026-11-24T08:00:00Z", None)]));
    let started = world.event("Started", start, json!({"notes": []})).await;
    world.apply(std::slice::from_ref(&started)).await;
    let here = ward(&world, east).await;
    assert_eq!(here.len(), 1);
    assert_eq!((&here[0]["patient"], &here[0]["encounter"]), (&json!(id), &json!(stay)));
    assert_eq!(here[0]["person"]["name"][0]["family"], "Cormier");
    assert_eq!((&here[0]["reason"], &here[0]["class"]), (&json!("Pneumonia"), &json!("IMP")));
    assert_eq!(counts(&world).await, [(json!(east), json!("Ward East"), 1)]);

    let moved =
        json!([at(east, "2026-11-24T08:00:00Z", Some("2026-11-24T09:00:00Z")), at(west, "2026-11-24T09:00:00Z", None)]);
    let moved = encounter(stay, id, "in-progress", moved);
    let more = json!({"location": west, "at": "2026-11-24T09:00:00Z"});
    world.apply(&[world.event("Transferred", moved, more).await]).await;
    assert!(ward(&world, east).await.is_empty());
    assert_eq!(ward(&world, west).await[0]["locatedAt"], "2026-11-24T09:00:00Z");
    // The start again does not move the patient back.
    world.apply(&[started]).await;
    assert_eq!(counts(&world).await, [(json!(west), json!("Ward West"), 1)]);

    let gone = encounter(stay, id, "finished", json!([at(west, "2026-11-24T09:00:00Z", Some("2026-11-24T10:00:00Z"))]));
    let more = json!({"at": "2026-11-24T10:00:00Z", "disposition": {"system": "x", "code": "home", "display": null}});
    world.apply(&[world.event("Finished", gone, more).await]).await;
    assert!(ward(&world, west).await.is_empty());
    assert!(counts(&world).await.is_empty());
}

#[tokio::test]
async fn only_those_present_count_and_those_nowhere_are_told() {
    let world = World::new().await;
    let east = Uuid::new_v4();
    let mut stays = Vec::new();
    for status in ["planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled"] {
        stays.push(encounter(Uuid::new_v4(), Uuid::new_v4(), status, json!([at(east, "2026-11-24T08:00:00Z", None)])));
    }
    stays.push(encounter(Uuid::new_v4(), Uuid::new_v4(), "in-progress", json!([])));
    world.record(stays).await;
    assert_eq!(counts(&world).await, [(json!(east), Value::Null, 4), (Value::Null, Value::Null, 1)]);
    for limit in [1, 2, 4] {
        let items = world.all_pages(Role::Nurse, &format!("/v1/wards/{east}/census"), limit).await;
        let mut encounters: Vec<_> = items.iter().map(|item| item["encounter"].to_string()).collect();
        encounters.dedup();
        assert_eq!(encounters.len(), 4);
    }
    assert_eq!(world.all_pages(Role::Nurse, "/v1/census", 1).await.len(), 2);
}
