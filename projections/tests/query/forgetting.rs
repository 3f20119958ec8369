//! An erased patient is gone at once for readers, and from every table once the engine says so.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use nexus_auth::Role;
use nexus_event_store::Erasure;
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
async fn an_erasure_has_a_signed_receipt() {
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    let world = world_of(id, other).await;
    let key_id = world.keyring.key(id).await.unwrap().id();
    let path = format!("/v1/patients/{id}/erasure");
    assert_eq!(
        world.get(Role::Auditor, &path).await.json(),
        json!({"state": "not-erased", "receipt": null, "jws": null})
    );
    let now = chrono::Utc::now();
    let erasure = Erasure {
        subject: id,
        key_id,
        event_id: Uuid::new_v4(),
        partition: 3,
        position: 1042,
        requested_by: Some("test-registrar".to_owned()),
        requested_at: Some(now),
        approved_by: Some("test-auditor".to_owned()),
        approved_at: Some(now),
        snapshots: 1,
        claims: 2,
    };
    world.keyring.erase(&erasure).await.unwrap();
    assert_eq!(world.get(Role::Registrar, &path).await.json()["state"], "underway");
    for model in read_models() {
        sqlx::query("insert into projection.forgotten values ($1, $2, $3, 3, 1042, 5, 0)")
            .bind(model.name())
            .bind(model.version())
            .bind(id)
            .execute(&world.read)
            .await
            .unwrap();
    }
    let answer = world.get(Role::Auditor, &path).await;
    let body = answer.json();
    assert_eq!(body["state"], "erased");
    let receipt = &body["receipt"];
    assert_eq!((&receipt["requestedBy"], &receipt["approvedBy"]), (&json!("test-registrar"), &json!("test-auditor")));
    assert_eq!((&receipt["position"], &receipt["log"]["claims"]), (&json!(1042), &json!(2)));
    assert_eq!(receipt["keys"][0]["fingerprint"].as_str().map(str::len), Some(64));
    assert_eq!(receipt["readModels"].as_array().map(Vec::len), Some(read_models().len()));
    assert_eq!(world.keyring.verify_receipt(body["jws"].as_str().unwrap()).as_ref(), Some(receipt));
    // Whoever has a receipt may check it without being known here.
    let keys = Request::get("/.well-known/nexus-receipt-keys.json").body(Body::empty()).unwrap();
    let keys = world.send(keys).await;
    assert_eq!((keys.status, keys.json()), (StatusCode::OK, world.keyring.receipt_keys()));

    // A record that somebody has changed gets no signature.
    let forge = "set session_replication_role = replica; update erasures set approved_by = 'nobody'";
    sqlx::raw_sql(forge).execute(&world.keys).await.unwrap();
    assert_eq!(world.get(Role::Auditor, &path).await.status, StatusCode::INTERNAL_SERVER_ERROR);
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
        let path = format!(
            "set local search_path = {}; set local role nexus_projector",
            schema_of(model.name(), model.version())
        );
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
