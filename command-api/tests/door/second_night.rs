//! An export that comes again, with changes: what is newer replaces what stands, the rest adds nothing or is refused by name.

use nexus_testkit::{Answer, Caller, Role};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, bundle, create, fhir_observation, fhir_patient, fresh, id_of, post_bundle, statuses};

/// A resource as it was at some hour of one night in 2033.
fn at(hour: u32, mut resource: Value) -> Value {
    resource["meta"] = json!({"lastUpdated": format!("2033-03-04T{hour:02}:00:00Z")});
    resource
}

fn measured(mut observation: Value, value: i64) -> Value {
    observation["valueQuantity"]["value"] = json!(value);
    observation
}

fn put(resource: Value) -> Value {
    let text = |name: &str| resource[name].as_str().unwrap_or_default();
    let url = format!("{}/{}", text("resourceType"), text("id"));
    json!({"resource": resource, "request": {"method": "PUT", "url": url}})
}

/// The rules that entries of an answer name, one list for each.
fn rules(answer: &Answer) -> Vec<Vec<String>> {
    let code = |issue: &Value| issue["details"]["coding"][0]["code"].as_str().unwrap_or_default().to_owned();
    let of = |entry: &Value| {
        entry["response"]["outcome"]["issue"].as_array().into_iter().flatten().map(code).collect::<Vec<_>>()
    };
    answer.json()["entry"].as_array().into_iter().flatten().map(of).collect()
}

async fn send(service: &Caller, kind: &str, entries: &[Value]) -> Answer {
    post_bundle(service, &bundle(kind, entries)).await
}

