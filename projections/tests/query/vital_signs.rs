//! Series of measured values.

use axum::http::StatusCode;
use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

const SYSTOLIC: &str = "8480-6";
const DIASTOLIC: &str = "8462-4";

fn part(code: &str, value: &str) -> Value {
    let value: Value = serde_json::from_str(value).unwrap();
    json!({
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
    })
}

fn observation(id: Uuid, patient: Uuid, at: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": reference("Patient", patient),
        "effectiveDateTime": at,
    })
}

fn blood_pressure(id: Uuid, patient: Uuid, at: &str, systolic: &str, diastolic: Option<&str>) -> Value {
    let mut resource = observation(id, patient, at);
    let diastolic = diastolic.map(|value| part(DIASTOLIC, value));
    resource["component"] = json!([part(SYSTOLIC, systolic)].into_iter().chain(diastolic).collect::<Vec<_>>());
    resource
}

async fn series(world: &World, patient: Uuid, query: &str) -> Vec<Value> {
    world.get(Role::Nurse, &format!("/v1/patients/{patient}/vital-signs?{query}")).await.items()
}

fn values(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["value"].to_string()).collect()
}

#[tokio::test]
async fn components_are_series_of_their_own_and_keep_their_digits() {
    let world = World::new().await;
    let (id, one, two) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let laboratory = {
        let mut resource = observation(Uuid::new_v4(), id, "2020-01-01T10:00:00Z");
        resource["category"] = json!([{"coding": [{"code": "laboratory"}]}]);
        resource["valueQuantity"] = json!({"value": 5, "code": "mmol/L"});
        resource
    };
    world
        .record([
            patient(id, "Cormier", "Chi", "1959-07-30"),
            blood_pressure(one, id, "2020-01-01T10:00:00Z", "120.00", Some("80")),
            blood_pressure(two, id, "2020-01-02T10:00:00+01:00", "131.5", Some("85.0")),
            laboratory,
        ])
        .await;
    let systolic = series(&world, id, &format!("code={SYSTOLIC}")).await;
    assert_eq!(values(&systolic), ["131.5", "120.00"]);
    assert_eq!(systolic[0]["unit"], "mm[Hg]");
    assert_eq!(systolic[0]["effectiveAt"], "2020-01-02T09:00:00Z");
    assert_eq!((&systolic[0]["observation"], &systolic[0]["component"]), (&json!(two), &json!(0)));
    assert_eq!(values(&series(&world, id, &format!("code=http://loinc.org%7C{DIASTOLIC}")).await), ["85.0", "80"]);
    assert!(series(&world, id, &format!("code=elsewhere%7C{DIASTOLIC}")).await.is_empty());
    assert!(series(&world, id, "code=85354-9").await.is_empty());
    assert_eq!(series(&world, id, "").await.len(), 4);
    assert_eq!(values(&series(&world, id, &format!("code={SYSTOLIC}&to=2020-01-01")).await), ["120.00"]);
    assert_eq!(values(&series(&world, id, &format!("code={SYSTOLIC}&from=2020-01-02")).await), ["131.5"]);
    assert_eq!(
        values(
            &series(&world, id, &format!("code={SYSTOLIC}&from=2020-01-01T10:00:00Z&to=2020-01-01T10:00:00Z")).await
        ),
        ["120.00"]
    );
}

