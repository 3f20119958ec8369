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
    weight["valueQuantity"] = json!({"value": 70, "system": "http://unitsofmeasure.org", "code": "kg"});
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
    // Everything is there once, with the digits that came. (The power of ten is written in one way: `e+3`.)
    assert_eq!(all, ["-0.0", "0.10", "1e+3", "1e+300", "1e-300", "70"]);
}

/// A heart rate, changed.
fn rate(patient: Uuid, at: Option<&str>, change: impl Fn(&mut Value)) -> (Uuid, Value) {
    let id = Uuid::new_v4();
    let mut resource = observation(id, patient, at.unwrap_or_default());
    resource["code"] = json!({"coding": [{"system": "http://loinc.org", "code": "8867-4"}]});
    resource["valueQuantity"] = json!({"value": 71, "system": "http://unitsofmeasure.org", "code": "/min"});
    if at.is_none() {
        resource.as_object_mut().unwrap().shift_remove("effectiveDateTime");
    }
    change(&mut resource);
    (id, resource)
}

#[tokio::test]
async fn only_what_is_the_patients_own_and_understood_is_in_a_series() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let at = Some("2022-03-04T05:06:07Z");
    let modified = json!([{"url": "urn:example:negated", "valueBoolean": true}]);
    let (own, resource) = rate(id, at, |_| {});
    let others = [
        rate(id, at, |it| it["focus"] = json!([reference("RelatedPerson", Uuid::new_v4())])).1,
        rate(id, at, |it| {
            it["subject"] = reference("Location", Uuid::new_v4());
            it["performer"] = json!([reference("Patient", id)]);
        })
        .1,
        rate(id, at, |it| it["modifierExtension"] = modified.clone()).1,
        rate(id, at, |it| it["valueQuantity"]["modifierExtension"] = modified.clone()).1,
    ];
    let all = [patient(id, "Cormier", "Chi", "1959-07-30"), resource.clone()].into_iter().chain(others);
    world.record(all).await;
    let found = series(&world, id, "enteredInError=true").await;
    assert_eq!(found.iter().map(|it| it["observation"].clone()).collect::<Vec<_>>(), [json!(own)]);
    // It turns out that it was a donor's.
    let mut amended = resource;
    amended["focus"] = json!([{"display": "the donor"}]);
    world.apply(&[world.event("Amended", amended, json!({"notes": []})).await]).await;
    assert!(series(&world, id, "").await.is_empty());
}

#[tokio::test]
async fn times_are_those_that_were_stated() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let moment =
        |start: &str, precision: &str| json!({"kind": "moment", "start": start, "end": null, "precision": precision});
    let rows = [
        ("effectiveDateTime", json!("2021-05"), "2021-05-01T00:00:00Z", moment("2021-05", "month")),
        (
            "effectivePeriod",
            json!({"end": "2020-09-08T07:06:05+02:00"}),
            "2020-09-08T05:06:05Z",
            json!({"kind": "period", "start": null, "end": "2020-09-08T07:06:05+02:00", "precision": "instant"}),
        ),
        ("effectiveTiming", json!({"event": ["2019-10-11"]}), "2019-10-11T00:00:00Z", moment("2019-10-11", "day")),
        (
            "effectiveTiming",
            json!({"repeat": {"boundsPeriod": {"start": "2018", "end": "2018-02-03"}, "frequency": 1}}),
            "2018-01-01T00:00:00Z",
            json!({"kind": "timing", "start": "2018", "end": "2018-02-03", "precision": "year"}),
        ),
        (
            "effectiveInstant",
            json!("2016-12-31T23:59:60Z"),
            "2017-01-01T00:00:00Z",
            moment("2016-12-31T23:59:60Z", "instant"),
        ),
        (
            "issued",
            json!("2015-01-02T03:04:05Z"),
            "2015-01-02T03:04:05Z",
            json!({"kind": "written", "start": "2015-01-02T03:04:05Z", "end": null, "precision": "instant"}),
        ),
        ("effectiveDateTime", json!("0001-01-01"), "0001-01-01T00:00:00Z", moment("0001-01-01", "day")),
    ];
    let mut all = vec![patient(id, "Cormier", "Chi", "1959-07-30"), rate(id, None, |_| {}).1];
    all.extend(rows.iter().map(|(name, time, ..)| rate(id, None, |it| it[*name] = time.clone()).1));
    all.push(rate(id, None, |it| it["effectiveTiming"] = json!({"code": {"text": "BID"}})).1);
    world.record(all).await;
    let found = series(&world, id, "").await;
    let expected: Vec<_> = rows.iter().map(|(_, _, at, stated)| (json!(at), stated.clone())).collect();
    let told: Vec<_> = found.iter().map(|it| (it["effectiveAt"].clone(), it["effective"].clone())).collect();
    assert_eq!(told[..7], expected);
    assert_eq!(told[7..], [(Value::Null, Value::Null), (Value::Null, Value::Null)], "what has no time comes last");
    let path = format!("/v1/patients/{id}/vital-signs");
    for limit in [1, 2, 8] {
        assert_eq!(world.all_pages(Role::Nurse, &path, limit).await, found, "in pages of {limit}");
    }
    // What can have been then is found, and what has no time only where none is asked for.
    for (query, count) in [
        ("from=2021-05-20&to=2021-05-21", 1),
        ("from=2021-06", 0),
        ("from=2018-02&to=2018-02-02", 1),
        ("from=0001", 7),
        ("to=9999", 7),
        ("to=2016", 2),
    ] {
        assert_eq!(series(&world, id, query).await.len(), count, "{query}");
    }
}

