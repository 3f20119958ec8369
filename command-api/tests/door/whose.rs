//! Whose a resource is: what it says decides, and what it is linked to; nothing is guessed from what else is in a bundle.

use nexus_testkit::Answer;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, bundle, create, errors, fhir_observation, fhir_patient, fresh, post_bundle, statuses};

fn reference(resource_type: &str, id: Uuid) -> Value {
    json!({"reference": format!("{resource_type}/{id}")})
}

fn named(resource_type: &str, id: Uuid, more: Value) -> Value {
    let mut resource = json!({"resourceType": resource_type, "id": id});
    for (name, value) in more.as_object().expect("elements") {
        resource[name] = value.clone();
    }
    resource
}

fn replace(resource: Value) -> Value {
    let text = |name: &str| resource[name].as_str().expect("a text");
    let url = format!("{}/{}", text("resourceType"), text("id"));
    json!({"resource": resource, "request": {"method": "PUT", "url": url}})
}

/// The rule that each entry of a batch broke; nothing for those that were taken.
fn broken(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let entries = body["entry"].as_array().cloned().expect("a bundle of entries");
    let rule = |entry: Value| {
        let issue = &entry["response"]["outcome"]["issue"][0];
        issue["details"]["coding"][0]["code"].as_str().unwrap_or_default().to_owned()
    };
    entries.into_iter().map(rule).collect()
}

