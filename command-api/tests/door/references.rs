//! References of bundles, read back from the log through a second transaction's eyes: what resolves is accepted.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{
    NPI, World, bundle, create, create_unless, errors, fhir_observation, fhir_patient, fresh, post_bundle,
    practitioner, statuses,
};

fn performed_by(subject: &str, reference: &str) -> Value {
    let mut observation = fhir_observation(Uuid::new_v4(), subject);
    observation["performer"] = json!([{"reference": reference}]);
    observation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditional_references_find_the_directory_and_the_bundle() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    let subject = format!("Patient/{patient}");
    world.practitioner("11").await;
    let by = |npi: &str| create(performed_by(&subject, &format!("Practitioner?identifier={NPI}|{npi}")));

    let answer = post_bundle(&service, &bundle("transaction", &[by("11"), by("11")])).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created"; 2]);
    let unknown = post_bundle(&service, &bundle("transaction", &[by("12")])).await;
    let problem = unknown.problem(422, "unresolved-reference");
    assert_eq!(errors(&problem)[0].0, "/entry/0/resource/performer/0/reference");

    let mut doctor = practitioner("12");
    doctor["id"] = json!(Uuid::new_v4());
    let condition = format!("identifier={NPI}|12");
    let entries = [by("12"), create_unless(doctor.clone(), &condition)];
    post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);

    // Another one with the same condition is the one that is there; references to it lead there.
    let kept = doctor["id"].clone();
    doctor["id"] = json!(Uuid::new_v4());
    let to_it = create(performed_by(&subject, &format!("urn:uuid:{}", doctor["id"].as_str().unwrap_or_default())));
    let entries = [create_unless(doctor, &condition), to_it];
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&answer), ["200 OK", "201 Created"]);
    let location = format!("Practitioner/{}", kept.as_str().unwrap_or_default());
    assert_eq!(answer.json()["entry"][0]["response"]["location"], location);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patient_is_created_unless_the_record_number_is_known() {
    let world = World::start().await;
    let service = world.service();
    let mrn = fresh("mrn");
    let condition = format!("identifier=urn:hospital|{mrn}");
    let first = Uuid::new_v4();
    let entries = [
        create_unless(fhir_patient(first, &mrn), &condition),
        create(fhir_observation(Uuid::new_v4(), &format!("urn:uuid:{first}"))),
    ];
    post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    let second = Uuid::new_v4();
    let entries = [
        create_unless(fhir_patient(second, &mrn), &condition),
        create(fhir_observation(Uuid::new_v4(), &format!("urn:uuid:{second}"))),
        create(fhir_observation(Uuid::new_v4(), &format!("Patient?identifier=urn:hospital|{mrn}"))),
    ];
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&answer), ["200 OK", "201 Created", "201 Created"]);
    assert_eq!(answer.json()["entry"][0]["response"]["location"], format!("Patient/{first}"));
    assert_eq!(answer.position().split('.').count(), 1, "all of it is the known patient's");

    let other =
        create_unless(fhir_patient(Uuid::new_v4(), "other"), &format!("identifier=urn:hospital|{}", fresh("mrn")));
    let refused = post_bundle(&service, &bundle("transaction", &[other])).await;
    assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].0, "/entry/0/request/ifNoneExist");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contained_and_literal_references_are_looked_at() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    let subject = format!("Patient/{patient}");
    let mut contained = performed_by(&subject, "#doctor");
    contained["contained"] = json!([{"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Example"}]}]);
    let known = world.practitioner("21").await;
    let entries = [
        create(contained),
        create(performed_by(&subject, &format!("Practitioner/{known}"))),
        create(performed_by(&subject, "https://other.example/fhir/Practitioner/1")),
    ];
    post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    for broken in ["#nobody".to_owned(), format!("Practitioner/{}", Uuid::new_v4()), format!("urn:uuid:{known}")] {
        let refused = post_bundle(&service, &bundle("transaction", &[create(performed_by(&subject, &broken))])).await;
        assert_eq!(
            errors(&refused.problem(422, "unresolved-reference"))[0].0,
            "/entry/0/resource/performer/0/reference"
        );
    }
    let nobody = create(fhir_observation(Uuid::new_v4(), &format!("Patient/{}", Uuid::new_v4())));
    post_bundle(&service, &bundle("transaction", &[nobody])).await.problem(422, "unresolved-reference");
    let homeless =
        [create(json!({"resourceType": "Task", "id": Uuid::new_v4(), "status": "draft", "intent": "order"}))];
    let refused = post_bundle(&service, &bundle("transaction", &homeless)).await;
    assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].1, "no-patient");
}