#[tokio::test]
async fn numbers_have_their_comparators_units_and_digits() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let quantities = [
        r#"{"value": 0.000001, "system": "http://unitsofmeasure.org", "code": "mg"}"#,
        r#"{"value": 120.00, "comparator": "<=", "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}"#,
        r#"{"value": 1.2E+2, "comparator": ">", "unit": "bpm"}"#,
        r#"{"value": 3200, "unit": "gram", "system": "http://snomed.info/sct", "code": "258682000"}"#,
        r#"{"value": 5, "code": "kg"}"#,
    ];
    let mut all = vec![patient(id, "Cormier", "Chi", "1959-07-30")];
    for (index, text) in quantities.iter().enumerate() {
        let quantity: Value = serde_json::from_str(text).unwrap();
        let at = format!("2020-01-0{}", 9 - index);
        all.push(rate(id, Some(&at), |it| it["valueQuantity"] = quantity.clone()).1);
    }
    world.record(all).await;
    let found = series(&world, id, "").await;
    let told = |it: &Value| {
        ["value", "comparator", "unit", "unitText", "unitCoding"].map(|name| it[name].to_string()).join(" ")
    };
    let expected = [
        r#"0.000001 null "mg" null null"#,
        r#"120.00 "<=" "mm[Hg]" null null"#,
        r#"1.2e+2 ">" null "bpm" null"#,
        r#"3200 null null "gram" {"system":"http://snomed.info/sct","code":"258682000"}"#,
        r#"5 null null null {"system":null,"code":"kg"}"#,
    ];
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_is_no_number_is_shown_as_what_it_is() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let samples = json!({"origin": {"value": 2048}, "period": 10, "dimensions": 1, "data": "2041 2043 E"});
    let bare = json!({"origin": {"value": 2048}, "period": 10, "dimensions": 1});
    let rows = [
        ("valueRange", json!({"low": {"value": 61}, "high": {"value": 79}}), None),
        ("valueRatio", json!({"numerator": {"value": 1}, "denominator": {"value": 64}}), None),
        ("valueSampledData", samples, Some(bare)),
        ("valueString", json!("faint and regular"), None),
        ("valueString", json!("x".repeat(20_000)), Some(Value::Null)),
        ("valueBoolean", json!(false), None),
        ("valueCodeableConcept", json!({"coding": [{"code": "255594003"}]}), None),
        ("valueQuantity", json!({"unit": "/min"}), None),
        ("dataAbsentReason", json!({"text": "patient moved"}), None),
    ];
    let mut all = vec![patient(id, "Cormier", "Chi", "1959-07-30")];
    for (index, (name, value, _)) in rows.iter().enumerate() {
        let at = format!("2020-01-{:02}", 28 - index);
        all.push(
            rate(id, Some(&at), |it| {
                it.as_object_mut().unwrap().shift_remove("valueQuantity");
                it[*name] = value.clone();
            })
            .1,
        );
    }
    world.record(all).await;
    let found = series(&world, id, "code=8867-4").await;
    assert_eq!(found.len(), rows.len());
    for (it, (name, value, shown)) in found.iter().zip(&rows) {
        assert_eq!((&it["kind"], &it["value"]), (&json!(name), &Value::Null));
        assert_eq!(&it["result"], shown.as_ref().unwrap_or(value), "{name}");
    }
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
