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
        create(json!({"resourceType": "Medication", "id": Uuid::new_v4(), "code": {"text": "Aspirin"}})),
    ];
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&answer), ["200 OK", "201 Created", "201 Created", "201 Created"]);
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
    let homeless = [create(json!({"resourceType": "Medication", "id": Uuid::new_v4(), "code": {"text": "Aspirin"}}))];
    let refused = post_bundle(&service, &bundle("transaction", &homeless)).await;
    assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].1, "no-patient");
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
