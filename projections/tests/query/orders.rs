//! Orders, as the fold of a reactor writes them.

use chrono::{TimeDelta, Utc};
use serde_json::json;
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