/// Where the log keeps a resource, and whose it is.
async fn kept(world: &World, id: Uuid) -> (String, Uuid) {
    let ask = |column: &str| format!("select {column}::text from events where aggregate_id = '{id}' limit 1");
    let subject = world.ask_log::<String>(&ask("subject")).await;
    (world.ask_log::<String>(&ask("aggregate_type")).await, subject.parse().expect("a UUID"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_about_a_place_is_not_the_only_patients() {
    let world = World::start().await;
    let service = world.service();
    let [one, place, herd, cold, tired, own] = [(); 6].map(|()| Uuid::new_v4());
    let about = |id, resource_type: &str, of| {
        let mut observation = fhir_observation(id, &format!("{resource_type}/{of}"));
        observation["code"]["coding"][0]["code"] = json!("60832-3");
        observation
    };
    let mut fridge = about(cold, "Location", place);
    fridge["performer"] = json!([reference("Patient", one)]);
    let entries = [
        create(fhir_patient(one, &fresh("mrn"))),
        create(named("Location", place, json!({"name": "Cold store"}))),
        create(named("Group", herd, json!({"type": "animal", "actual": true, "name": "Sheep"}))),
        create(fridge.clone()),
        create(about(tired, "Group", herd)),
        create(fhir_observation(own, &format!("Patient/{one}"))),
    ];
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created"; 6]);
    assert_eq!(kept(&world, own).await, ("Observation".to_owned(), one));
    for id in [cold, tired] {
        assert_eq!(kept(&world, id).await, ("DirectoryEntry".to_owned(), id));
    }
    let again = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&again), ["200 OK"; 6]);

    // Nothing becomes a patient's, or stops being one's, by a later version.
    let mut hers = fridge.clone();
    hers["subject"] = reference("Patient", one);
    let mut nobodys = fhir_observation(own, &format!("Location/{place}"));
    nobodys["status"] = json!("amended");
    let answer = post_bundle(&service, &bundle("batch", &[replace(hers), replace(nobodys)])).await.expect(200);
    assert_eq!(broken(&answer), ["subject-changed"; 2]);
    fridge["status"] = json!("amended");
    let delete = json!({"request": {"method": "DELETE", "url": format!("Observation/{cold}")}});
    for entry in [replace(fridge), delete] {
        post_bundle(&service, &bundle("transaction", &[entry])).await.expect(200);
    }
    assert_eq!(world.events().await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_guessed_for_what_names_nobody() {
    let world = World::start().await;
    let service = world.service();
    let one = Uuid::new_v4();
    let says = |resource_type: &str, more: Value| create(named(resource_type, Uuid::new_v4(), more));
    let mut unnamed = fhir_observation(Uuid::new_v4(), "x");
    unnamed.as_object_mut().unwrap().remove("subject");
    unnamed["performer"] = json!([reference("Patient", one)]);
    let entries = [
        create(fhir_patient(one, &fresh("mrn"))),
        create(unnamed),
        says("Procedure", json!({"status": "completed", "subject": {"display": "Ada"}})),
        says("Communication", json!({"status": "completed", "sender": reference("Patient", one)})),
        says("Binary", json!({"contentType": "text/plain", "data": "QQ=="})),
        says("Subscription", json!({"status": "requested"})),
        says("AuditEvent", json!({"recorded": "2020-01-01T00:00:00Z"})),
    ];
    let answer = post_bundle(&service, &bundle("batch", &entries)).await.expect(200);
    let missing = "no-patient";
    assert_eq!(broken(&answer), ["", missing, missing, missing, missing, "unsupported-type", "unsupported-type"]);
    let refused = post_bundle(&service, &bundle("transaction", &entries[..4])).await;
    let found = errors(&refused.problem(422, "invalid-value"));
    assert_eq!(found.iter().map(|(_, rule)| rule.as_str()).collect::<Vec<_>>(), [missing; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_linked_to_others_belongs_to_them() {
    let world = World::start().await;
    let service = world.service();
    let (one, other) = (world.stranger().await, world.stranger().await);
    let [pulse, foreign, place] = [(); 3].map(|()| Uuid::new_v4());
    let before = [
        create(fhir_observation(pulse, &format!("Patient/{one}"))),
        create(fhir_observation(foreign, &format!("Patient/{other}"))),
        create(named("Location", place, json!({"name": "Ward 9"}))),
    ];
    post_bundle(&service, &bundle("transaction", &before)).await.expect(200);
    let [list, origin, house, mixed, various, person, crowd] = [(); 7].map(|()| Uuid::new_v4());
    let item = |id| json!({"item": reference("Observation", id)});
    let provenance = |id, targets: Value| {
        create(named("Provenance", id, json!({"target": targets, "recorded": "2024-01-01T00:00:00Z"})))
    };
    let entries = [
        // To a list, which is the patient's by what it lists, and comes with it.
        provenance(origin, json!([reference("List", list)])),
        create(named("List", list, json!({"status": "current", "mode": "working", "entry": [item(pulse)]}))),
        provenance(house, json!([reference("Location", place)])),
        create(named("Person", person, json!({"link": [{"target": reference("Patient", other)}]}))),
        create(named(
            "Group",
            crowd,
            json!({"type": "person", "actual": true, "member": [
            {"entity": reference("Patient", one)}, {"entity": reference("Patient", other)}]}),
        )),
    ];
    post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    let record = |of: Uuid| ("ClinicalRecord".to_owned(), of);
    assert_eq!(kept(&world, origin).await, record(one));
    assert_eq!(kept(&world, list).await, record(one));
    assert_eq!(kept(&world, person).await, record(other));
    for id in [house, crowd] {
        assert_eq!(kept(&world, id).await, ("DirectoryEntry".to_owned(), id));
    }
    let several = [
        provenance(mixed, json!([reference("Observation", pulse), reference("Observation", foreign)])),
        create(named(
            "List",
            various,
            json!({"status": "current", "mode": "working", "entry": [item(pulse), item(foreign)]}),
        )),
    ];
    let answer = post_bundle(&service, &bundle("batch", &several)).await.expect(200);
    assert_eq!(broken(&answer), ["several-patients"; 2]);
}

/// A device that says nothing of a patient was filed as one's, by a command that says whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_record_stays_there() {
    let world = World::start().await;
    let service = world.service();
    let one = world.stranger().await;
    let (device, spare) = (Uuid::new_v4(), Uuid::new_v4());
    let pump = |id| named("Device", id, json!({"status": "active", "type": {"text": "Pump"}}));
    let file = format!("/v1/patients/{one}/records");
    service.post(&file, &pump(device)).await.expect(201);
    let again = post_bundle(&service, &bundle("transaction", &[create(pump(device))])).await.expect(200);
    assert_eq!(statuses(&again), ["200 OK"]);
    let mut broken_pump = pump(device);
    broken_pump["status"] = json!("inactive");
    post_bundle(&service, &bundle("transaction", &[replace(broken_pump)])).await.expect(200);
    assert_eq!(world.ask_log::<i64>("select count(*) from events where aggregate_type = 'DirectoryEntry'").await, 0);

    // The house's own goes by the directory's route, and is nobody's for good.
    service.post("/v1/directory", &pump(spare)).await.expect(201);
    assert_eq!(kept(&world, spare).await, ("DirectoryEntry".to_owned(), spare));
    service.post(&file, &pump(spare)).await.problem(409, "rule-violated");
    service.post("/v1/directory", &pump(device)).await.problem(409, "rule-violated");
    let about =
        json!({"resourceType": "Basic", "code": {"text": "x"}, "subject": {"type": "Location", "display": "Ward"}});
    service.post(&file, &about).await.problem(422, "invalid-value");
    service.post("/v1/directory", &about).await.expect(201);
}

/// A record number says who it is as well as an id does; a number that nobody bears does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_number_names_the_patient() {
    let world = World::start().await;
    let service = world.service();
    let [one, pulse, visit, nobody] = [(); 4].map(|()| Uuid::new_v4());
    let mrn = fresh("mrn");
    post_bundle(&service, &bundle("transaction", &[create(fhir_patient(one, &mrn))])).await.expect(200);
    let subject = |value: &str| json!({"identifier": {"system": "urn:hospital", "value": value}});
    let mut observation = fhir_observation(pulse, "x");
    observation["subject"] = subject(&mrn);
    let procedure =
        |id, value: &str| create(named("Procedure", id, json!({"status": "completed", "subject": subject(value)})));
    let entries = [create(observation), procedure(visit, &mrn), procedure(nobody, "of nobody")];
    let answer = post_bundle(&service, &bundle("batch", &entries)).await.expect(200);
    assert_eq!(broken(&answer), ["", "", "no-patient"]);
    assert_eq!(kept(&world, pulse).await, ("Observation".to_owned(), one));
    assert_eq!(kept(&world, visit).await, ("ClinicalRecord".to_owned(), one));
}
