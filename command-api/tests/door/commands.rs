//! Every task route does what it says.

use nexus_testkit::{Caller, Role};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{
    LOINC, RXNORM, World, appointment, bundle, create, fhir_observation, fhir_patient, fresh, heart_rate, id_of,
    patient, penicillin, penicillin_allergy, post_bundle, practitioner,
};

/// Posts, expects a status, and gives the body.
async fn post(caller: &Caller, path: &str, body: &Value, status: u16) -> Value {
    caller.post(path, body).await.expect(status).json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patient_is_registered_updated_linked_and_dies() {
    let world = World::start().await;
    let (registrar, physician) = (world.caller(Role::Registrar), world.caller(Role::Physician));
    let mrn = fresh("mrn");

    let registered = registrar.post("/v1/patients", &patient(&mrn)).await.expect(201);
    let id = id_of(&registered);
    assert_eq!(registered.header("location"), Some(format!("/v1/patients/{id}").as_str()));
    assert_eq!(registered.header("etag"), Some("\"1\""));
    assert_eq!(registered.json()["position"], registered.position());
    assert_eq!(registered.json()["type"], "Patient");

    let mut moved = patient(&mrn);
    moved["addresses"] = json!([{"line": ["1 Main Street"], "city": "Boston", "postalCode": "02138"}]);
    let updated = registrar.put(&format!("/v1/patients/{id}"), &moved).await.expect(200);
    assert_eq!(updated.header("etag"), Some("\"2\""));
    let again = registrar.put(&format!("/v1/patients/{id}"), &moved).await.expect(200);
    assert_eq!((again.header("etag"), again.header("nexus-position")), (Some("\"2\""), None), "nothing to do");

    let survivor = world.patient().await;
    let nobody = json!({"survivor": Uuid::new_v4()});
    registrar.post(&format!("/v1/patients/{id}/link"), &nobody).await.problem(404, "not-found");
    let linked = post(&registrar, &format!("/v1/patients/{id}/link"), &json!({"survivor": survivor}), 200).await;
    assert_eq!(linked["sequence"], 3);

    post(&physician, &format!("/v1/patients/{survivor}/death"), &json!({"diedAt": "2026-01-05T10:00:00Z"}), 200).await;
    let started = json!({"class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}});
    let refused = physician.post(&format!("/v1/patients/{survivor}/encounters"), &started).await;
    assert_eq!(refused.problem(409, "rule-violated")["rule"], "patient-deceased");
}

/// Puts what should be there now: if it is, nothing is stored.
async fn stands(world: &World, expected: &Value) {
    let url = format!(
        "{}/{}",
        expected["resourceType"].as_str().unwrap_or_default(),
        expected["id"].as_str().unwrap_or_default()
    );
    let entry = json!({"resource": expected, "request": {"method": "PUT", "url": url}});
    let before = world.events().await;
    post_bundle(&world.service(), &bundle("transaction", &[entry])).await.expect(200);
    assert_eq!(world.events().await, before, "something else stands");
}

/// Whoever corrects a name knows nothing of the rest of the record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_leaves_alone_what_it_can_not_say() {
    let world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    let other = world.patient().await;
    let mut known = fhir_patient(Uuid::new_v4(), &fresh("mrn"));
    known["deceasedDateTime"] = json!("2020-01-01");
    known["maritalStatus"] = json!({"text": "Married"});
    known["extension"] = json!([{"url": "urn:birth-place", "valueString": "Here"}]);
    known["contact"] = json!([{"name": {"text": "A friend"}}]);
    known["link"] = json!([{"other": {"reference": format!("Patient/{other}")}, "type": "seealso"}]);
    known["text"] =
        json!({"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Ada Example</div>"});
    post_bundle(&world.service(), &bundle("transaction", &[create(known.clone())])).await.expect(200);

    let path = format!("/v1/patients/{}", known["id"].as_str().unwrap_or_default());
    let body = json!({
        "identifiers": [{"type": "MR", "system": "urn:hospital", "value": known["identifier"][0]["value"]}],
        "names": [{"family": "Lovelace"}], "birthDate": "1985-04-12"
    });
    assert_eq!(registrar.put(&path, &body).await.expect(200).json()["sequence"], 2);
    known["name"] = json!([{"family": "Lovelace"}]);
    known.as_object_mut().map(|members| (members.remove("gender"), members.remove("text")));
    stands(&world, &known).await;
    assert_eq!(registrar.put(&path, &body).await.expect(200).json()["sequence"], 2, "nothing to do");

    registrar.post(&format!("{path}/link"), &json!({"survivor": other})).await.expect(200);
    let replaced = registrar.put(&path, &patient("x")).await;
    assert_eq!(replaced.problem(409, "rule-violated")["rule"], "patient-replaced");
    registrar.put(&format!("/v1/patients/{}", Uuid::new_v4()), &patient("x")).await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_amended_observation_keeps_its_time_and_its_surroundings() {
    let world = World::start().await;
    let (physician, service) = (world.caller(Role::Physician), world.service());
    let subject = format!("Patient/{}", world.patient().await);
    let doctor = world.practitioner("31").await;
    for (time, value) in [
        ("effectivePeriod", json!({"start": "2020-02-03T10:00:00Z", "end": "2020-02-03T11:00:00Z"})),
        ("effectiveInstant", json!("2020-02-03T10:00:00Z")),
    ] {
        let mut known = fhir_observation(Uuid::new_v4(), &subject);
        known.as_object_mut().map(|members| members.remove("effectiveDateTime"));
        known[time] = value;
        known["issued"] = json!("2020-02-03T12:00:00Z");
        known["performer"] = json!([{"reference": format!("Practitioner/{doctor}")}]);
        known["identifier"] = json!([{"system": "urn:lab", "value": "1"}]);
        known["referenceRange"] = json!([{"text": "60 to 100"}]);
        known["interpretation"] = json!([{"text": "Normal"}]);
        post_bundle(&service, &bundle("transaction", &[create(known.clone())])).await.expect(200);

        let path = format!("/v1/observations/{}/amend", known["id"].as_str().unwrap_or_default());
        assert_eq!(post(&physician, &path, &heart_rate("74.0"), 200).await["sequence"], 2);
        known["status"] = json!("amended");
        known["code"] = json!({"coding": [{"system": LOINC, "code": "8867-4", "display": "Heart rate"}]});
        known["valueQuantity"]["value"] = heart_rate("74.0")["value"]["value"].clone();
        known["valueQuantity"]["unit"] = json!("beats/minute");
        known.as_object_mut().map(|members| members.remove("interpretation"));
        stands(&world, &known).await;

        let mut moved = heart_rate("74.0");
        moved["effectiveAt"] = json!("2020-02-04");
        assert_eq!(post(&physician, &path, &moved, 200).await["sequence"], 3);
        known.as_object_mut().map(|members| members.remove(time));
        known["effectiveDateTime"] = json!("2020-02-04");
        stands(&world, &known).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encounter_runs_its_course() {
    let world = World::start().await;
    let (nurse, service) = (world.caller(Role::Nurse), world.service());
    let patient = world.patient().await;
    let ward = |name: &str| json!({"resourceType": "Location", "status": "active", "name": name});
    let first = id_of(&service.post("/v1/directory", &ward("A")).await.expect(201));
    let second = id_of(&service.post("/v1/directory", &ward("B")).await.expect(201));
    let doctor = world.practitioner("1").await;

    let class = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"});
    let body = json!({"class": class, "location": first, "practitioner": doctor});
    let started = post(&nurse, &format!("/v1/patients/{patient}/encounters"), &body, 201).await;
    let encounter = format!("/v1/encounters/{}", started["id"].as_str().unwrap_or_default());
    post(&nurse, &format!("{encounter}/transfer"), &json!({"location": second}), 200).await;
    let nowhere = nurse.post(&format!("{encounter}/transfer"), &json!({"location": Uuid::new_v4()})).await;
    nowhere.problem(422, "unresolved-reference");
    let home = json!({"system": "http://terminology.hl7.org/CodeSystem/discharge-disposition", "code": "home"});
    let finished = post(&nurse, &format!("{encounter}/finish"), &json!({"disposition": home}), 200).await;
    assert_eq!((&finished["type"], &finished["sequence"]), (&json!("Encounter"), &json!(3)));
    nurse.post(&format!("{encounter}/transfer"), &json!({"location": first})).await.problem(409, "rule-violated");

    let body = json!({"class": class});
    let other = post(&nurse, &format!("/v1/patients/{patient}/encounters"), &body, 201).await;
    let other = format!("/v1/encounters/{}", other["id"].as_str().unwrap_or_default());
    post(&nurse, &format!("{other}/cancel"), &json!({"reason": "left"}), 200).await;
    post(&nurse, &format!("{other}/entered-in-error"), &json!({}), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_conditions_and_allergies_are_recorded_and_corrected() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let patient = world.patient().await;
    let at = |rest: &str| format!("/v1/patients/{patient}/{rest}");

    let recorded = physician.post(&at("observations"), &heart_rate("72.50")).await.expect(201);
    let id = id_of(&recorded);
    assert_eq!(recorded.header("location"), Some(format!("/fhir/Observation/{id}").as_str()));
    let amended = post(&physician, &format!("/v1/observations/{id}/amend"), &heart_rate("74"), 200).await;
    assert_eq!(amended["sequence"], 2);
    post(&physician, &format!("/v1/observations/{id}/entered-in-error"), &json!({}), 200).await;
    let pressure = json!({
        "code": {"system": LOINC, "code": "85354-9"}, "category": "vital-signs",
        "components": [
            {"code": {"system": LOINC, "code": "8480-6"}, "value": {"value": 118, "unit": "mmHg", "code": "mm[Hg]"}},
            {"code": {"system": LOINC, "code": "8462-4"}, "value": {"value": 76, "unit": "mmHg", "code": "mm[Hg]"}}
        ]
    });
    post(&physician, &at("observations"), &pressure, 201).await;

    let diabetes = json!({"code": {"system": "http://snomed.info/sct", "code": "44054006"}, "onset": "2019-03"});
    let mut remission = diabetes.clone();
    remission["clinicalStatus"] = json!("remission");
    let condition = post(&physician, &at("conditions"), &remission, 201).await;
    let path = format!("/v1/conditions/{}/resolve", condition["id"].as_str().unwrap_or_default());
    assert_eq!(post(&physician, &path, &json!({}), 200).await["sequence"], 2);
    for command in ["resolve", "refute", "entered-in-error"] {
        let condition = post(&physician, &at("conditions"), &diabetes, 201).await;
        let path = format!("/v1/conditions/{}/{command}", condition["id"].as_str().unwrap_or_default());
        post(&physician, &path, &json!({}), 200).await;
    }
    for command in ["refute", "entered-in-error"] {
        let allergy = post(&physician, &at("allergies"), &penicillin_allergy(), 201).await;
        let path = format!("/v1/allergies/{}/{command}", allergy["id"].as_str().unwrap_or_default());
        post(&physician, &path, &json!({}), 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_appointments_and_consents_go_through_their_states() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let patient = world.patient().await;
    let doctor = world.practitioner("2").await;
    let at = |rest: &str| format!("/v1/patients/{patient}/{rest}");
    let metformin = json!({
        "medication": {"system": RXNORM, "code": "860975"},
        "dosages": [{"text": "One tablet twice a day", "dose": {"value": 1.0, "unit": "tablet"}}]
    });

    let order = post(&physician, &at("medication-orders"), &metformin, 201).await;
    assert_eq!(order["type"], "MedicationRequest");
    let order = format!("/v1/medication-orders/{}", order["id"].as_str().unwrap_or_default());
    post(&physician, &format!("{order}/hold"), &json!({"reason": "surgery"}), 200).await;
    post(&physician, &format!("{order}/resume"), &json!({}), 200).await;
    post(&physician, &format!("{order}/complete"), &json!({}), 200).await;
    post(&physician, &format!("{order}/entered-in-error"), &json!({}), 200).await;
    let other = post(&physician, &at("medication-orders"), &penicillin(), 201).await;
    let other = format!("/v1/medication-orders/{}", other["id"].as_str().unwrap_or_default());
    post(&physician, &format!("{other}/discontinue"), &json!({"reason": "rash"}), 200).await;

    /// A command, its status, and the sequence if that is 200.
    type Step = (&'static str, u16, i64);
    let mut hour = 8;
    let rows: [(&str, &[Step]); 4] = [
        ("booked", &[("confirm", 200, 1), ("check-in", 200, 2), ("no-show", 409, 2)]),
        ("pending", &[("check-in", 409, 1), ("confirm", 200, 2), ("check-in", 200, 3), ("cancel", 200, 4)]),
        ("proposed", &[("cancel", 200, 2), ("confirm", 409, 2)]),
        ("booked", &[("no-show", 409, 1), ("entered-in-error", 200, 2)]),
    ];
    for (status, commands) in rows {
        hour += 1;
        let (start, end) = (format!("2027-03-01T{hour:02}:00:00Z"), format!("2027-03-01T{hour:02}:30:00Z"));
        let mut body = appointment(doctor, &start, &end);
        body["status"] = json!(status);
        let booked = post(&physician, &at("appointments"), &body, 201).await;
        for (command, answered, sequence) in commands {
            let path = format!("/v1/appointments/{}/{command}", booked["id"].as_str().unwrap_or_default());
            let answer = post(&physician, &path, &json!({}), *answered).await;
            assert!(*answered != 200 || answer["sequence"] == *sequence, "{status}, {command}: {answer}");
        }
    }
    // Nobody can be missed before they were due.
    let missed = Uuid::new_v4();
    let entry = create(json!({
        "resourceType": "Appointment", "id": missed, "status": "booked",
        "start": "2020-03-01T09:00:00Z", "end": "2020-03-01T09:30:00Z",
        "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
    }));
    post_bundle(&world.service(), &bundle("transaction", &[entry])).await.expect(200);
    let answer = post(&physician, &format!("/v1/appointments/{missed}/no-show"), &json!({}), 200).await;
    assert_eq!(answer["sequence"], 2);

    let consent = json!({"category": {"system": LOINC, "code": "59284-0"}, "provision": "permit"});
    let granted = post(&physician, &at("consents"), &consent, 201).await;
    let path = format!("/v1/consents/{}/withdraw", granted["id"].as_str().unwrap_or_default());
    post(&physician, &path, &json!({"reason": "changed mind"}), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_directory_entries_are_filed_replaced_and_taken_back() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    let procedure = |status: &str| {
        json!({
            "resourceType": "Procedure", "status": status, "subject": {"reference": format!("Patient/{patient}")},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "80146002"}]}
        })
    };
    let filed = post(&service, &format!("/v1/patients/{patient}/records"), &procedure("in-progress"), 201).await;
    let path = format!("/v1/records/Procedure/{}", filed["id"].as_str().unwrap_or_default());
    assert_eq!(service.put(&path, &procedure("completed")).await.expect(200).json()["sequence"], 2);
    let wrong = path.replace("Procedure", "Immunization");
    service.post(&format!("{wrong}/retract"), &json!({})).await.problem(404, "not-found");
    post(&service, &format!("{path}/retract"), &json!({}), 200).await;
    let observation = json!({"resourceType": "Observation", "status": "final"});
    let refused = service.post(&format!("/v1/patients/{patient}/records"), &observation).await;
    refused.problem(422, "invalid-value");
    let stranger = json!({
        "resourceType": "Procedure", "status": "completed", "subject": {"reference": format!("Patient/{}", Uuid::new_v4())}
    });
    service.post(&format!("/v1/patients/{patient}/records"), &stranger).await.problem(422, "invalid-value");

    let id = world.practitioner("3").await;
    let path = format!("/v1/directory/Practitioner/{id}");
    let mut renamed = practitioner("3");
    renamed["name"] = json!([{"family": "Other"}]);
    service.put(&path, &renamed).await.expect(200);
    // FHIR does not make identifiers unique; one that two bear leads to neither.
    service.post("/v1/directory", &practitioner("3")).await.expect(201);
    post(&service, &format!("{path}/retire"), &json!({}), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_what_their_role_allows_and_no_more() {
    let world = World::start().await;
    let patient = world.patient().await;
    let observations = format!("/v1/patients/{patient}/observations");
    for (role, path, status) in [
        (Role::Analyst, "/v1/patients".to_owned(), 403),
        (Role::Operator, observations.clone(), 403),
        (Role::Registrar, observations.clone(), 403),
        (Role::Nurse, format!("/v1/patients/{patient}/medication-orders"), 403),
        (Role::Physician, "/fhir".to_owned(), 403),
    ] {
        let body = match path.as_str() {
            "/v1/patients" => crate::world::patient("x"),
            "/fhir" => bundle("batch", &[]),
            path if path.ends_with("medication-orders") => penicillin(),
            _ => heart_rate("70"),
        };
        let answer = world.caller(role).post(&path, &body).await;
        answer.problem(status, "forbidden");
    }
    let consent = json!({"category": {"system": LOINC, "code": "59284-0"}});
    let own = Caller::with_token(&world.url, world.issuer.patient_token(patient));
    own.post(&format!("/v1/patients/{patient}/consents"), &consent).await.expect(201);
    let stranger = Caller::with_token(&world.url, world.issuer.patient_token(Uuid::new_v4()));
    stranger.post(&format!("/v1/patients/{patient}/consents"), &consent).await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_may_wait_for_kafka_or_do_without_a_body() {
    let mut world = World::start().await;
    let patient = world.patient().await;
    let nurse = world.caller(Role::Nurse);
    let path = format!("/v1/patients/{patient}/observations");
    let request = || nurse.request(Method::POST, &path).json(&heart_rate("71"));

    let patience = request().header("prefer", "wait=kafka").header("nexus-wait-ms", "50");
    let unpublished = patience.answer().await.expect(202);
    assert_eq!(unpublished.json()["published"], false, "no relay is running");
    assert_eq!(unpublished.header("preference-applied"), None);
    world.start_relay().await;

    let waited = request().header("prefer", "wait=kafka").answer().await.expect(201);
    assert_eq!(waited.header("preference-applied"), Some("wait=kafka"));
    let minimal = request().header("prefer", "return=minimal").answer().await.expect(201);
    assert_eq!((minimal.text.as_str(), minimal.header("preference-applied")), ("", Some("return=minimal")));
    assert!(minimal.header("location").is_some() && minimal.header("nexus-position").is_some());
}
