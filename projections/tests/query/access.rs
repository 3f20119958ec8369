//! Who sees what at the read door: every route, every role, every relation; consents, labels, broken glass; and attacks by
//! name.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use nexus_auth::Role;
use nexus_auth::policy::Decision;
use nexus_auth::testing::{About, Door, ROUTES, Route, Standing};
use nexus_projections::query_api::openapi;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chart::condition;
use crate::world::{Answer, World, patient, reference};

/// Routes that say 404 to those who may ask as well: of a patient who was not erased, and of an access that never was.
const IS_OFTEN_ABSENT: [&str; 2] = ["GET /v1/patients/{id}/erasure", "GET /fhir/AuditEvent/{id}"];

pub fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.door == Door::Read)
}

pub fn path_of(route: &Route, patient: Uuid) -> String {
    let (_, path) = route.parts();
    let id = if route.about == About::Nobody { Uuid::new_v4() } else { patient }.to_string();
    let query = match path {
        "/v1/patients" => "?name=cormier",
        "/v1/practitioners/{id}/appointments" => "?date=2026-11-24",
        _ => "",
    };
    path.replace("{id}", &id).replace("{location}", &id).replace("{type}", "Patient") + query
}

#[test]
fn the_list_of_routes_is_complete() {
    let description = serde_json::to_value(openapi()).unwrap();
    let described = description["paths"].as_object().unwrap().keys().map(|path| format!("GET {path}"));
    assert_eq!(described.collect::<BTreeSet<_>>(), routes().map(|route| route.name.to_owned()).collect());
}

#[tokio::test]
async fn every_route_answers_every_role_as_the_policy_says() {
    let world = World::new().await;
    let (cared_for, stranger, erased) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(cared_for, "Cormier", "Chi", "1959-07-30")]).await;
    world.record_only([patient(stranger, "Cormier", "Ida", "1960-07-30")]).await;
    world.record([patient(erased, "Cormier", "Eve", "1961-07-30")]).await;
    sqlx::query("update subject_keys set state = 'erased', wrapped = null where subject = $1")
        .bind(erased)
        .execute(&world.keys)
        .await
        .unwrap();
    world.keyring.forget(erased);
    let mut tried = 0;
    for role in Role::ALL {
        for (standing, id) in
            [(Standing::Own, cared_for), (Standing::Colleague, cared_for), (Standing::Stranger, stranger)]
        {
            let token = match (role, standing) {
                (Role::Patient, Standing::Own) => world.issuer.patient_token(id),
                (Role::Patient, _) => world.issuer.patient_token(Uuid::new_v4()),
                // Nobody is their own patient at work.
                (_, Standing::Own) => continue,
                (role, _) => world.issuer.token(role),
            };
            for route in routes() {
                let answer = world.get_with(&token, &path_of(route, id), &[]).await;
                let found = match (answer.status.as_u16(), answer.status == StatusCode::FORBIDDEN) {
                    (200, _) => Decision::Allow,
                    (404, _) if IS_OFTEN_ABSENT.contains(&route.name) => Decision::Allow,
                    (404, _) => Decision::Hide,
                    (_, true) if answer.problem() == "no-care-relationship" => Decision::Unrelated,
                    (_, true) => Decision::Deny,
                    other => panic!("{role} {}: {other:?}", route.name),
                };
                let expected = route.expected(role, standing);
                // What is not there and what may not be known look the same.
                if found == Decision::Allow && answer.status == 404 && expected == Decision::Hide {
                    continue;
                }
                assert_eq!(found, expected, "{role} {standing:?} {}", route.name);
                tried += 1;
            }
        }
        // Who was erased is served to nobody; the receipt of the erasure stays.
        let token = if role == Role::Patient { world.issuer.patient_token(erased) } else { world.issuer.token(role) };
        let is_about_data = |route: &&Route| route.about != About::Nobody && !route.name.ends_with("/erasure");
        for route in routes().filter(is_about_data) {
            let status = world.get_with(&token, &path_of(route, erased), &[]).await.status;
            assert!(matches!(status.as_u16(), 403 | 404), "{role} {}: {status}", route.name);
        }
    }
    assert!(tried > 9 * 2 * (routes().count() - IS_OFTEN_ABSENT.len()), "{tried}");
}

