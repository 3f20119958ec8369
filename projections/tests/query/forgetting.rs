//! An erased patient is gone at once for readers, and from every table once the engine says so.

use axum::http::StatusCode;
use nexus_auth::Role;
use nexus_projections::{read_models, schema_of};
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

use crate::chart::condition;
use crate::world::{World, patient, reference};

async fn world_of(erased: Uuid, other: Uuid) -> World {
    let world = World::new().await;
    for id in [erased, other] {
        let ward = json!([{"location": reference("Location", Uuid::nil())}]);
        let doctor = json!([{"actor": reference("Practitioner", Uuid::nil())}, {"actor": reference("Patient", id)}]);
        let about = |mut resource: serde_json::Value| {
            resource["id"] = json!(Uuid::new_v4());
            resource["subject"] = reference("Patient", id);
            resource
        };
        world
            .record([
                patient(id, "Cormier", "Chi", "1959-07-30"),
                condition(Uuid::new_v4(), id, "1", "active", "2020-01-01"),
                about(json!({"resourceType": "Encounter", "status": "in-progress", "location": ward})),
                about(json!({"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "x"}]},
                    "valueQuantity": {"value": 1}})),
                about(json!({"resourceType": "Appointment", "status": "booked", "start": "2026-11-25T09:00:00Z",
                    "participant": doctor})),
            ])
            .await;
    }
    world
}

#[tokio::test]
async fn an_erased_patient_is_served_no_more() {
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    let world = world_of(id, other).await;
    let paths = |id: Uuid| {
        [
            format!("/v1/patients/{id}"),
            format!("/v1/patients/{id}/chart"),
            format!("/v1/patients/{id}/timeline"),
            format!("/v1/patients/{id}/vital-signs"),
            format!("/fhir/Patient/{id}"),
        ]
    };
    sqlx::query("update subject_keys set state = 'erased', wrapped = null where subject = $1")
        .bind(id)
        .execute(&world.keys)
        .await
        .unwrap();
    world.keyring.forget(id);
    for path in paths(id) {
        assert_eq!(world.get(Role::Physician, &path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in paths(other) {
        assert_eq!(world.get(Role::Physician, &path).await.status, StatusCode::OK, "{path}");
    }
    let lists = [
        "/v1/patients?name=cormier".to_owned(),
        format!("/v1/wards/{}/census", Uuid::nil()),
        format!("/v1/practitioners/{}/appointments?date=2026-11-25", Uuid::nil()),
    ];
    for path in lists {
        assert_eq!(world.get(Role::Physician, &path).await.items().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn who_may_be_erased_is_not_served_while_nobody_can_tell() {
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    let world = world_of(id, other).await;
    world.keys.close().await;
    world.keyring.forget(id);
    for part in ["chart", "timeline", "vital-signs"] {
        let asked = world.get(Role::Physician, &format!("/v1/patients/{id}/{part}")).await;
        assert_eq!((asked.status, asked.problem().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable"));
        // A key at hand goes on serving.
        let known = world.get(Role::Physician, &format!("/v1/patients/{other}/{part}")).await;
        assert_eq!(known.status, StatusCode::OK, "{part}");
    }
}

#[tokio::test]
async fn forgetting_leaves_no_row() {
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    let world = world_of(id, other).await;
    let both = count(&world).await;
    for model in read_models() {
        let mut tx = world.read.begin().await.unwrap();
        let path = format!("set local search_path = {}; set local role nexus_projector", schema_of(model.as_ref()));
        tx.execute(path.as_str()).await.unwrap();
        model.forget(&mut tx, id, &world.keyring).await.unwrap();
        model.forget(&mut tx, id, &world.keyring).await.unwrap();
        tx.commit().await.unwrap();
    }
    for ((table, before), (_, after)) in both.iter().zip(count(&world).await) {
        assert_eq!(*before, after * 2, "{table}");
    }
    assert!(both.len() >= 15, "{both:?}");
}

/// The rows of every table that has any.
async fn count(world: &World) -> Vec<(String, i64)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname ~ '_v[0-9]+$' order by 1",
    )
    .fetch_all(&world.read)
    .await
    .unwrap();
    let mut counts = Vec::new();
    for table in tables {
        let count: i64 =
            sqlx::query_scalar(&format!("select count(*) from {table}")).fetch_one(&world.read).await.unwrap();
        if count > 0 {
            counts.push((table, count));
        }
    }
    counts
}
