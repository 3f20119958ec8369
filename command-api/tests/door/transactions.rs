//! Transaction bundles.

use nexus_testkit::Role;
use serde_json::json;
use uuid::Uuid;

use crate::world::{
    NPI, RXNORM, World, appointment, bundle, create, create_unless, errors, fhir_appointment, fhir_observation,
    fhir_patient, fresh, id_of, post_bundle, practitioner, statuses,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_stored_once_and_answered_entry_by_entry() {
    let world = World::start().await;
    let service = world.service();
    let (patient, observation, task) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let entries = [
        create(fhir_observation(observation, &format!("urn:uuid:{patient}"))),
        create(json!({"resourceType": "Task", "id": task, "status": "draft", "intent": "order",
            "for": {"reference": format!("urn:uuid:{patient}")}})),
        create(fhir_patient(patient, &fresh("mrn"))),
    ];
    // That the transaction is about one patient does not make theirs what names nobody.
    let mut nameless = entries.clone();
    nameless[1]["resource"].as_object_mut().unwrap().remove("for");
    let refused = post_bundle(&service, &bundle("transaction", &nameless)).await.problem(422, "invalid-value");
    assert_eq!(errors(&refused), [("/entry/1/resource".to_owned(), "no-patient".to_owned())]);

    let sent = bundle("transaction", &entries);
    let answer = post_bundle(&service, &sent).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created"; 3]);
    let body = answer.json();
    assert_eq!(body["type"], "transaction-response");
    let first = &body["entry"][0]["response"];
    assert_eq!(first["location"], format!("Observation/{observation}/_history/1"));
    assert_eq!(first["etag"], "W/\"1\"");
    assert!(first["lastModified"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(answer.position().split('.').count(), 1, "one patient, one partition");
    assert_eq!(world.events().await, 3);

    let again = post_bundle(&service, &sent).await.expect(200);
    assert_eq!((statuses(&again), again.header("nexus-position")), (vec!["200 OK".to_owned(); 3], None));
    assert_eq!(again.json()["entry"][0]["response"]["lastModified"], first["lastModified"]);
    assert_eq!(world.events().await, 3);
    let empty = post_bundle(&service, &bundle("transaction", &[])).await.expect(200);
    assert_eq!(empty.json()["type"], "transaction-response");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_replaces_and_takes_back() {
    let world = World::start().await;
    let service = world.service();
    let (patient, observation) = (Uuid::new_v4(), Uuid::new_v4());
    let subject = format!("Patient/{patient}");
    let entries = [create(fhir_patient(patient, &fresh("mrn"))), create(fhir_observation(observation, &subject))];
    post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);

    let put = |value: i64, if_match: &str| {
        let mut resource = fhir_observation(observation, &subject);
        resource["valueQuantity"]["value"] = json!(value);
        json!({"resource": resource, "request": {"method": "PUT", "url": format!("Observation/{observation}"), "ifMatch": if_match}})
    };
    let stale = post_bundle(&service, &bundle("transaction", &[put(80, "W/\"4\"")])).await;
    assert_eq!(errors(&stale.problem(412, "version-mismatch"))[0].0, "/entry/0/request/ifMatch");
    let alone = post_bundle(&service, &bundle("batch", &[put(80, "W/\"4\"")])).await.expect(200);
    assert_eq!(statuses(&alone), ["412 Precondition Failed"]);
    let replaced = post_bundle(&service, &bundle("transaction", &[put(80, "W/\"1\"")])).await.expect(200);
    assert_eq!(replaced.json()["entry"][0]["response"]["etag"], "W/\"2\"");

    let new = Uuid::new_v4();
    let created = json!({
        "resource": fhir_observation(new, &subject), "request": {"method": "PUT", "url": format!("Observation/{new}")}
    });
    let deleted = json!({"request": {"method": "DELETE", "url": format!("Observation/{observation}")}});
    let answer = post_bundle(&service, &bundle("transaction", &[created, deleted])).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created", "200 OK"]);
    assert_eq!(answer.json()["entry"][1]["response"]["etag"], "W/\"3\"");
    let alone = json!({"request": {"method": "DELETE", "url": format!("Observation/{new}")}});
    for kind in ["batch", "transaction"] {
        let answer = post_bundle(&service, &bundle(kind, std::slice::from_ref(&alone))).await.expect(200);
        assert_eq!(answer.json()["entry"][0]["response"]["etag"], "W/\"2\"", "{kind}");
    }
    let mut astray = put(80, "W/\"3\"");
    astray["resource"]["id"] = json!(Uuid::new_v4());
    let refused = post_bundle(&service, &bundle("transaction", &[astray])).await;
    assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].1, "wrong-id");
    let unknown = json!({"request": {"method": "DELETE", "url": format!("Observation/{}", Uuid::new_v4())}});
    let answer = post_bundle(&service, &bundle("transaction", &[unknown])).await.expect(200);
    let issue = &answer.json()["entry"][0]["response"]["outcome"]["issue"][0];
    assert_eq!(issue["details"]["coding"][0]["code"], "unknown-resource");

    let mut different = fhir_observation(observation, &subject);
    different["valueQuantity"]["value"] = json!(99);
    let refused = post_bundle(&service, &bundle("transaction", &[create(different)])).await;
    assert_eq!(refused.problem(409, "rule-violated")["rule"], "already-recorded");
}

/// What rules about decisions would refuse is history here: it is stored, and a note says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_noted_where_a_decision_would_be_refused() {
    let world = World::start().await;
    let service = world.service();
    let patient = Uuid::new_v4();
    let subject = format!("urn:uuid:{patient}");
    let doctor = world.practitioner("4").await;
    let somebody = world.patient().await;
    let (start, end) = ("2027-05-03T09:00:00Z", "2027-05-03T09:30:00Z");
    let registrar = world.caller(Role::Registrar);
    let path = format!("/v1/patients/{somebody}/appointments");
    registrar.post(&path, &appointment(doctor, start, end)).await.expect(201);

    let penicillin = json!({"coding": [{"system": RXNORM, "code": "7980", "display": "Penicillin G"}]});
    let mut dead = fhir_patient(patient, &fresh("mrn"));
    dead["deceasedDateTime"] = json!("2020-01-01T00:00:00Z");
    let entries = [
        create(dead),
        create(json!({
            "resourceType": "AllergyIntolerance", "id": Uuid::new_v4(), "patient": {"reference": subject},
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]},
            "verificationStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "code": "confirmed"}]},
            "code": penicillin
        })),
        create(json!({
            "resourceType": "MedicationRequest", "id": Uuid::new_v4(), "status": "active", "intent": "order",
            "subject": {"reference": subject}, "medicationCodeableConcept": penicillin, "authoredOn": "2019-05-01T10:00:00Z"
        })),
        create(json!({
            "resourceType": "Appointment", "id": Uuid::new_v4(), "status": "booked", "start": start, "end": end,
            "participant": [
                {"actor": {"reference": subject}, "status": "accepted"},
                {"actor": {"reference": format!("Practitioner/{doctor}")}, "status": "accepted"}
            ]
        })),
        create(json!({
            "resourceType": "Encounter", "id": Uuid::new_v4(), "status": "finished", "subject": {"reference": subject},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "period": {"start": "2021-01-01T10:00:00Z", "end": "2021-01-01T11:00:00Z"}
        })),
    ];
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    let body = answer.json();
    let notes = |index: usize| {
        let issues = body["entry"][index]["response"]["outcome"]["issue"].as_array().cloned().unwrap_or_default();
        assert!(issues.iter().all(|issue| issue["severity"] == "information"));
        issues.iter().map(|issue| issue["details"]["coding"][0]["code"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(notes(1), Vec::<serde_json::Value>::new());
    assert_eq!(notes(2), ["active-allergy"]);
    assert_eq!(notes(3), ["patient-deceased", "slot-taken"]);
    assert_eq!(notes(4), ["patient-deceased"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_number_that_is_taken_refuses_the_whole_transaction() {
    let world = World::start().await;
    let service = world.service();
    let mrn = fresh("mrn");
    let one = Uuid::new_v4();
    post_bundle(&service, &bundle("transaction", &[create(fhir_patient(one, &mrn))])).await.expect(200);
    let two = Uuid::new_v4();
    let entries =
        [create(fhir_patient(two, &mrn)), create(fhir_observation(Uuid::new_v4(), &format!("Patient/{two}")))];
    let refused = post_bundle(&service, &bundle("transaction", &entries)).await;
    let problem = refused.problem(409, "rule-violated");
    assert_eq!(errors(&problem), [("/entry/0/resource".to_owned(), "medical-record-number".to_owned())]);
    assert_eq!(world.events().await, 1);
    let twice = [create(fhir_patient(Uuid::new_v4(), "x")), create(fhir_patient(Uuid::new_v4(), "x"))];
    let refused = post_bundle(&service, &bundle("transaction", &twice)).await;
    assert_eq!(errors(&refused.problem(409, "rule-violated"))[0].0, "/entry/1/resource");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_kept_or_always_become_the_same() {
    let world = World::start().await;
    let service = world.service();
    let patient = fhir_patient(Uuid::nil(), &fresh("mrn"));
    let mut foreign = patient.clone();
    foreign["id"] = json!("p-1");
    let mut observation = fhir_observation(Uuid::nil(), "Patient/p-1");
    observation["id"] = json!("o.1");
    let post = |resource: &serde_json::Value| json!({"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}});
    let sent = bundle("transaction", &[post(&foreign), post(&observation)]);
    let first = post_bundle(&service, &sent).await.expect(200);
    let second = post_bundle(&service, &sent).await.expect(200);
    assert_eq!(statuses(&second), ["200 OK"; 2]);
    let location = |answer: &nexus_testkit::Answer| answer.json()["entry"][1]["response"]["location"].clone();
    assert_eq!(location(&first), location(&second));

    // No id at all: the key decides.
    let mut nameless = fhir_observation(Uuid::nil(), &format!("Patient/{}", world.patient().await));
    nameless.as_object_mut().map(|resource| resource.remove("id"));
    let sent = bundle("transaction", &[post(&nameless)]);
    let one = service.post_fhir(sent.to_string(), "one").await.expect(200);
    assert_eq!(service.post_fhir(sent.to_string(), "one").await.expect(200).text, one.text);
    let two = service.post_fhir(sent.to_string(), "two").await.expect(200);
    assert_ne!(one.text, two.text);
    let repeated = [create(fhir_patient(Uuid::from_u128(7), "r")), create(fhir_patient(Uuid::from_u128(7), "r"))];
    let refused = post_bundle(&service, &bundle("transaction", &repeated)).await;
    assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].1, "repeated-entry");
    let mut same_url = create(fhir_patient(Uuid::from_u128(8), "s"));
    same_url["fullUrl"] = repeated[0]["fullUrl"].clone();
    let refused = post_bundle(&service, &bundle("transaction", &[repeated[0].clone(), same_url])).await;
    assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].1, "repeated-entry");
}

/// A transaction and commands on the same patient at the same time: all of them get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_decides_again_when_something_moves() {
    let world = World::start().await;
    let (service, registrar) = (world.service(), world.caller(Role::Registrar));
    let mrn = fresh("mrn");
    let patient = id_of(&registrar.post("/v1/patients", &crate::world::patient(&mrn)).await.expect(201));
    let path = format!("/v1/patients/{patient}");
    let updates = async {
        for number in 0..10 {
            let mut body = crate::world::patient(&mrn);
            body["names"][0]["given"] = json!([format!("Ada {number}")]);
            registrar.put(&path, &body).await.expect(200);
        }
    };
    let bundles = async {
        for _ in 0..10 {
            let entries: Vec<_> =
                (0..20).map(|_| create(fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}")))).collect();
            post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
        }
    };
    tokio::join!(updates, bundles);
    assert_eq!(world.events().await, 1 + 10 + 200);
}

/// However many of the times that a transaction wants are taken, it learns of all of them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_with_many_taken_times_is_stored_with_notes() {
    let world = World::start().await;
    let service = world.service();
    let doctor = world.practitioner("4").await;
    let of = |patient: Uuid, times: i64| {
        let appointments = (0..times).map(|at| {
            let hour = |minute: i64| format!("2027-05-{:02}T{:02}:{minute:02}:00Z", 3 + at / 8, 8 + at % 8);
            create(fhir_appointment(&format!("Patient/{patient}"), doctor, &hour(0), &hour(30)))
        });
        appointments.collect::<Vec<_>>()
    };
    let (first, second) = (world.patient().await, world.patient().await);
    post_bundle(&service, &bundle("transaction", &of(first, 40))).await.expect(200);
    // Each time twice, so that the second one of a time stands behind another entry of the bundle as well.
    let entries = [of(second, 40), of(second, 41)].concat();
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    let body = answer.json();
    let noted = |index: usize| {
        body["entry"][index]["response"]["outcome"]["issue"][0]["details"]["coding"][0]["code"] == "slot-taken"
    };
    let free: Vec<usize> = (0..81).filter(|index| !noted(*index)).collect();
    assert_eq!(free, [80]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_transactions_that_create_on_a_condition_both_get_through() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    for round in 0..5 {
        let transaction = || {
            let mut entries = Vec::new();
            for number in 0..40 {
                let npi = format!("{round}-{number}");
                let mut doctor = practitioner(&npi);
                doctor["id"] = json!(Uuid::new_v4());
                let mut observation = fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}"));
                observation["performer"] =
                    json!([{"reference": format!("urn:uuid:{}", doctor["id"].as_str().unwrap_or_default())}]);
                entries.push(create_unless(doctor, &format!("identifier={NPI}|{npi}")));
                entries.push(create(observation));
            }
            bundle("transaction", &entries)
        };
        let (one, two) = (transaction(), transaction());
        let (one, two) = tokio::join!(post_bundle(&service, &one), post_bundle(&service, &two));
        let (one, two) = (statuses(&one.expect(200)), statuses(&two.expect(200)));
        let created =
            |statuses: &[String]| statuses.iter().step_by(2).filter(|status| *status == "201 Created").count();
        assert_eq!(created(&one) + created(&two), 40);
    }
    assert_eq!(world.events().await, 1 + 5 * (40 + 2 * 40));
}

/// Ids are unique for each type of FHIR, and for each kind of stream here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_for_two_types_of_one_kind_is_refused_by_name() {
    let world = World::start().await;
    let service = world.service();
    let subject = json!({"reference": format!("Patient/{}", world.patient().await)});
    let id = Uuid::new_v4();
    let of = |resource_type: &str| {
        let resource = json!({"resourceType": resource_type, "id": id, "status": "completed", "subject": subject});
        json!({"resource": resource, "request": {"method": "POST", "url": resource_type}})
    };
    let both = [of("Procedure"), of("CarePlan")];
    let refused = post_bundle(&service, &bundle("transaction", &both)).await.problem(422, "invalid-value");
    assert_eq!(errors(&refused), [("/entry/1".to_owned(), "repeated-id".to_owned())]);
    let answer = post_bundle(&service, &bundle("batch", &both)).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created", "422 Unprocessable Entity"]);
    let mut put = of("CarePlan");
    put["request"] = json!({"method": "PUT", "url": format!("CarePlan/{id}")});
    for entry in [of("CarePlan"), put] {
        let refused = post_bundle(&service, &bundle("transaction", &[entry])).await.problem(409, "rule-violated");
        assert_eq!(refused["rule"], "id-of-another-type");
    }
    assert_eq!(world.events().await, 2);
}
