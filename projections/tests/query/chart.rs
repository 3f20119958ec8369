//! Charts.

use axum::http::StatusCode;
use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

pub fn condition(id: Uuid, patient: Uuid, code: &str, status: &str, onset: &str) -> Value {
    json!({
        "resourceType": "Condition",
        "id": id,
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status}]},
        "verificationStatus": {"coding": [{"code": "confirmed"}]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code, "display": format!("display of {code}")}]},
        "subject": reference("Patient", patient),
        "onsetDateTime": onset,
    })
}

fn resources(id: Uuid) -> Vec<Value> {
    let new = Uuid::new_v4;
    vec![
        patient(id, "Cormier", "Chi", "1959-07-30"),
        condition(new(), id, "1", "resolved", "2020-01-01"),
        condition(new(), id, "2", "active", "2001-01-01"),
        condition(new(), id, "3", "active", "2010-01-01"),
        json!({"resourceType": "AllergyIntolerance", "id": new(), "patient": reference("Patient", id),
            "clinicalStatus": {"coding": [{"code": "active"}]}, "criticality": "high",
            "code": {"text": "Peanut"}, "reaction": [{"manifestation": [{"text": "Hives"}]}]}),
        json!({"resourceType": "MedicationRequest", "id": new(), "subject": reference("Patient", id), "status": "stopped",
            "intent": "order", "authoredOn": "2019-02-03",
            "medicationCodeableConcept": {"coding": [{"system": "rx", "code": "1803932"}], "text": "Leucovorin"}}),
        json!({"resourceType": "Encounter", "id": new(), "subject": reference("Patient", id), "status": "finished",
            "class": {"code": "AMB"}, "period": {"start": "2019-02-03T10:00:00Z", "end": "2019-02-03T11:00:00Z"}}),
        json!({"resourceType": "Procedure", "id": new(), "subject": reference("Patient", id), "status": "completed",
            "code": {"text": "Appendectomy"}, "performedPeriod": {"start": "2019-02-03", "end": "2019-02-03"}}),
        json!({"resourceType": "Immunization", "id": new(), "patient": reference("Patient", id), "status": "completed",
            "vaccineCode": {"coding": [{"system": "cvx", "code": "140"}]}, "occurrenceDateTime": "2019-02-03"}),
        json!({"resourceType": "DocumentReference", "id": new(), "subject": reference("Patient", id), "status": "current",
            "type": {"coding": [{"system": "http://loinc.org", "code": "34117-2", "display": "History"}]},
            "content": [{"attachment": {"contentType": "text/plain", "data": "c2VjcmV0"}}]}),
        json!({"resourceType": "DiagnosticReport", "id": new(), "subject": reference("Patient", id), "status": "final",
            "code": {"text": "Lipid panel"}, "effectiveDateTime": "2018-02-03"}),
    ]
}

#[tokio::test]
async fn a_chart_has_its_sections_with_what_is_current_first() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record(resources(id)).await;
    let chart = world.get(Role::Physician, &format!("/v1/patients/{id}/chart")).await;
    assert_eq!(chart.status, StatusCode::OK);
    let chart = chart.json();
    let counts: Vec<(&str, usize)> = chart["sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|section| (section["section"].as_str().unwrap(), section["items"].as_array().unwrap().len()))
        .collect();
    let expected = [
        ("problems", 3),
        ("allergies", 1),
        ("medications", 1),
        ("encounters", 1),
        ("procedures", 1),
        ("immunizations", 1),
        ("documents", 2),
    ];
    assert_eq!(counts, expected);
    let problems = &chart["sections"][0]["items"];
    let order: Vec<&str> = (0..3).map(|index| problems[index]["code"].as_str().unwrap()).collect();
    assert_eq!(order, ["3", "2", "1"]);
    assert_eq!(problems[0]["display"], "display of 3");
    assert_eq!(problems[0]["details"]["onsetDateTime"], "2010-01-01");
    assert_eq!(chart["sections"][1]["items"][0]["details"]["reaction"][0]["manifestation"][0]["text"], "Hives");
    let document = &chart["sections"][6]["items"];
    let attachments: Vec<&Value> = (0..2).map(|index| &document[index]["details"]["attachments"]).collect();
    assert!(attachments.contains(&&json!([{"contentType": "text/plain"}])), "{attachments:?}");
}

#[tokio::test]
async fn what_was_entered_in_error_leaves_the_chart_and_stays_away() {
    let world = World::new().await;
    let (id, problem) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let recorded = world.recorded(condition(problem, id, "1", "active", "2020-01-01")).await;
    world.apply(std::slice::from_ref(&recorded)).await;
    let mut wrong = condition(problem, id, "1", "active", "2020-01-01");
    wrong["verificationStatus"] = json!({"coding": [{"code": "entered-in-error"}]});
    world.apply(&[world.event("EnteredInError", wrong, json!({})).await]).await;
    // An old event again changes nothing.
    world.apply(&[recorded]).await;
    let chart = world.get(Role::Physician, &format!("/v1/patients/{id}/chart?section=problems")).await.json();
    assert_eq!(chart["sections"], json!([{"section": "problems", "items": [], "next": null}]));
}

#[tokio::test]
async fn pages_of_a_section_hold_everything_once_even_at_the_same_moment() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let mut all = vec![patient(id, "Cormier", "Chi", "1959-07-30")];
    for index in 0..40 {
        let status = if index % 3 == 0 { "active" } else { "resolved" };
        let onset = if index % 2 == 0 { "2020-01-01" } else { "2020-01-02" };
        all.push(condition(Uuid::new_v4(), id, &format!("{index}"), status, onset));
    }
    world.record(all).await;
    for limit in [1, 3, 7, 40, 100] {
        let (mut codes, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/patients/{id}/chart?section=problems&limit={limit}{cursor}");
            let page = world.get(Role::Nurse, &path).await.json();
            let section = &page["sections"][0];
            let items = section["items"].as_array().unwrap();
            codes.extend(items.iter().map(|item| item["code"].as_str().unwrap().parse::<usize>().unwrap()));
            match section["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        codes.sort_unstable();
        assert_eq!(codes, (0..40).collect::<Vec<_>>(), "in pages of {limit}");
    }
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_list_only() {
    let world = World::new().await;
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    for id in [one, other] {
        world.record(resources(id)).await;
    }
    let chart = |id: Uuid, query: String| {
        let world = &world;
        async move { world.get(Role::Nurse, &format!("/v1/patients/{id}/chart?{query}")).await }
    };
    let page = chart(one, "section=problems&limit=1".into()).await.json();
    let cursor = page["sections"][0]["next"].as_str().unwrap().to_owned();
    assert_eq!(chart(one, format!("section=problems&cursor={cursor}")).await.status, StatusCode::OK);
    for (id, query) in [
        (other, format!("section=problems&cursor={cursor}")),
        (one, format!("section=encounters&cursor={cursor}")),
        (one, format!("section=problems&cursor={}A", &cursor[..cursor.len() - 1])),
        (one, format!("section=problems&cursor={}", "A".repeat(2_000))),
        (one, format!("cursor={cursor}")),
        (one, "section=dreams".into()),
    ] {
        let answer = chart(id, query.clone()).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::BAD_REQUEST, "invalid-parameter"),
            "{query}"
        );
    }
    assert_eq!(chart(Uuid::new_v4(), String::new()).await.problem(), "no-care-relationship");
}
