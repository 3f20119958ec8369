//! Timelines.

use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chart::condition;
use crate::world::{World, patient, reference};

async fn page(world: &World, patient: Uuid, query: &str) -> Value {
    let answer = world.get(Role::Auditor, &format!("/v1/patients/{patient}/timeline?{query}")).await;
    answer.items();
    answer.json()
}

fn codes(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["code"].as_str().unwrap_or("-")).collect()
}

#[tokio::test]
async fn everything_stands_where_it_happened_and_not_where_it_was_recorded() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let untimed = Uuid::new_v4();
    let mut sometime = condition(untimed, id, "sometime", "active", "2000");
    sometime.as_object_mut().unwrap().shift_remove("onsetDateTime");
    world
        .record([
            condition(Uuid::new_v4(), id, "2020", "active", "2020-01-01"),
            patient(id, "Cormier", "Chi", "1959-07-30"),
            condition(Uuid::new_v4(), id, "1999", "resolved", "1999"),
            condition(Uuid::new_v4(), id, "2020b", "active", "2020-01-01T00:00:01+00:00"),
            sometime,
        ])
        .await;
    let all = page(&world, id, "").await;
    // The patient stands where they were registered, not where they were born.
    assert_eq!(codes(&all), ["-", "sometime", "2020b", "2020", "1999"]);
    let newest = &all["items"][1];
    // It stands where it was recorded, and does not say that it happened then.
    assert_eq!((&newest["occurredAt"], &newest["occurred"]), (&Value::Null, &Value::Null));
    let of_1999 = &all["items"][4];
    assert_eq!(of_1999["occurredAt"], "1999-01-01T00:00:00Z");
    assert_eq!(of_1999["occurred"], json!({"kind": "moment", "start": "1999", "end": null, "precision": "year"}));
    assert_eq!((&newest["event"], &newest["status"]), (&json!("Recorded"), &json!("active")));
    assert_eq!((&newest["title"], &newest["notes"]), (&json!("display of sometime"), &json!(0)));
    let of_patient = &all["items"][0];
    assert_eq!(of_patient["resourceType"], "Patient");
    assert_eq!(of_patient["occurredAt"], of_patient["recordedAt"]);
}

#[tokio::test]
async fn what_is_about_another_says_so() {
    let world = World::new().await;
    let (id, graft) = (Uuid::new_v4(), Uuid::new_v4());
    let pressure = json!({
        "resourceType": "Observation", "id": graft, "status": "final", "subject": reference("Patient", id),
        "focus": [reference("Device", Uuid::new_v4())], "code": {"text": "Pressure in the bag"},
        "effectivePeriod": {"end": "2021-02"}, "valueQuantity": {"value": 12}
    });
    world.record([patient(id, "Cormier", "Chi", "1959-07-30"), pressure]).await;
    let all = page(&world, id, "").await;
    let entry = &all["items"].as_array().unwrap()[1];
    assert_eq!((&entry["id"], &entry["about"]), (&json!(graft), &json!("Device")));
    assert_eq!(entry["occurred"], json!({"kind": "period", "start": null, "end": "2021-02", "precision": "month"}));
    assert_eq!(all["items"][0]["about"], Value::Null);
}

#[tokio::test]
async fn a_patient_stays_where_they_were_registered() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let resource = patient(id, "Cormier", "Chi", "1959-07-30");
    let of_patient = async || page(&world, id, "").await["items"][0].clone();
    world.record([resource.clone()]).await;
    let registered = of_patient().await["recordedAt"].clone();
    // One more event in a batch of its own, then two in one.
    for updates in [1, 2] {
        let mut events = Vec::new();
        for _ in 0..updates {
            events.push(world.event("Updated", resource.clone(), json!({"notes": []})).await);
        }
        world.apply(&events).await;
        let now = of_patient().await;
        assert_eq!(now["occurredAt"], registered);
        assert_ne!(now["recordedAt"], registered);
    }
}

#[tokio::test]
async fn notes_stay_until_the_record_is_stated_anew() {
    let world = World::new().await;
    let (id, problem) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let stated = |status: &str| condition(problem, id, "1", status, "2020-01-01");
    let notes = json!({"notes": [{"rule": "patient-deceased", "text": "The patient had died."}]});
    let resolved = json!({"abated_at": "2021-01-01T00:00:00Z"});
    let steps = [
        ("Recorded", stated("active"), notes, 1, "active"),
        ("Resolved", stated("resolved"), resolved, 1, "resolved"),
        ("Amended", stated("inactive"), json!({"notes": []}), 0, "inactive"),
    ];
    for (event, resource, more, notes, status) in steps {
        world.apply(&[world.event(event, resource, more).await]).await;
        let all = page(&world, id, "").await;
        let entry = &all["items"][1];
        assert_eq!((&entry["event"], &entry["notes"]), (&json!(event), &json!(notes)), "{event}");
        assert_eq!(entry["status"], status);
    }
}

#[tokio::test]
async fn a_timeline_is_read_from_any_page_in_both_directions() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let mut all = vec![patient(id, "Cormier", "Chi", "1959-07-30")];
    for index in 0..35 {
        let onset = ["2020-01-01", "2020-01-02", "2020-01-03"][index % 3];
        all.push(condition(Uuid::new_v4(), id, &format!("{index}"), "active", onset));
    }
    world.record(all).await;
    let whole = page(&world, id, "limit=500").await;
    assert_eq!((&whole["next"], &whole["previous"]), (&Value::Null, &Value::Null));
    let expected = codes(&whole);
    assert_eq!(expected.len(), 36);
    for limit in [1, 5, 12, 36] {
        let (mut forth, mut query) = (Vec::new(), format!("limit={limit}"));
        let last = loop {
            let page = page(&world, id, &query).await;
            forth.extend(codes(&page).into_iter().map(str::to_owned));
            match page["next"].as_str() {
                Some(next) => query = format!("limit={limit}&cursor={next}"),
                None => break page,
            }
        };
        assert_eq!(forth, expected, "older, in pages of {limit}");
        let (mut back, mut page_back) = (codes(&last).into_iter().map(str::to_owned).collect::<Vec<_>>(), last.clone());
        while let Some(previous) = page_back["previous"].as_str() {
            page_back = page(&world, id, &format!("limit={limit}&cursor={previous}")).await;
            back.splice(0..0, codes(&page_back).into_iter().map(str::to_owned));
        }
        assert_eq!(back, expected, "newer, in pages of {limit}");
    }
}
