//! The read database as stolen files yields no identity.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::sample;
use crate::world::{World, patient, reference};

/// Everything by which the sample's patients could be known, and texts that only a person writes.
fn secrets(resources: &[Value]) -> BTreeSet<String> {
    let mut secrets = BTreeSet::new();
    for patient in resources.iter().filter(|resource| resource["resourceType"] == "Patient") {
        for name in patient["name"].as_array().unwrap() {
            secrets.insert(name["family"].as_str().unwrap().to_owned());
            secrets.extend(name["given"].as_array().unwrap().iter().map(|given| given.as_str().unwrap().to_owned()));
        }
        for identifier in patient["identifier"].as_array().unwrap() {
            secrets.insert(identifier["value"].as_str().unwrap().to_owned());
        }
        for address in patient["address"].as_array().unwrap() {
            secrets.insert(address["line"][0].as_str().unwrap().to_owned());
        }
        secrets.extend(
            patient["telecom"].as_array().into_iter().flatten().map(|it| it["value"].as_str().unwrap().to_owned()),
        );
        secrets.insert(patient["birthDate"].as_str().unwrap().to_owned());
        // Patient ids are opaque and stand everywhere; Synthea makes them the record number too.
        secrets.remove(patient["id"].as_str().unwrap());
    }
    secrets
}

/// Every byte of every relation of the database, as it lies on disk.
async fn files(world: &World) -> Vec<(String, Vec<u8>)> {
    sqlx::query("checkpoint").execute(&world.read).await.unwrap();
    sqlx::query_as(
        "select oid::regclass::text, pg_read_binary_file(pg_relation_filepath(oid)) from pg_class
         where relkind in ('r', 'i', 't') and relnamespace::regnamespace::text not like 'pg\\_c%'
             and relnamespace::regnamespace::text <> 'information_schema'",
    )
    .fetch_all(&world.read)
    .await
    .unwrap()
}

fn holds(file: &[u8], secret: &str) -> bool {
    file.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret.as_bytes()))
}

#[tokio::test]
async fn no_file_of_the_read_database_holds_an_identity() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let marker = "Quetzalcoatlus";
    let mut marked = patient(id, marker, &format!("{marker}given"), "1959-07-30");
    marked["address"][0]["line"][0] = json!("17 Quetzalcoatlus Street");
    let named = |resource: Value| {
        let mut resource = resource;
        resource["id"] = json!(Uuid::new_v4());
        resource["subject"] = json!({"reference": format!("Patient/{id}"), "display": marker});
        resource["text"] = json!({"status": "generated", "div": format!("<div>{marker}</div>")});
        resource
    };
    let here = json!([{"location": reference("Location", Uuid::new_v4())}]);
    let mut resources = sample::resources();
    resources.extend([
        marked,
        named(json!({"resourceType": "Condition", "code": {"text": marker}, "note": [{"text": marker}]})),
        named(json!({"resourceType": "Observation", "status": "final", "code": {"text": marker},
            "valueQuantity": {"value": 1, "unit": marker}, "note": [{"text": marker}]})),
        named(
            json!({"resourceType": "Encounter", "status": "in-progress", "class": {"code": "IMP", "display": marker},
            "reasonCode": [{"text": marker}], "location": here}),
        ),
        named(json!({"resourceType": "DocumentReference", "status": "current", "description": marker, "content": []})),
        named(json!({"resourceType": "Appointment", "status": "booked", "description": marker, "comment": marker,
            "participant": [{"actor": {"reference": format!("Patient/{id}"), "display": marker}}]})),
    ]);
    let mut secrets = secrets(&resources);
    secrets.insert(marker.to_owned());
    secrets.insert(format!("MRN-{id}"));
    // Numbers and words of a few letters are everywhere.
    secrets.retain(|secret| secret.len() >= 6);
    assert!(secrets.len() > 50, "there is something to look for");
    world.record(resources).await;

    let files = files(&world).await;
    assert!(files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 2_000_000, "there is something to look in");
    let mut found = Vec::new();
    for (name, bytes) in &files {
        found.extend(secrets.iter().filter(|secret| holds(bytes, secret)).map(|secret| format!("{secret} in {name}")));
    }
    assert!(found.is_empty(), "{found:?}");
    // The search itself works: what may be there is found.
    let codes: usize = files.iter().filter(|(_, bytes)| holds(bytes, "vital-signs") || holds(bytes, "8480-6")).count();
    assert!(codes > 0);
}