/// The only rule of the only entry of a batch, or of the refusal of a transaction.
async fn refusal(service: &Caller, entry: &Value) -> [String; 2] {
    let alone = send(service, "batch", std::slice::from_ref(entry)).await.expect(200);
    assert_eq!(statuses(&alone), ["409 Conflict"]);
    let whole = send(service, "transaction", std::slice::from_ref(entry)).await.problem(409, "rule-violated");
    [rules(&alone)[0][0].clone(), whole["rule"].as_str().unwrap_or_default().to_owned()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_newer_replaces_and_the_rest_adds_nothing() {
    for kind in ["batch", "transaction"] {
        let world = World::start().await;
        let service = world.service();
        let patient = at(1, fhir_patient(Uuid::new_v4(), &fresh("mrn")));
        let observation = fhir_observation(Uuid::new_v4(), &format!("Patient/{}", patient["id"].as_str().unwrap()));
        send(&service, kind, &[create(patient.clone())]).await.expect(200);
        send(&service, kind, &[create(at(1, observation.clone()))]).await.expect(200);

        let unchanged = [create(patient.clone()), create(at(2, observation.clone()))];
        let answer = send(&service, kind, &unchanged).await.expect(200);
        assert_eq!((rules(&answer), world.events().await), (vec![vec![], vec![]], 2), "{kind}");

        let mut moved = at(2, patient.clone());
        moved["telecom"] = json!([{"system": "phone", "value": "+43 1 0000"}]);
        let changed = [create(moved), create(at(3, measured(observation.clone(), 81)))];
        let answer = send(&service, kind, &changed).await.expect(200);
        assert_eq!(statuses(&answer), ["200 OK", "200 OK"]);
        assert!(rules(&answer).iter().all(|rules| rules[0] == "updated"), "{kind}: {answer:?}");
        assert_eq!(world.events().await, 4);
        // What was first filed comes back as news only if it says so.
        send(&service, kind, &[create(at(1, observation.clone()))]).await.expect(200);
        assert_eq!(world.events().await, 4);
        send(&service, kind, &[create(at(4, observation))]).await.expect(200);
        assert_eq!(world.events().await, 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_or_says_no_age_is_refused_by_name() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    let observation = fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}"));
    send(&service, "batch", &[create(at(5, observation.clone()))]).await.expect(200);
    let before = world.events().await;
    for stale in [create(at(4, measured(observation.clone(), 90))), put(at(4, measured(observation.clone(), 91)))] {
        assert_eq!(refusal(&service, &stale).await, ["older-than-stored"; 2]);
    }
    let same = create(at(5, measured(observation.clone(), 92)));
    assert_eq!(refusal(&service, &same).await, ["older-than-stored"; 2]);
    let silent = create(measured(observation.clone(), 93));
    assert_eq!(refusal(&service, &silent).await, ["already-recorded"; 2]);
    assert_eq!(world.events().await, before);
    // A PUT that does not say that it is older is an explicit wish.
    send(&service, "batch", &[put(measured(observation.clone(), 94))]).await.expect(200);
    assert_eq!(world.events().await, before + 1);
    let wished = json!("W/\"2\"");
    let mut stale = put(at(1, measured(observation, 95)));
    stale["request"]["ifMatch"] = wished;
    let answer = send(&service, "batch", &[stale]).await.expect(200);
    assert_eq!((rules(&answer)[0][0].as_str(), world.events().await), ("updated", before + 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_a_version_decides_where_no_time_does() {
    let world = World::start().await;
    let service = world.service();
    let versioned = |resource: &Value, version: &str, gender: &str| {
        let mut resource = resource.clone();
        (resource["meta"], resource["gender"]) = (json!({"versionId": version}), json!(gender));
        create(resource)
    };
    let silent = fhir_patient(Uuid::new_v4(), &fresh("mrn"));
    send(&service, "batch", &[create(silent.clone())]).await.expect(200);
    let first = send(&service, "batch", &[versioned(&silent, "9", "other")]).await.expect(200);
    assert_eq!(rules(&first), [["updated", "version-first-stated"]]);
    let second = send(&service, "batch", &[versioned(&silent, "10", "male")]).await.expect(200);
    assert_eq!(rules(&second), [["updated"]]);
    assert_eq!(refusal(&service, &versioned(&silent, "9", "unknown")).await, ["older-than-stored"; 2]);
}

/// What was decided here after the export was made is not undone by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_taken_here_is_as_old_as_its_record() {
    let world = World::start().await;
    let service = world.service();
    let id = Uuid::new_v4();
    let mut exported = fhir_patient(id, &fresh("mrn"));
    exported["meta"] = json!({"lastUpdated": "2019-09-09T09:09:09Z"});
    send(&service, "batch", &[create(exported.clone())]).await.expect(200);
    let renamed = json!({"names": [{"family": "Decided", "given": ["Here"]}]});
    world.caller(Role::Registrar).put(&format!("/v1/patients/{id}"), &renamed).await.expect(200);
    exported["meta"] = json!({"lastUpdated": "2019-10-10T09:09:09Z"});
    exported["gender"] = json!("other");
    assert_eq!(refusal(&service, &create(exported.clone())).await, ["older-than-stored"; 2]);
    exported["meta"] = json!({"lastUpdated": "2199-10-10T09:09:09Z"});
    let answer = send(&service, "batch", &[create(exported)]).await.expect(200);
    assert_eq!(rules(&answer)[0][0], "updated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_clinic_refuses_nobodys_bundle() {
    let world = World::start().await;
    let service = world.service();
    let clinic = json!({"resourceType": "Location", "id": Uuid::new_v4(), "name": "Ward 7", "status": "active"});
    let with = |clinic: &Value| {
        let entries = [create(fhir_patient(Uuid::new_v4(), &fresh("mrn"))), create(clinic.clone())];
        let service = service.clone();
        async move { send(&service, "transaction", &entries).await.expect(200) }
    };
    let reachable = |clinic: Value, number: &str| {
        let mut clinic = clinic;
        clinic["telecom"] = json!([{"system": "phone", "value": number}]);
        clinic
    };
    with(&clinic).await;
    // Nothing says which is newer: the last to come is taken, and the first copy is known when it comes again.
    assert_eq!(rules(&with(&reachable(clinic.clone(), "1")).await)[1], ["updated"]);
    assert_eq!(rules(&with(&clinic).await)[1], Vec::<String>::new());
    assert_eq!(rules(&with(&at(6, reachable(clinic.clone(), "2"))).await)[1], ["updated", "version-first-stated"]);
    assert_eq!(rules(&with(&at(7, reachable(clinic.clone(), "3"))).await)[1], ["updated"]);
    let before = world.events().await;
    assert_eq!(rules(&with(&at(5, reachable(clinic.clone(), "4"))).await)[1], ["older-than-stored"]);
    assert_eq!(rules(&with(&reachable(clinic.clone(), "5")).await)[1], ["already-recorded"]);
    assert_eq!(world.events().await, before + 2, "the patients, and nothing of the clinic");
    // By itself it is nobody's bundle.
    let alone = create(at(5, reachable(clinic, "6")));
    let answer = send(&service, "batch", &[alone]).await.expect(200);
    assert_eq!(statuses(&answer), ["409 Conflict"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_that_several_bear_leads_to_none_of_them() {
    let world = World::start().await;
    let service = world.service();
    let named = |name: &str| {
        json!({"resourceType": "Organization", "id": Uuid::new_v4(), "name": name,
            "identifier": [{"system": "urn:vat", "value": "AT-77"}]})
    };
    let patient = world.patient().await;
    let visit = || {
        create(json!({"resourceType": "Encounter", "id": Uuid::new_v4(), "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": {"reference": format!("Patient/{patient}")},
            "serviceProvider": {"reference": "Organization?identifier=urn:vat|AT-77"}}))
    };
    let (house, branch) = (named("House"), named("Branch"));
    send(&service, "transaction", &[create(house.clone())]).await.expect(200);
    send(&service, "transaction", &[visit()]).await.expect(200);
    // In one bundle, in another one, and by a command.
    send(&service, "transaction", &[create(branch.clone()), create(named("Kiosk"))]).await.expect(200);
    let shop = id_of(&service.post("/v1/directory", &named("Shop")).await.expect(201));
    send(&service, "batch", &[create(named("Stall"))]).await.expect(200);

    let mut once = create(named("Another"));
    once["request"]["ifNoneExist"] = json!("identifier=urn:vat|AT-77");
    for entry in [visit(), once] {
        let alone = send(&service, "batch", std::slice::from_ref(&entry)).await.expect(200);
        assert_eq!(statuses(&alone), ["412 Precondition Failed"]);
        let whole = send(&service, "transaction", &[entry]).await.problem(412, "rule-violated");
        assert_eq!(whole["rule"], "several-bearers");
    }
    assert!(world.ask_log::<i64>("select count(*) from claims where kind = 'directory-identifier'").await >= 4);
    assert_ne!(shop, Uuid::nil());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_leads_to_the_only_one_who_bears_it_still() {
    let world = World::start().await;
    let service = world.service();
    let role = |numbers: &[&str]| {
        let identifiers: Vec<Value> = numbers.iter().map(|it| json!({"system": "urn:staff", "value": it})).collect();
        json!({"resourceType": "PractitionerRole", "id": Uuid::new_v4(), "code": [{"text": "surgeon"}],
            "identifier": identifiers})
    };
    let (one, mut other) = (role(&["5"]), role(&["5", "6"]));
    send(&service, "transaction", &[create(one.clone()), create(other.clone())]).await.expect(200);
    let lookup = || {
        let mut entry = create(role(&["5"]));
        entry["request"]["ifNoneExist"] = json!("identifier=urn:staff|5");
        entry
    };
    assert_eq!(statuses(&send(&service, "batch", &[lookup()]).await), ["412 Precondition Failed"]);
    other["identifier"] = json!([{"system": "urn:staff", "value": "6"}]);
    send(&service, "transaction", &[put(other)]).await.expect(200);
    let answer = send(&service, "batch", &[lookup()]).await.expect(200);
    let place = format!("PractitionerRole/{}", one["id"].as_str().unwrap());
    assert_eq!(answer.json()["entry"][0]["response"]["location"], place);
}

fn numbered(id: Uuid, numbers: &[(&str, &str)], link: Option<(&str, Uuid)>) -> Value {
    let mut patient = fhir_patient(id, "x");
    let kind = patient["identifier"][0]["type"].clone();
    let number = |(value, usage): &(&str, &str)| json!({"type": kind, "system": "urn:h", "value": value, "use": usage});
    patient["identifier"] = json!(numbers.iter().map(number).collect::<Vec<_>>());
    if let Some((kind, other)) = link {
        patient["link"] = json!([{"type": kind, "other": {"reference": format!("Patient/{other}")}}]);
    }
    patient
}

/// HL7 v2 A40: the survivor bears the old number, too, and the replaced record keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_is_taken_and_followed() {
    let world = World::start().await;
    let service = world.service();
    let [old, new, third] = [(); 3].map(|()| Uuid::new_v4());
    // The survivor comes first, beside the other record as it was; then the merge, then a second one.
    let survivor = numbered(new, &[("2", "usual"), ("1", "usual")], Some(("replaces", old)));
    let before = numbered(old, &[("1", "usual")], None);
    send(&service, "transaction", &[create(survivor), create(before)]).await.expect(200);
    let replaced = numbered(old, &[("1", "old")], Some(("replaced-by", new)));
    send(&service, "transaction", &[put(replaced)]).await.expect(200);
    let entries = [
        create(numbered(third, &[("3", "usual"), ("2", "old"), ("1", "old")], Some(("replaces", new)))),
        put(numbered(new, &[("2", "old"), ("1", "old")], Some(("replaced-by", third)))),
    ];
    send(&service, "transaction", &entries).await.expect(200);

    // Whoever asks for the first number means the patient, whose record is the third one now.
    let observation = fhir_observation(Uuid::new_v4(), "Patient?identifier=urn:h|1");
    send(&service, "transaction", &[create(observation.clone())]).await.expect(200);
    let of_third = format!("select count(*) from events where subject = '{third}' and aggregate_type = 'Observation'");
    assert_eq!(world.ask_log::<i64>(&of_third).await, 1);

    let stranger = create(numbered(Uuid::new_v4(), &[("1", "usual")], None));
    assert_eq!(refusal(&service, &stranger).await, ["medical-record-number"; 2]);
    let other_merge = create(numbered(Uuid::new_v4(), &[("1", "usual")], Some(("replaces", world.patient().await))));
    assert_eq!(refusal(&service, &other_merge).await, ["medical-record-number"; 2]);
}