/// What is about no patient is nobody's, whoever sends it: several may bring a copy, and orders of all of them name it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_medication_is_no_patients() {
    let world = World::start().await;
    let service = world.service();
    let medication = json!({
        "resourceType": "Medication", "id": Uuid::new_v4(), "code": {"text": "Aspirin"},
        "identifier": [{"system": "urn:pharmacy", "value": "aspirin"}]
    });
    let alone = post_bundle(&service, &bundle("batch", &[create(medication.clone())])).await.expect(200);
    assert_eq!(statuses(&alone), ["201 Created"]);
    let mut copy = medication.clone();
    copy["id"] = json!(Uuid::new_v4());
    for (mine, status) in [(&medication, "200 OK"), (&copy, "201 Created"), (&copy, "200 OK")] {
        let patient = Uuid::new_v4();
        let id = mine["id"].as_str().unwrap_or_default();
        let order = json!({
            "resourceType": "MedicationRequest", "id": Uuid::new_v4(), "status": "active", "intent": "order",
            "subject": {"reference": format!("urn:uuid:{patient}")},
            "medicationReference": {"reference": format!("urn:uuid:{id}")}
        });
        let entries = [create(fhir_patient(patient, &fresh("mrn"))), create(mine.clone()), create(order)];
        let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
        assert_eq!(statuses(&answer), ["201 Created", status, "201 Created"]);
        assert_eq!(answer.json()["entry"][2]["response"]["outcome"], Value::Null, "it is not another patient's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_to_another_type_leads_nowhere() {
    let world = World::start().await;
    let service = world.service();
    let subject = format!("Patient/{}", world.patient().await);
    let (here, there) = (Uuid::new_v4(), Uuid::new_v4());
    let ward = |id| create(json!({"resourceType": "Location", "id": id, "status": "active", "name": "Ward"}));
    post_bundle(&service, &bundle("transaction", &[ward(there)])).await.expect(200);
    for id in [here, there] {
        let by_a_ward = create(performed_by(&subject, &format!("Practitioner/{id}")));
        let refused = post_bundle(&service, &bundle("transaction", &[ward(here), by_a_ward])).await;
        let problem = refused.problem(422, "unresolved-reference");
        assert_eq!(errors(&problem)[0].0, "/entry/1/resource/performer/0/reference");
    }
    let procedure = json!({
        "resourceType": "Procedure", "id": here, "status": "completed", "subject": {"reference": subject}
    });
    post_bundle(&service, &bundle("transaction", &[create(procedure)])).await.expect(200);
    for (resource_type, good) in [("Procedure", true), ("Immunization", false)] {
        let mut part = fhir_observation(Uuid::new_v4(), &subject);
        part["partOf"] = json!([{"reference": format!("{resource_type}/{here}")}]);
        let answer = post_bundle(&service, &bundle("transaction", &[create(part)])).await;
        if good {
            answer.expect(200);
        } else {
            answer.problem(422, "unresolved-reference");
        }
    }
}

/// A hospital's export may be wrong about it; it is noted, and what is done with the record later is not held up by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_refers_to_another_patients_resource_is_noted() {
    let world = World::start().await;
    let service = world.service();
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let encounter = |id: Uuid, patient: Uuid| {
        create(json!({
            "resourceType": "Encounter", "id": id, "status": "finished",
            "subject": {"reference": format!("Patient/{patient}")},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
        }))
    };
    let during = |id: Uuid, encounter: Uuid| {
        let mut observation = fhir_observation(id, &format!("Patient/{one}"));
        observation["encounter"] = json!({"reference": format!("Encounter/{encounter}")});
        create(observation)
    };
    let (own, foreign) = (Uuid::new_v4(), Uuid::new_v4());
    let entries = [
        create(fhir_patient(one, &fresh("mrn"))),
        create(fhir_patient(two, &fresh("mrn"))),
        encounter(own, one),
        encounter(foreign, two),
        during(Uuid::new_v4(), own),
        during(Uuid::new_v4(), foreign),
    ];
    let note = |answer: &nexus_testkit::Answer, index: usize| {
        answer.json()["entry"][index]["response"]["outcome"]["issue"][0]["details"]["coding"][0]["code"].clone()
    };
    let inside = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!((note(&inside, 4), note(&inside, 5)), (Value::Null, json!("foreign-reference")));
    let odd = Uuid::new_v4();
    for kind in ["transaction", "batch"] {
        let (right, wrong) =
            (during(Uuid::new_v4(), own), during(if kind == "batch" { odd } else { Uuid::new_v4() }, foreign));
        let outside = post_bundle(&service, &bundle(kind, &[right, wrong])).await.expect(200);
        assert_eq!((note(&outside, 0), note(&outside, 1)), (Value::Null, json!("foreign-reference")), "{kind}");
    }
    service.post(&format!("/v1/observations/{odd}/entered-in-error"), &json!({})).await.expect(200);
}
/// Ids that are no UUIDs become the same UUIDs each time, so a later bundle may refer to them as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_to_what_was_imported_under_another_id_find_it() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    let subject = format!("Patient/{patient}");
    let post = |full_url: Option<&str>, id: &str, mut resource: Value| {
        resource["id"] = json!(id);
        let mut entry = json!({"request": {"method": "POST", "url": resource["resourceType"]}, "resource": resource});
        if let Some(url) = full_url {
            entry["fullUrl"] = json!(url);
        }
        entry
    };
    let directory = [
        post(None, "123", practitioner("31")),
        post(Some("http://ehr.example/fhir/Practitioner/123"), "123", practitioner("32")),
    ];
    for entry in directory {
        let answer = post_bundle(&service, &bundle("batch", &[entry])).await.expect(200);
        assert_eq!(statuses(&answer), ["201 Created"]);
    }

    for kind in ["transaction", "batch"] {
        let by = |reference: &str| performed_by(&subject, reference);
        let entries = [
            post(None, &fresh("o"), by("Practitioner/123")),
            post(None, &fresh("o"), by("Practitioner/123/_history/1")),
            post(Some("http://ehr.example/fhir/Observation/o-9"), "o-9", by("Practitioner/123")),
        ];
        let answer = post_bundle(&service, &bundle(kind, &entries)).await.expect(200);
        assert!(statuses(&answer).iter().all(|status| status.starts_with("20")), "{kind}: {}", answer.text);
        let elsewhere = post(Some("http://other.example/fhir/Observation/o-1"), "o-1", by("Practitioner/123"));
        for unknown in [elsewhere, post(None, "o-2", by("Practitioner/124"))] {
            let answer = post_bundle(&service, &bundle(kind, &[unknown])).await;
            if kind == "batch" {
                assert_eq!(statuses(&answer.expect(200)), ["422 Unprocessable Entity"]);
            } else {
                let problem = answer.problem(422, "unresolved-reference");
                assert_eq!(errors(&problem)[0].0, "/entry/0/resource/performer/0/reference");
            }
        }
    }
}