/// Somebody who is in the directory.
pub struct Clinician {
    token: String,
    pub practitioner: Uuid,
    organization: Uuid,
}

impl Clinician {
    pub fn new(world: &World, role: Role) -> Self {
        let (practitioner, organization) = (Uuid::new_v4(), Uuid::new_v4());
        Self { token: world.issuer.token_of(role, practitioner, Some(organization)), practitioner, organization }
    }

    pub async fn get(&self, world: &World, path: &str) -> Answer {
        world.get_with(&self.token, path, &[]).await
    }

    pub async fn status(&self, world: &World, path: &str) -> u16 {
        self.get(world, path).await.status.as_u16()
    }
}

pub fn encounter(patient: Uuid, status: &str, practitioner: Option<Uuid>, organization: Option<Uuid>) -> Value {
    let mut encounter = json!({
        "resourceType": "Encounter", "id": Uuid::new_v4(), "status": status, "subject": reference("Patient", patient),
        "class": {"code": "AMB"}, "period": {"start": "2026-01-01T08:00:00Z"}
    });
    if let Some(practitioner) = practitioner {
        encounter["participant"] = json!([{"individual": reference("Practitioner", practitioner)}]);
    }
    if let Some(organization) = organization {
        encounter["serviceProvider"] = reference("Organization", organization);
    }
    encounter
}

pub fn labelled(mut resource: Value, code: &str) -> Value {
    let system = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
    resource["meta"] = json!({"security": [{"system": system, "code": code}]});
    resource
}

fn after(minutes: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::minutes(minutes)
}

#[tokio::test]
async fn a_chart_is_open_to_those_who_care_and_while_they_do() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record_only([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let (doctor, colleague) = (Clinician::new(&world, Role::Physician), Clinician::new(&world, Role::Nurse));
    let chart = format!("/v1/patients/{id}/chart");
    assert_eq!(doctor.get(&world, &chart).await.problem(), "no-care-relationship");
    let mut visit = encounter(id, "planned", Some(doctor.practitioner), Some(colleague.organization));
    world.record_only([visit.clone()]).await;
    assert_eq!((doctor.status(&world, &chart).await, colleague.status(&world, &chart).await), (200, 200));
    // Finished yesterday, long ago, in error.
    visit["status"] = json!("finished");
    for (end, expected) in [(after(-24 * 60), 200), (after(-31 * 24 * 60), 403)] {
        visit["period"]["end"] = json!(end);
        world.apply(&[world.event("Amended", visit.clone(), json!({"notes": []})).await]).await;
        assert_eq!(doctor.status(&world, &chart).await, expected, "{end}");
    }
    let booked = |start: DateTime<Utc>| {
        json!({"resourceType": "Appointment", "id": Uuid::new_v4(), "status": "booked", "start": start,
            "end": start + TimeDelta::minutes(30), "participant": [
                {"actor": reference("Patient", id), "status": "accepted"},
                {"actor": reference("Practitioner", doctor.practitioner), "status": "accepted"}]})
    };
    world.record_only([booked(after(25 * 60)), booked(after(-26 * 60))]).await;
    assert_eq!(doctor.status(&world, &chart).await, 403);
    world.record_only([booked(after(23 * 60))]).await;
    assert_eq!((doctor.status(&world, &chart).await, colleague.status(&world, &chart).await), (200, 403));
}

/// A search finds everybody, and tells little of those whom the caller does not care for.
#[tokio::test]
async fn attack_an_over_broad_search_gathers_no_identities() {
    let world = World::new().await;
    let (known, stranger) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(known, "Cormier", "Chi", "1959-07-30")]).await;
    world.record_only([patient(stranger, "Cormier", "Ida", "1960-07-30")]).await;
    for item in world.get(Role::Nurse, "/v1/patients?name=cormier").await.items() {
        let limited = item["id"] == json!(stranger);
        assert_eq!((&item["limited"], item["identifiers"] == json!([])), (&json!(limited), limited), "{item}");
        assert!(item["birthDate"].is_string());
    }
    let detail = world.get(Role::Nurse, &format!("/v1/patients/{stranger}")).await.json();
    assert_eq!((&detail["limited"], &detail["address"], &detail["telecom"]), (&json!(true), &json!([]), &json!([])));
    let items = world.get(Role::Registrar, "/v1/patients?name=cormier").await.items();
    assert!(items.iter().all(|item| item["limited"] == false && item["identifiers"] != json!([])), "{items:?}");
    for nothing in ["/v1/patients", "/v1/patients?name=", "/v1/patients?name=%25", "/v1/patients?mrn="] {
        assert_eq!(world.get(Role::Registrar, nothing).await.problem(), "invalid-parameter", "{nothing}");
    }
}

