//! Stored as it was sent, or refused: at every entrance, up to the largest resource, whatever the input.

use nexus_command_api::RESOURCE_BYTES_MAX;
use nexus_testkit::Role;
use nexus_testkit::corpus::{mutations, originals};
use nexus_web::json::{JsonLimits, check};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, bundle, create, errors, fhir_patient, fresh, post_bundle, statuses};

/// Inputs that are sent through the door, in bundles of so many.
const INPUTS: usize = 1_500;
const ENTRIES: usize = 250;

/// An entry with a document of a patient that has so many bytes.
fn document(patient: Uuid, bytes: usize) -> Value {
    let with = |data: &str| {
        json!({
            "resourceType": "DocumentReference", "id": Uuid::nil(), "status": "current",
            "subject": {"reference": format!("Patient/{patient}")},
            "content": [{"attachment": {"contentType": "application/pdf", "data": data}}]
        })
    };
    let mut document = with(&"A".repeat(bytes - with("").to_string().len()));
    document["id"] = json!(Uuid::new_v4());
    assert_eq!(document.to_string().len(), bytes);
    create(document)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_as_large_as_may_be_gets_into_kafka_and_one_byte_more_is_refused() {
    let mut world = World::start().await;
    world.start_relay().await;
    let patient = world.patient().await;
    let events = world.events().await;
    let large = bundle("transaction", &[document(patient, RESOURCE_BYTES_MAX)]).to_string();
    let post = |body: &str| {
        let request = world.service().request(Method::POST, "/fhir").header("content-type", "application/fhir+json");
        request.header("prefer", "wait=kafka").body(body.as_bytes().to_vec())
    };
    let taken = post(&large).answer().await.expect(200);
    assert_eq!(taken.header("preference-applied"), Some("wait=kafka"));
    let larger = bundle("transaction", &[document(patient, RESOURCE_BYTES_MAX + 1)]).to_string();
    let refused = post(&larger).answer().await.expect(422);
    let place = ("/entry/0/resource".to_owned(), "resource-too-large".to_owned());
    assert_eq!(errors(&refused.json()), [place]);
    assert_eq!(world.events().await, events + 1);

    // A scan that a nurse files by a task route.
    let mut scan = document(patient, 1_700_000)["resource"].clone();
    scan.as_object_mut().map(|members| members.remove("id"));
    world.caller(Role::Nurse).post(&format!("/v1/patients/{patient}/records"), &scan).await.expect(201);
}

/// Wherever a body has a place for a member, none by a name that means something to the parser gets in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_the_parser_get_in_nowhere() {
    let world = World::start().await;
    let patient = world.patient().await;
    let events = world.events().await;
    let entry = create(fhir_patient(Uuid::new_v4(), &fresh("mrn")));
    let whole = bundle("transaction", &[entry]);
    let places = [
        "",
        "/entry/0",
        "/entry/0/request",
        "/entry/0/resource",
        "/entry/0/resource/name/0",
        "/entry/0/resource/identifier/0/type",
    ];
    let hidden = format!("\"{}\"", "[".repeat(120) + &"]".repeat(120));
    let private = ["$serde_json::private::Number", "\\u0024serde_json::private::RawValue"];
    for (place, name) in places.iter().flat_map(|place| private.map(|name| (place, name))) {
        for value in ["\"17\"", hidden.as_str()] {
            let mut sent = whole.clone();
            sent.pointer_mut(place).expect("a place")["placeholder"] = json!("here");
            let text = sent.to_string().replace("\"placeholder\":\"here\"", &format!("\"{name}\":{value}"));
            let answer = world.service().post_fhir(text, &Uuid::new_v4().to_string()).await.expect(400);
            assert_eq!(errors(&answer.json()), [((*place).to_owned(), "reserved-name".to_owned())], "{name}");
        }
    }
    let tasks = [
        (
            format!("/v1/patients/{patient}/records"),
            r#"{"resourceType":"Procedure","note":[{"NAME":"{}"}]}"#,
            "/note/0",
        ),
        (format!("/v1/patients/{patient}/observations"), r#"{"value":{"value":{"NAME":"1"}}}"#, "/value/value"),
        ("/v1/patients".to_owned(), r#"{"NAME":"1"}"#, ""),
    ];
    for ((path, body, place), name) in tasks.iter().flat_map(|task| private.map(|name| (task, name))) {
        let caller = world.caller(if path.ends_with("patients") { Role::Registrar } else { Role::Nurse });
        let request = caller.request(Method::POST, path).header("content-type", "application/json");
        let body = body.replace("NAME", name).into_bytes();
        let answer =
            request.header("idempotency-key", Uuid::new_v4().to_string()).body(body).answer().await.expect(400);
        assert_eq!(errors(&answer.json()), [((*place).to_owned(), "reserved-name".to_owned())], "{path}");
    }
    assert_eq!(world.events().await, events, "nothing of it is stored");
}

/// AuditEvents are those of the access log; one that is sent could be read by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_trail_of_another_system_stays_there() {
    let world = World::start().await;
    let patient = world.patient().await;
    let event = json!({
        "resourceType": "AuditEvent", "id": Uuid::new_v4(), "recorded": "2021-03-04T05:06:07Z",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "agent": [{"requestor": true}], "source": {"observer": {"display": "Elsewhere"}},
        "entity": [{"what": {"reference": format!("Patient/{patient}")}}]
    });
    let answer = post_bundle(&world.service(), &bundle("batch", &[create(event)])).await.expect(200);
    let body = answer.json();
    let outcome = &body["entry"][0]["response"]["outcome"]["issue"][0];
    assert_eq!(statuses(&answer), ["422 Unprocessable Entity"]);
    assert_eq!(outcome["details"]["coding"][0]["code"], "unsupported-type");
}

/// A sample of the corpus that takes the way through the door and into the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_answers_for_each_input_by_itself() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    let events = world.events().await;
    let (mut taken, mut refused) = (0, 0);
    let inputs = mutations(&originals(), INPUTS, 17);
    for chunk in inputs.chunks(ENTRIES) {
        let entries: Vec<String> = chunk
            .iter()
            .filter(|sample| {
                check(sample.text.as_bytes(), JsonLimits { depth_max: 60, ..JsonLimits::default() }).is_ok()
            })
            .filter_map(|sample| serde_json::from_str(&sample.text).ok())
            .map(|resource| entry_of(resource, patient).to_string())
            .collect();
        let body = format!(r#"{{"resourceType":"Bundle","type":"batch","entry":[{}]}}"#, entries.join(","));
        let answer = service.post_fhir(body, &Uuid::new_v4().to_string()).await.expect(200);
        let statuses = statuses(&answer);
        assert_eq!(statuses.len(), entries.len());
        taken += statuses.iter().filter(|status| status.starts_with("201")).count();
        refused += statuses.iter().filter(|status| status.starts_with("422") || status.starts_with("409")).count();
        assert!(statuses.iter().all(|status| ["201", "422", "409"].iter().any(|known| status.starts_with(known))));
    }
    assert!(taken > 200 && refused > 50, "{taken} taken, {refused} refused");
    assert_eq!(world.events().await, events + i64::try_from(taken).expect("a count"));
}

/// The resource as an entry, with references that lead to the one patient who is there.
fn entry_of(mut resource: Value, patient: Uuid) -> Value {
    let kind = resource["resourceType"].as_str().unwrap_or("Basic").to_owned();
    lead_to(patient, &mut resource);
    if let Some(members) = resource.as_object_mut() {
        members.insert("id".to_owned(), json!(Uuid::new_v4()));
    }
    json!({"resource": resource, "request": {"method": "POST", "url": kind}})
}

fn lead_to(patient: Uuid, value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| lead_to(patient, item)),
        Value::Object(members) => {
            for (name, child) in members {
                match child {
                    Value::String(text) if name == "reference" && !text.starts_with('#') => {
                        *text = format!("Patient/{patient}");
                    }
                    child => lead_to(patient, child),
                }
            }
        }
        _ => {}
    }
}