#[tokio::test]
async fn an_amendment_replaces_all_values_and_an_error_hides_them() {
    let world = World::new().await;
    let (id, one) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let first = world.recorded(blood_pressure(one, id, "2020-01-01T10:00:00Z", "120", Some("80"))).await;
    world.apply(std::slice::from_ref(&first)).await;
    let amended = blood_pressure(one, id, "2020-01-01T10:05:00Z", "125", None);
    world.apply(&[world.event("Amended", amended.clone(), json!({"notes": []})).await]).await;
    let all = series(&world, id, "").await;
    assert_eq!(values(&all), ["125"]);
    assert_eq!(all[0]["effectiveAt"], "2020-01-01T10:05:00Z");
    // The component that the amendment dropped does not come back with the old event.
    world.apply(&[first]).await;
    assert_eq!(values(&series(&world, id, "").await), ["125"]);

    let mut cancelled = amended.clone();
    cancelled["status"] = json!("cancelled");
    world.apply(&[world.event("Amended", cancelled, json!({"notes": []})).await]).await;
    assert!(series(&world, id, "").await.is_empty(), "a cancelled observation may hold any value");

    let mut wrong = amended;
    wrong["status"] = json!("entered-in-error");
    world.apply(&[world.event("EnteredInError", wrong, json!({})).await]).await;
    assert!(series(&world, id, "").await.is_empty());
    let with_errors = series(&world, id, "enteredInError=true").await;
    assert_eq!(with_errors[0]["status"], "entered-in-error");
}

#[tokio::test]
async fn several_codes_of_one_value_find_it_and_list_it_once() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let mut weight = observation(Uuid::new_v4(), id, "2020-01-01");
    weight["code"] =
        json!({"coding": [{"system": "http://loinc.org", "code": "29463-7"}, {"system": "local", "code": "W"}]});
    weight["valueQuantity"] = json!({"value": 70, "code": "kg"});
    let odd = |value: &str| {
        let mut resource = observation(Uuid::new_v4(), id, "2020-01-01");
        let value: Value = serde_json::from_str(value).unwrap();
        resource["valueQuantity"] = json!({"value": value});
        resource
    };
    let odd = ["1e-300", "1e300", "1E+3", "-0.0", "0.10"].map(odd);
    world.record([patient(id, "Cormier", "Chi", "1959-07-30"), weight].into_iter().chain(odd)).await;
    assert_eq!(values(&series(&world, id, "code=29463-7").await), ["70"]);
    assert_eq!(values(&series(&world, id, "code=W").await), ["70"]);
    let mut all = values(&series(&world, id, "").await);
    all.sort_unstable();
    // What no instrument measures is no vital sign; everything else is there once.
    assert_eq!(all, ["0.0", "0.10", "1000", "70"]);
}

#[tokio::test]
async fn pages_hold_every_value_once_even_at_the_same_moment() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let mut all = vec![patient(id, "Cormier", "Chi", "1959-07-30")];
    for index in 0..30 {
        let at = if index % 2 == 0 { "2020-01-01T10:00:00Z" } else { "2020-01-01T11:00:00Z" };
        all.push(blood_pressure(Uuid::new_v4(), id, at, &format!("{index}"), Some(&format!("{}", 100 + index))));
    }
    world.record(all).await;
    for (query, expected) in [("", 60), ("?code=8480-6", 30)] {
        for limit in [1, 7, 60] {
            let path = format!("/v1/patients/{id}/vital-signs{query}");
            let mut found = values(&world.all_pages(Role::Nurse, &path, limit).await);
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), expected, "{query} in pages of {limit}");
        }
    }
}

#[tokio::test]
async fn parameters_and_patients_must_be_right() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    assert!(series(&world, id, "").await.is_empty());
    for query in
        ["from=yesterday", "to=2020-13-01", "code=", "code=x%7C", "enteredInError=maybe", "limit=-1", "extra=1"]
    {
        let answer = world.get(Role::Nurse, &format!("/v1/patients/{id}/vital-signs?{query}")).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::BAD_REQUEST, "invalid-parameter"),
            "{query}"
        );
    }
    let stranger = format!("/v1/patients/{}/vital-signs", Uuid::new_v4());
    assert_eq!(world.get(Role::Nurse, &stranger).await.problem(), "no-care-relationship");
    assert_eq!(world.get(Role::Nurse, "/v1/patients/someone/vital-signs").await.status, StatusCode::NOT_FOUND);
}
