//! What could not be applied, as operators see it.

use axum::http::StatusCode;
use nexus_auth::Role;
use serde_json::json;
use uuid::Uuid;

use crate::world::World;

/// Parks events of subjects, one after the other; each has two that wait behind it.
async fn park(world: &World, subjects: &[Uuid]) {
    for (index, subject) in subjects.iter().enumerate() {
        for position in 0..3 {
            let (reason, causes) = match position {
                0 => ("database.23514 entries", vec!["the database refused a statement", "SQLSTATE 23514"]),
                _ => ("behind", vec![]),
            };
            sqlx::query(
                "insert into projection.parked (read_model, version, partition, position, subject, aggregate_type,
                     aggregate_id, sequence, event_type, event_version, key_id, recorded_at, sealed, reason, attempts,
                     causes, parked_at)
                 values ('timeline', 4, 3, $1, $2, 'Condition', $2, 1, 'Condition.Recorded', '2.0', $2, now(), '', $3, 5,
                     $4, '2026-11-24T10:00:00Z'::timestamptz + make_interval(mins => $5))",
            )
            .bind(i64::try_from(index * 3 + position).unwrap() + 1)
            .bind(subject)
            .bind(reason)
            .bind(causes)
            .bind(i32::try_from(index).unwrap())
            .execute(&world.read)
            .await
            .unwrap();
        }
    }
}

#[tokio::test]
async fn operators_see_what_is_parked_and_why() {
    let world = World::new().await;
    assert!(world.get(Role::Operator, "/v1/parked").await.items().is_empty());
    let subjects: Vec<_> = (0..5).map(|_| Uuid::new_v4()).collect();
    park(&world, &subjects).await;
    let items = world.get(Role::Operator, "/v1/parked").await.items();
    assert_eq!(
        items[0],
        json!({
            "readModel": "timeline", "version": 4, "subject": subjects[0], "partition": 3, "position": 1,
            "reason": "database.23514 entries",
            "causes": ["the database refused a statement", "SQLSTATE 23514"],
            "attempts": 5, "waiting": 3, "since": "2026-11-24T10:00:00Z",
        })
    );
    for limit in 1..=5 {
        let paged = world.all_pages(Role::Operator, "/v1/parked?read_model=timeline", limit).await;
        assert_eq!(paged, items, "in pages of {limit}");
    }
    assert!(world.get(Role::Operator, "/v1/parked?read_model=patient_chart").await.items().is_empty());
    let misspelt = world.get(Role::Operator, "/v1/parked?read_model=timelime").await;
    assert_eq!((misspelt.status, misspelt.problem().as_str()), (StatusCode::BAD_REQUEST, "invalid-parameter"));
    assert_eq!(world.get(Role::Nurse, "/v1/parked").await.status, StatusCode::FORBIDDEN);
}
