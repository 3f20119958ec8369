//! However the log is cut into batches, and however often a batch is applied, the rows are the same.

use std::collections::BTreeMap;

use nexus_domain::fhir::is_directory_type;
use nexus_projections::engine::row_hashes;
use nexus_projections::{Event, read_models, schema_of};
use nexus_testkit::TestDatabase;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::sample;
use crate::world::World;

/// The sample, and what may happen afterwards to every fifth of its resources.
async fn history(world: &World) -> Vec<Event> {
    let mut events = Vec::new();
    let resources = sample::resources();
    for resource in &resources {
        events.push(world.recorded(resource.clone()).await);
    }
    for (index, resource) in resources.into_iter().enumerate().filter(|(index, _)| index % 5 == 0) {
        events.extend(afterwards(world, index, resource).await);
    }
    events
}

async fn afterwards(world: &World, index: usize, mut resource: Value) -> Vec<Event> {
    let notes = json!({"notes": [{"rule": "some-rule", "text": "A sentence."}]});
    let amended = match resource["resourceType"].as_str().unwrap() {
        "Patient" => "Updated",
        directory if is_directory_type(directory) => "Updated",
        _ => "Amended",
    };
    resource["language"] = json!("en");
    resource.as_object_mut().unwrap().shift_remove("component");
    let mut events = vec![world.event(amended, resource.clone(), notes).await];
    if index.is_multiple_of(2) && resource["resourceType"] == "Observation" {
        resource["status"] = json!("entered-in-error");
        events.push(world.event("EnteredInError", resource, json!({})).await);
    }
    events
}

async fn hashes(read: &PgPool) -> BTreeMap<String, (i64, String)> {
    let mut all = BTreeMap::new();
    for model in read_models() {
        let schema = schema_of(model.name(), model.version());
        for (table, hash) in row_hashes(read, &schema).await.unwrap() {
            all.insert(format!("{schema}.{table}"), hash);
        }
    }
    all
}

#[tokio::test]
async fn rows_depend_on_the_events_and_not_on_the_batches() {
    let world = World::new().await;
    let events = history(&world).await;
    let mut expected = None;
    for batch in [events.len(), 997, 64] {
        let database = TestDatabase::read().await;
        let read = database.pool().await;
        for chunk in events.chunks(batch) {
            for model in read_models() {
                world.apply_to(model.as_ref(), &read, chunk).await;
            }
        }
        let once = hashes(&read).await;
        assert!(
            once["vital_signs_v4.measurements"].0 > 100 && once["fhir_resources_v1.resources"].0 > 1_000,
            "{once:?}"
        );
        // All of it again, and the beginning once more: nothing moves.
        for chunk in events.chunks(batch).chain(events.chunks(batch).take(3)) {
            for model in read_models() {
                world.apply_to(model.as_ref(), &read, chunk).await;
            }
        }
        assert_eq!(hashes(&read).await, once, "applied twice in batches of {batch}");
        assert_eq!(&once, expected.get_or_insert_with(|| once.clone()), "in batches of {batch}");
        read.close().await;
    }
}
