//! Batch bundles.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{
    NPI, World, bundle, create, create_unless, fhir_observation, fhir_patient, fresh, post_bundle, practitioner,
    statuses,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_a_batch_are_on_their_own() {
    let world = World::start().await;
    let service = world.service();
    let (patient, stranger) = (world.patient().await, Uuid::new_v4());
    let mut broken = fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}"));
    broken["effectiveDateTime"] = json!("yesterday");
    let entries = [
        create(fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}"))),
        create(broken),
        create(fhir_patient(stranger, &fresh("mrn"))),
        // Another entry of the batch is not there yet when this one is decided about.
        create(fhir_observation(Uuid::new_v4(), &format!("urn:uuid:{stranger}"))),
    ];
    let sent = bundle("batch", &entries);
    let answer = post_bundle(&service, &sent).await.expect(200);
    let refused = "422 Unprocessable Entity";
    assert_eq!(statuses(&answer), ["201 Created", refused, "201 Created", refused]);
    let body = answer.json();
    let issue = &body["entry"][1]["response"]["outcome"]["issue"][0];
    assert_eq!(issue["details"]["coding"][0]["code"], "bad-date");
    assert_eq!(issue["expression"][0], "Bundle.entry[1].resource.effectiveDateTime");
    assert_eq!(world.events().await, 3);

    // Sent again, it is.
    let again = post_bundle(&service, &sent).await.expect(200);
    assert_eq!(statuses(&again), ["200 OK", refused, "200 OK", "201 Created"]);
}

/// The size of a region's practitioners and hospitals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_registered_quickly_and_once() {
    let world = World::start().await;
    let service = world.service();
    let entries: Vec<Value> = (0..583)
        .map(|number| {
            let mut resource = practitioner(&number.to_string());
            resource["id"] = json!(Uuid::new_v4());
            create_unless(resource, &format!("identifier={NPI}|{number}"))
        })
        .collect();
    let sent = bundle("batch", &entries);
    let started = Instant::now();
    let answer = post_bundle(&service, &sent).await.expect(200);
    let took = started.elapsed();
    assert_eq!(statuses(&answer), vec!["201 Created"; 583]);
    assert!(took < Duration::from_secs(10), "583 entries took {took:?}");
    let again = post_bundle(&service, &sent).await.expect(200);
    assert_eq!(statuses(&again), vec!["200 OK"; 583]);
    assert_eq!(world.events().await, 583);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_create_a_conditional_entry_once() {
    let world = World::start().await;
    let service = world.service();
    let batch = || {
        let entries: Vec<Value> = (0..20)
            .map(|number| {
                let mut resource = practitioner(&number.to_string());
                resource["id"] = json!(Uuid::new_v4());
                create_unless(resource, &format!("identifier={NPI}|{number}"))
            })
            .collect();
        bundle("batch", &entries)
    };
    let (one, two) = (batch(), batch());
    let (one, two) = tokio::join!(post_bundle(&service, &one), post_bundle(&service, &two));
    let created = |answer| statuses(answer).iter().filter(|status| *status == "201 Created").count();
    assert_eq!(created(&one) + created(&two), 20);
    assert!(statuses(&one).iter().chain(&statuses(&two)).all(|status| status.starts_with("20")));
    assert_eq!(world.events().await, 20);
}

/// The condition asks about one identifier; that another one is borne by somebody does not meet it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_is_not_met_by_whoever_bears_another_identifier() {
    let world = World::start().await;
    let service = world.service();
    world.practitioner("222").await;
    let mut resource = practitioner("111");
    resource["id"] = json!(Uuid::new_v4());
    resource["identifier"] = json!([{"system": NPI, "value": "111"}, {"system": NPI, "value": "222"}]);
    let entries = [create_unless(resource, &format!("identifier={NPI}|111"))];
    let answer = post_bundle(&service, &bundle("batch", &entries)).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created"]);
    let again = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&again), ["200 OK"]);
    assert_eq!(world.events().await, 2);
}

/// Answers are kept in the clear, so nothing that a sender alone can know may be in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_a_refused_entry_names_no_member_of_the_senders() {
    let world = World::start().await;
    let service = world.service();
    let subject = format!("Patient/{}", world.patient().await);
    let with = |name: &str| {
        let mut observation = fhir_observation(Uuid::new_v4(), &subject);
        observation["extension"] = json!([{"url": "urn:x", "valueCoding": {name: null}}]);
        create(observation)
    };
    let mut astray = fhir_observation(Uuid::new_v4(), &subject);
    astray["extension"] = json!([{"Zebrafink 3": {"reference": format!("urn:uuid:{}", Uuid::new_v4())}}]);
    let entries = [with("Zebrafink 1"), with("Zebrafink\u{0}2"), create(astray)];
    let (sent, key) = (bundle("batch", &entries).to_string(), fresh("key"));
    let answer = service.post_fhir(sent.clone(), &key).await.expect(200);
    assert_eq!(statuses(&answer), vec!["422 Unprocessable Entity"; 3]);
    assert!(!answer.text.contains("Zebrafink"));
    assert_eq!(service.post_fhir(sent, &key).await.expect(200).text, answer.text);
    let kept: String = world.ask_log("select string_agg(response::text, ' ') from idempotency").await;
    assert!(kept.contains("/entry/0/resource/extension/0/valueCoding/?") && !kept.contains("Zebrafink"), "{kept}");
}
