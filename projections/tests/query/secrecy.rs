//! The read database as stolen files yields no identity.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use nexus_domain::fhir::{Resource, clinical_time};
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

/// The days on which something happened: the times of a clinical record are no secret (ADR 4), and stand there as they were
/// stated.
fn clinical_days(resources: &[Value]) -> BTreeSet<String> {
    let of_patients = |resource: &&Value| resource["resourceType"] != "Patient";
    let parsed = resources.iter().filter(of_patients).filter_map(|json| Resource::parse(json.clone()).ok());
    let times = parsed.filter_map(|resource| clinical_time(&resource));
    times.flat_map(|when| [when.start().map(day), when.end().map(day)]).flatten().collect()
}

fn day(text: &str) -> String {
    text.chars().take(10).collect()
}

/// Every byte of every relation of the database, as it lies on disk, but for the case of its letters.
async fn files(world: &World) -> Vec<(String, Vec<u8>)> {
    sqlx::query("checkpoint").execute(&world.read).await.unwrap();
    let mut files: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "select oid::regclass::text, pg_read_binary_file(pg_relation_filepath(oid)) from pg_class
         where relkind in ('r', 'i', 't') and relnamespace::regnamespace::text not like 'pg\\_c%'
             and relnamespace::regnamespace::text <> 'information_schema'",
    )
    .fetch_all(&world.read)
    .await
    .unwrap();
    files.iter_mut().for_each(|(_, bytes)| bytes.make_ascii_lowercase());
    files
}

fn holds(file: &[u8], secret: &str) -> bool {
    memchr::memmem::find(file, secret.to_ascii_lowercase().as_bytes()).is_some()
}

/// Every value of every column of the read models that is not sealed, as text.
async fn values(world: &World) -> Vec<(String, String)> {
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "select table_schema::text, table_name::text, column_name::text
         from information_schema.columns join information_schema.tables using (table_schema, table_name)
         where table_type = 'BASE TABLE' and table_schema like '%\\_v%' and data_type <> 'bytea'",
    )
    .fetch_all(&world.read)
    .await
    .unwrap();
    let mut values = Vec::new();
    let mut utc = world.read.acquire().await.unwrap();
    sqlx::query("set time zone 'UTC'").execute(&mut *utc).await.unwrap();
    for (schema, table, column) in columns {
        let statement = format!("select distinct {column}::text from {schema}.{table} where {column} is not null");
        let found: Vec<String> = sqlx::query_scalar(&statement).fetch_all(&mut *utc).await.unwrap();
        values.extend(found.into_iter().map(|value| (format!("{schema}.{table}.{column}"), value)));
    }
    values
}

/// Whether a value, whatever its column's type, tells this day: as a date, or as a number that programs keep dates in.
fn tells(value: &str, day: NaiveDate) -> bool {
    let midnight = day.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp();
    let numbers = [
        day.format("%Y%m%d").to_string(),
        (midnight / 86_400).to_string(),
        midnight.to_string(),
        (midnight * 1_000).to_string(),
        (midnight * 1_000_000).to_string(),
    ];
    let mut words = value.split(|letter: char| !letter.is_ascii_digit() && letter != '-');
    value.contains(&day.format("%Y-%m-%d").to_string()) || words.any(|word| numbers.iter().any(|it| it == word))
}

/// Days are not only text: a clinical time that is really a birth date would pass any search for words.
#[tokio::test]
async fn no_column_tells_the_day_of_a_birth_or_a_death() {
    let (born, died) = (NaiveDate::from_ymd_opt(1907, 7, 30).unwrap(), NaiveDate::from_ymd_opt(1988, 2, 17).unwrap());
    for form in ["1907-07-30", "1907-07-30 00:00:00+00", "{19070730}", "-1970006400", "-22801"] {
        assert!(tells(form, born), "{form}");
    }
    assert!(!tells("1907", born) && !tells("1907-07-31 00:00:00+00", born));

    let world = World::new().await;
    let id = Uuid::new_v4();
    let mut resource = patient(id, "Cormier", "Chi", &born.to_string());
    world.record([resource.clone()]).await;
    resource["deceasedDateTime"] = json!(format!("{died}T10:00:00Z"));
    world.apply(&[world.event("Died", resource, json!({"died_at": format!("{died}T10:00:00Z")})).await]).await;
    // A relative's day of birth stands in a record of the patient.
    world
        .record([json!({"resourceType": "RelatedPerson", "id": Uuid::new_v4(), "birthDate": born.to_string(),
            "patient": reference("Patient", id)})])
        .await;
    let values = values(&world).await;
    assert!(values.iter().any(|(place, _)| place == "timeline_v5.entries.occurred_at"), "{values:?}");
    // The population counts by year, under a name that leads back to nobody.
    assert!(values.contains(&("population_v3.members.birth_year".to_owned(), "1907".to_owned())), "{values:?}");
    let telling: Vec<_> = values.iter().filter(|(_, value)| tells(value, born) || tells(value, died)).collect();
    assert!(telling.is_empty(), "{telling:?}");
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
    // Who was measured or vaccinated at birth has that day among the times of the record, and nothing says that it is a birth.
    let days = clinical_days(&resources);
    let before = secrets.len();
    secrets.retain(|secret| !days.contains(secret));
    assert!(before - secrets.len() <= 2, "{before} secrets, {} of them are days of the record", before - secrets.len());
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