#[tokio::test]
async fn what_is_restricted_leaves_no_trace_in_a_list() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let (doctor, nurse) = (Clinician::new(&world, Role::Physician), Clinician::new(&world, Role::Nurse));
    let colleague = Clinician::new(&world, Role::Physician);
    let hidden: Vec<Value> = (0..8)
        .map(|round| {
            let made = condition(Uuid::new_v4(), id, &format!("{round}"), "active", "2020-01-01");
            labelled(made, if round % 2 == 0 { "R" } else { "V" })
        })
        .collect();
    let mut heart_rate = json!({"resourceType": "Observation", "id": Uuid::new_v4(), "status": "final",
        "subject": reference("Patient", id), "effectiveDateTime": "2020-01-01T10:00:00Z",
        "code": {"coding": [{"code": "8867-4"}]}, "valueQuantity": {"value": 72}});
    heart_rate = labelled(heart_rate, "R");
    let mut visit = encounter(id, "in-progress", Some(doctor.practitioner), Some(colleague.organization));
    visit["participant"] = json!([{"individual": reference("Practitioner", doctor.practitioner)},
            {"individual": reference("Practitioner", nurse.practitioner)}]);
    world.record_only([patient(id, "Cormier", "Chi", "1959-07-30"), visit, heart_rate]).await;
    world.record_only(hidden.clone()).await;
    world.record_only([condition(Uuid::new_v4(), id, "plain", "active", "2019-01-01")]).await;

    let problems = format!("/v1/patients/{id}/chart?section=problems&limit=1");
    for (who, count) in [(&doctor, 9), (&nurse, 5), (&colleague, 1)] {
        let mut seen = 0;
        let mut cursor = String::new();
        loop {
            let page = who.get(&world, &format!("{problems}{cursor}")).await.json();
            let section = &page["sections"][0];
            assert_eq!(section["items"].as_array().unwrap().len(), 1, "no page is short");
            seen += 1;
            match section["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, count);
        // Patient and encounter besides; the heart rate is restricted.
        let timeline = who.get(&world, &format!("/v1/patients/{id}/timeline?limit=100")).await.items();
        let heart_rates = usize::from(count > 1);
        assert_eq!(timeline.len(), count + 2 + heart_rates);
        let values = who.get(&world, &format!("/v1/patients/{id}/vital-signs")).await.items();
        assert_eq!(values.len(), heart_rates);
    }
    let path = |resource: &Value| format!("/fhir/Condition/{}", resource["id"].as_str().unwrap());
    let (restricted, very) = (path(&hidden[0]), path(&hidden[1]));
    let statuses = async |who: &Clinician| (who.status(&world, &restricted).await, who.status(&world, &very).await);
    assert_eq!(statuses(&doctor).await, (200, 200));
    assert_eq!(statuses(&nurse).await, (200, 404));
    assert_eq!(statuses(&colleague).await, (404, 404));
    let own = world.issuer.patient_token(id);
    assert_eq!(world.get_with(&own, &very, &[]).await.status, StatusCode::OK);
    let timeline = world.get(Role::Auditor, &format!("/v1/patients/{id}/timeline")).await.items();
    assert_eq!(timeline.len(), 3, "an auditor sees what happened, and nothing that is restricted");
}

pub fn consent(patient: Uuid, provision: Value) -> Value {
    let system = "http://terminology.hl7.org/CodeSystem/consentscope";
    json!({"resourceType": "Consent", "id": Uuid::new_v4(), "status": "active", "patient": reference("Patient", patient),
        "scope": {"coding": [{"system": system, "code": "patient-privacy"}]}, "category": [{"text": "x"}],
        "provision": provision})
}

fn actor(resource_type: &str, id: Uuid) -> Value {
    json!([{"role": {"text": "x"}, "reference": reference(resource_type, id)}])
}

#[tokio::test]
async fn attack_a_consent_withdrawn_between_two_requests_counts_at_once() {
    let world = World::new().await;
    let (id, doctor) = (Uuid::new_v4(), Clinician::new(&world, Role::Physician));
    world.record_only([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let chart = format!("/v1/patients/{id}/chart");
    let mut permit = consent(id, json!({"type": "permit", "actor": actor("Practitioner", doctor.practitioner)}));
    world.record_only([permit.clone()]).await;
    assert_eq!(doctor.status(&world, &chart).await, 200);
    permit["status"] = json!("inactive");
    world.apply(&[world.event("Withdrawn", permit, json!({"reason": null})).await]).await;
    assert_eq!(doctor.get(&world, &chart).await.problem(), "no-care-relationship");
    // Who shows the position of a withdrawal is not answered before it is seen.
    let headers = [("nexus-position", "3-1"), ("nexus-wait-ms", "1")];
    let behind = world.get_with(&doctor.token, &chart, &headers).await;
    assert_eq!(behind.problem(), "read-model-behind");
}

#[tokio::test]
async fn a_consent_keeps_out_whom_it_names_and_what_it_matches() {
    let world = World::new().await;
    let (id, doctor) = (Uuid::new_v4(), Clinician::new(&world, Role::Physician));
    let colleague = Clinician::new(&world, Role::Physician);
    let visit = encounter(id, "in-progress", Some(doctor.practitioner), Some(colleague.organization));
    let problem = condition(Uuid::new_v4(), id, "1", "active", "2020-01-01");
    world.record_only([patient(id, "Cormier", "Chi", "1959-07-30"), visit, problem.clone()]).await;
    let problem = format!("/fhir/Condition/{}", problem["id"].as_str().unwrap());
    let chart = format!("/v1/patients/{id}/chart");
    let problems = async |who: &Clinician| {
        let chart = who.get(&world, &format!("{chart}?section=problems")).await.json();
        chart["sections"][0]["items"].as_array().map(Vec::len)
    };
    // One class of resources, kept from one of them.
    let mut some = consent(
        id,
        json!({"type": "deny", "actor": actor("Practitioner", doctor.practitioner),
        "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}]}),
    );
    world.record_only([some.clone()]).await;
    assert_eq!((problems(&doctor).await, problems(&colleague).await), (Some(0), Some(1)));
    assert_eq!((doctor.status(&world, &problem).await, colleague.status(&world, &problem).await), (404, 200));
    some["status"] = json!("inactive");
    world.apply(&[world.event("Withdrawn", some, json!({"reason": null})).await]).await;
    assert_eq!(problems(&doctor).await, Some(1));
    // Everything, kept from everybody.
    world.record_only([consent(id, json!({"type": "deny"}))]).await;
    assert_eq!((doctor.status(&world, &chart).await, colleague.status(&world, &chart).await), (404, 404));
    let own = world.issuer.patient_token(id);
    assert_eq!(world.get_with(&own, &chart, &[]).await.status, StatusCode::OK);
}

/// A denial by one code hides what bears it beside others, wherever it is shown and under whichever of its codes.
#[tokio::test]
async fn a_denial_by_any_coding_hides_all_of_it() {
    let world = World::new().await;
    let (id, doctor) = (Uuid::new_v4(), Clinician::new(&world, Role::Physician));
    let visit = encounter(id, "in-progress", Some(doctor.practitioner), None);
    let mut problem = condition(Uuid::new_v4(), id, "1", "active", "2020-01-01");
    problem["code"] = json!({"coding": [{"code": "B20"}, {"code": "86406008"}]});
    let observation = |code: Value, more: Value| {
        let mut observation = json!({"resourceType": "Observation", "id": Uuid::new_v4(), "status": "final",
            "subject": reference("Patient", id), "effectiveDateTime": "2020-01-01T10:00:00Z", "code": code});
        for (name, value) in more.as_object().unwrap() {
            observation[name] = value.clone();
        }
        observation
    };
    let rate = observation(
        json!({"coding": [{"code": "8867-4"}, {"code": "364075005"}]}),
        json!({"valueQuantity": {"value": 72}}),
    );
    let component = |codes: Value, value: i32| json!({"code": {"coding": codes}, "valueQuantity": {"value": value}});
    let pressure = observation(
        json!({"coding": [{"code": "85354-9"}]}),
        json!({"component": [
            component(json!([{"code": "8480-6"}]), 120),
            component(json!([{"code": "8462-4"}, {"code": "271650006"}]), 80),
        ]}),
    );
    let plain = observation(json!({"coding": [{"code": "8310-5"}]}), json!({"valueQuantity": {"value": 37}}));
    let resources =
        [patient(id, "Cormier", "Chi", "1959-07-30"), visit, problem.clone(), rate.clone(), pressure.clone()];
    world.record_only(resources).await;
    world.record_only([plain]).await;
    // Problems of the chart, the timeline, the newest values, and those of each code; then each resource by itself.
    let seen = async || {
        let chart = doctor.get(&world, &format!("/v1/patients/{id}/chart?section=problems")).await.json();
        let mut counts = vec![chart["sections"][0]["items"].as_array().unwrap().len()];
        counts.push(doctor.get(&world, &format!("/v1/patients/{id}/timeline")).await.items().len());
        for code in ["", "?code=8867-4", "?code=364075005", "?code=8480-6", "?code=8462-4", "?code=8310-5"] {
            let path = format!("/v1/patients/{id}/vital-signs{code}");
            counts.push(doctor.get(&world, &path).await.items().len());
        }
        let mut statuses = Vec::new();
        for resource in [&problem, &rate, &pressure] {
            let (kind, id) = (resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
            statuses.push(doctor.status(&world, &format!("/fhir/{kind}/{id}")).await);
        }
        (counts, statuses)
    };
    assert_eq!(seen().await, (vec![1, 6, 4, 1, 1, 1, 1, 1], vec![200, 200, 200]));
    let codes = ["86406008", "364075005", "271650006"].map(|code| json!({"coding": [{"code": code}]}));
    let denial = json!({"type": "deny", "actor": actor("Practitioner", doctor.practitioner), "code": codes});
    world.record_only([consent(id, denial)]).await;
    // The consent itself stands in the timeline.
    assert_eq!(seen().await, (vec![0, 4, 1, 0, 0, 0, 0, 1], vec![404, 404, 404]));
}

fn glass(patient: Uuid, practitioner: Uuid, from: DateTime<Utc>, until: DateTime<Utc>) -> Value {
    json!({"resourceType": "Task", "id": Uuid::new_v4(), "status": "requested", "for": reference("Patient", patient),
        "code": {"coding": [{"code": "BTG", "display": "break the glass"}]},
        "requester": {"reference": format!("Practitioner/{practitioner}"), "identifier": {"value": "the-account"}},
        "reasonCode": {"text": "Unconscious."}, "restriction": {"period": {"start": from, "end": until}}})
}

#[tokio::test]
async fn attack_broken_glass_is_whole_again_after_its_time() {
    let world = World::new().await;
    let (id, doctor) = (Uuid::new_v4(), Clinician::new(&world, Role::Physician));
    let (colleague, chart) = (Clinician::new(&world, Role::Physician), format!("/v1/patients/{id}/chart"));
    let secret = labelled(condition(Uuid::new_v4(), id, "1", "active", "2020-01-01"), "V");
    let path = format!("/fhir/Condition/{}", secret["id"].as_str().unwrap());
    let deny = consent(id, json!({"type": "deny"}));
    world.record_only([patient(id, "Cormier", "Chi", "1959-07-30"), secret, deny]).await;
    let opened = async |task: &Value| {
        world.apply(&[world.event_of("EmergencyAccess", "Opened", task.clone(), json!({"notes": []})).await]).await;
    };
    // A consent that keeps everybody out looks like no record at all, until the glass is broken.
    opened(&glass(id, doctor.practitioner, after(-61), after(-1))).await;
    assert_eq!(doctor.status(&world, &chart).await, 404, "its time is over");
    let mut task = glass(id, doctor.practitioner, after(-1), after(30));
    opened(&task).await;
    assert_eq!((doctor.status(&world, &chart).await, doctor.status(&world, &path).await), (200, 200));
    assert_eq!((colleague.status(&world, &chart).await, colleague.status(&world, &path).await), (404, 404));
    let nurse = world.issuer.token_of(Role::Nurse, doctor.practitioner, None);
    assert_eq!(world.get_with(&nurse, &chart, &[]).await.status, StatusCode::NOT_FOUND, "physicians only");
    let timeline = doctor.get(&world, &format!("/v1/patients/{id}/timeline")).await.items();
    assert!(timeline.iter().any(|entry| entry["code"] == "BTG"), "it is flagged: {timeline:?}");

    let cases = world.get(Role::Auditor, "/v1/emergency-accesses").await.items();
    assert_eq!(cases.len(), 2);
    let case = cases.iter().find(|case| case["id"] == task["id"]).unwrap();
    assert_eq!((&case["reason"], &case["account"]), (&json!("Unconscious."), &json!("the-account")));
    assert_eq!((&case["patient"], &case["practitioner"]), (&json!(id), &json!(doctor.practitioner)));
    task["status"] = json!("completed");
    task["lastModified"] = json!(after(0));
    task["note"] = json!([{"text": "Justified."}]);
    world.apply(&[world.event_of("EmergencyAccess", "Reviewed", task, json!({})).await]).await;
    assert_eq!(doctor.status(&world, &chart).await, 404, "the review ends it");
    assert_eq!(world.get(Role::Auditor, "/v1/emergency-accesses").await.items().len(), 1);
    let all = world.all_pages(Role::Auditor, "/v1/emergency-accesses?reviewed=true", 1).await;
    assert!(all.iter().any(|case| case["finding"] == "Justified."), "{all:?}");
}

#[tokio::test]
async fn attack_identity_in_headers_is_ignored() {
    let world = World::new().await;
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    world.record_only([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let owner = id.to_string();
    let smuggled = [
        ("x-user", "test-physician"),
        ("x-roles", "physician,auditor"),
        ("x-patient", owner.as_str()),
        ("x-forwarded-user", "admin"),
        ("forwarded", "for=127.0.0.1"),
        ("x-purpose-of-use", "ETREAT"),
        ("x-original-url", "/healthz"),
        ("x-http-method-override", "POST"),
    ];
    let (chart, stranger) = (format!("/v1/patients/{id}/chart"), world.issuer.patient_token(other));
    let nurse = world.issuer.token(Role::Nurse);
    for header in smuggled {
        assert_eq!(world.get_with(&stranger, &chart, &[header]).await.status, StatusCode::NOT_FOUND, "{header:?}");
        assert_eq!(world.get_with(&nurse, &chart, &[header]).await.problem(), "no-care-relationship", "{header:?}");
    }
}

/// The scopes of a token limit each list to what they cover.
#[tokio::test]
async fn attack_a_narrow_token_reads_no_more_than_its_scopes() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let problem = condition(Uuid::new_v4(), id, "1", "active", "2020-01-01");
    let visit = encounter(id, "finished", None, None);
    world.record([patient(id, "Cormier", "Chi", "1959-07-30"), problem.clone(), visit]).await;
    let with_scope = |scope: &str| {
        let mut claims = world.issuer.claims("app", &[Role::Patient], Some(id));
        claims["scope"] = json!(scope);
        world.issuer.mint(&claims)
    };
    let problem = format!("/fhir/Condition/{}", problem["id"].as_str().unwrap());
    let types = async |token: &str| {
        let items = world.get_with(token, &format!("/v1/patients/{id}/timeline"), &[]).await.items();
        items.iter().map(|item| item["resourceType"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let narrow = with_scope("openid patient/Encounter.rs");
    assert_eq!(types(&narrow).await, BTreeSet::from(["Encounter".to_owned()]));
    assert_eq!(world.get_with(&narrow, &problem, &[]).await.problem(), "forbidden");
    let vital_signs = format!("/v1/patients/{id}/vital-signs");
    assert_eq!(world.get_with(&narrow, &vital_signs, &[]).await.problem(), "forbidden");
    assert_eq!(types(&with_scope("openid fhirUser")).await.len(), 3);
    assert_eq!(world.get_with(&with_scope("patient/*.read"), &problem, &[]).await.status, StatusCode::OK);
    for useless in ["patient/*.sr", "system/*.cruds", "patient/Condition.rs?code=1"] {
        assert_eq!(world.get_with(&with_scope(useless), &problem, &[]).await.problem(), "forbidden", "{useless}");
    }
}
