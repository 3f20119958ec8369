//! Who may do what at the write door: every route, every role, every relation; and attacks by name.

use std::collections::{BTreeSet, HashMap};

use nexus_auth::policy::Decision;
use nexus_auth::testing::{About, Door, ORGANIZATION, ROUTES, Route, Standing};
use nexus_testkit::{Answer, Caller, Role};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{
    World, bundle, create, fhir_appointment, fhir_observation, heart_rate, id_of, penicillin, post_bundle, post_with,
};

/// The ids of one patient and of one thing of each kind.
struct Record {
    patient: Uuid,
    /// By the first part of the path.
    things: HashMap<&'static str, Uuid>,
}

impl Record {
    /// Of a patient with whom nobody has to do, unless they are taken into care.
    async fn of(world: &World, patient: Uuid, doctor: Uuid) -> Self {
        let subject = format!("Patient/{patient}");
        let about = |resource_type: &str, mut more: Value| {
            more["resourceType"] = json!(resource_type);
            more["id"] = json!(Uuid::new_v4());
            let element = if matches!(resource_type, "Consent" | "AllergyIntolerance") { "patient" } else { "subject" };
            more[element] = json!({"reference": subject});
            more
        };
        let class = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"});
        let mut appointment = fhir_appointment(&subject, doctor, "2020-02-03T10:00:00Z", "2020-02-03T10:30:00Z");
        appointment["start"] = json!(format!("2020-02-03T10:{:02}:00Z", patient.as_u128() % 6 * 5));
        let things = [
            (
                "encounters",
                about(
                    "Encounter",
                    json!({"status": "finished", "class": class,
                "period": {"start": "2020-02-03T10:00:00Z", "end": "2020-02-03T11:00:00Z"}}),
                ),
            ),
            ("observations", fhir_observation(Uuid::new_v4(), &subject)),
            ("conditions", about("Condition", json!({"code": {"text": "x"}}))),
            (
                "allergies",
                about(
                    "AllergyIntolerance",
                    json!({"code": {"text": "x"}, "clinicalStatus": {"coding": [{"code": "active", "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"}]}}),
                ),
            ),
            (
                "medication-orders",
                about(
                    "MedicationRequest",
                    json!({"status": "active", "intent": "order",
                "medicationCodeableConcept": {"text": "x"}}),
                ),
            ),
            ("appointments", appointment),
            (
                "consents",
                about("Consent", json!({"status": "active", "scope": {"text": "x"}, "category": [{"text": "x"}]})),
            ),
            ("records", about("Procedure", json!({"status": "completed", "code": {"text": "x"}}))),
        ];
        let entries: Vec<Value> = things.iter().map(|(_, resource)| create(resource.clone())).collect();
        post_bundle(&world.service(), &bundle("transaction", &entries)).await.expect(200);
        let id = |resource: &Value| resource["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let mut things: HashMap<_, _> = things.iter().map(|(name, resource)| (*name, id(resource))).collect();
        let physician = physician(world, doctor, None);
        let glass = physician.post(&format!("/v1/patients/{patient}/break-glass"), &json!({"reason": "x"})).await;
        things.insert("emergency-accesses", id_of(&glass.expect(201)));
        Self { patient, things }
    }

    fn path(&self, route: &Route) -> String {
        let (_, path) = route.parts();
        let kind = path.split('/').nth(2).unwrap_or_default();
        let id = match route.about {
            About::Patient => self.patient,
            About::Resource => self.things[kind],
            About::Nobody => Uuid::new_v4(),
        };
        let resource_type = if kind == "records" { "Procedure" } else { "Practitioner" };
        path.replace("{id}", &id.to_string()).replace("{type}", resource_type)
    }
}

fn physician(world: &World, practitioner: Uuid, organization: Option<Uuid>) -> Caller {
    Caller::with_token(&world.url, world.issuer.token_of(Role::Physician, practitioner, organization))
}

/// Takes a patient into the practitioner's care.
async fn begin_encounter(caller: &Caller, patient: Uuid, practitioner: Uuid) -> Answer {
    let encounter = json!({
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "practitioner": practitioner
    });
    caller.post(&format!("/v1/patients/{patient}/encounters"), &encounter).await.expect(201)
}

async fn send(caller: &Caller, route: &Route, record: &Record, body: &Value) -> Answer {
    let method = Method::from_bytes(route.parts().0.as_bytes()).expect("a method");
    caller.request(method, &record.path(route)).json(body).answer().await
}

fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.door == Door::Write)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_routes_is_complete() {
    let world = World::start().await;
    let document = Caller::anonymous(&world.url).get("/openapi.json").await.expect(200).json();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert_eq!(described, routes().map(|route| route.name.to_owned()).collect());
}

/// Each role, on somebody's record that they care for, and on a stranger's. An empty body is refused for its form, so what
/// is allowed changes nothing; the policy answers before the domain, so what is refused is refused for the caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_every_role_as_the_policy_says() {
    let world = World::start().await;
    let document = Caller::anonymous(&world.url).get("/openapi.json").await.expect(200).json();
    let doctor = world.practitioner("1").await;
    let cared_for = Record::of(&world, world.patient().await, doctor).await;
    let stranger = Record::of(&world, world.stranger().await, doctor).await;
    let mut tried = 0;
    for role in Role::ALL {
        for (standing, record) in [(Standing::Colleague, &cared_for), (Standing::Stranger, &stranger)] {
            for route in routes() {
                let caller = match role {
                    Role::Patient => Caller::with_token(&world.url, world.issuer.patient_token(Uuid::new_v4())),
                    role => world.caller(role),
                };
                let body = crate::document::example_of(&document, route.name);
                let answer = send(&caller, route, record, &body).await;
                let expected = route.expected(role, standing);
                // Breaking the glass takes somebody who is in the directory, too; that has a test of its own.
                let expected = if route.name.ends_with("break-glass") { Decision::Deny } else { expected };
                let problem = answer.json()["type"].as_str().unwrap_or_default().to_owned();
                let found = match (answer.status.as_u16(), problem.as_str()) {
                    (403, "/problems/no-care-relationship") => Decision::Unrelated,
                    (403, _) => Decision::Deny,
                    (404, _) if expected == Decision::Hide => Decision::Hide,
                    (401 | 500.., _) => panic!("{role} {}: {}", route.name, answer.text),
                    _ => Decision::Allow,
                };
                assert_eq!(found, expected, "{role} {standing:?} {}: {}", route.name, answer.text);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, Role::ALL.len() * 2 * routes().count());
}

/// Insecure direct object reference: a patient who tries the id of everything that is somebody else's learns nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_ids_of_others_lead_a_patient_nowhere() {
    let world = World::start().await;
    let doctor = world.practitioner("1").await;
    let other = Record::of(&world, world.stranger().await, doctor).await;
    let me = world.stranger().await;
    let patient = Caller::with_token(&world.url, world.issuer.patient_token(me));
    let consent = json!({"category": {"system": "http://loinc.org", "code": "59284-0"}});
    let before = world.events().await;
    patient.post(&format!("/v1/patients/{}/consents", other.patient), &consent).await.problem(404, "not-found");
    let withdraw = |id: Uuid| format!("/v1/consents/{id}/withdraw");
    let there = patient.post(&withdraw(other.things["consents"]), &json!({})).await.problem(404, "not-found");
    let nowhere = patient.post(&withdraw(Uuid::new_v4()), &json!({})).await.problem(404, "not-found");
    assert_eq!((&there["title"], &there["detail"]), (&nowhere["title"], &nowhere["detail"]));
    assert_eq!(world.events().await, before);
    patient.post(&format!("/v1/patients/{me}/consents"), &consent).await.expect(201);
}

/// Who somebody is comes from the token's signature and from nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_identity_in_headers_is_ignored() {
    let world = World::start().await;
    let stranger = world.stranger().await;
    let smuggled = [
        ("x-user", "test-service"),
        ("x-roles", "service"),
        ("x-forwarded-user", "admin"),
        ("forwarded", "for=127.0.0.1;by=gateway"),
        ("x-patient", "018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c"),
        ("x-purpose-of-use", "ETREAT"),
        ("x-organization", "0a9a0000-0000-4000-8000-000000000001"),
    ];
    for (name, value) in smuggled {
        let path = format!("/v1/patients/{stranger}/observations");
        let request = world.caller(Role::Nurse).request(Method::POST, &path).header(name, value);
        request.json(&heart_rate("72")).answer().await.problem(403, "no-care-relationship");
        let request = world.caller(Role::Analyst).request(Method::POST, "/v1/directory").header(name, value);
        request.json(&crate::world::practitioner("2")).answer().await.problem(403, "forbidden");
    }
}

/// Elements that are the server's to say, or another route's, are not taken from a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_mass_assignment_is_refused() {
    let world = World::start().await;
    let patient = world.patient().await;
    let physician = world.caller(Role::Physician);
    for (name, value) in [
        ("id", json!(Uuid::new_v4())),
        ("subject", json!({"reference": format!("Patient/{}", Uuid::new_v4())})),
        ("meta", json!({"security": [{"code": "V"}]})),
        ("sequence", json!(7)),
        ("actor", json!("somebody")),
        ("roles", json!(["service"])),
    ] {
        let mut body = heart_rate("72");
        body[name] = value;
        let answer = physician.post(&format!("/v1/patients/{patient}/observations"), &body).await;
        assert_eq!((name, answer.status.as_u16()), (name, 400), "{}", answer.text);
    }
}

/// A care relationship begins and ends with the encounter; nothing is left in a memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn care_begins_with_an_encounter_and_ends_when_it_was_an_error() {
    let world = World::start().await;
    let (doctor, patient) = (world.practitioner("1").await, world.stranger().await);
    let physician = physician(&world, doctor, None);
    let path = format!("/v1/patients/{patient}/observations");
    physician.post(&path, &heart_rate("72")).await.problem(403, "no-care-relationship");
    let started = begin_encounter(&physician, patient, doctor).await;
    physician.post(&path, &heart_rate("72")).await.expect(201);
    let path_of = format!("/v1/encounters/{}/entered-in-error", id_of(&started));
    physician.post(&path_of, &json!({})).await.expect(200);
    physician.post(&path, &heart_rate("72")).await.problem(403, "no-care-relationship");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_withdrawn_consent_opens_nothing() {
    let world = World::start().await;
    let (doctor, patient) = (world.practitioner("1").await, world.stranger().await);
    let physician = physician(&world, doctor, None);
    let consent = consent(patient, "permit", doctor, json!([]));
    post_bundle(&world.service(), &bundle("transaction", &[create(consent.clone())])).await.expect(200);
    let path = format!("/v1/patients/{patient}/observations");
    physician.post(&path, &heart_rate("72")).await.expect(201);
    let own = Caller::with_token(&world.url, world.issuer.patient_token(patient));
    let id = consent["id"].as_str().unwrap_or_default();
    own.post(&format!("/v1/consents/{id}/withdraw"), &json!({})).await.expect(200);
    physician.post(&path, &heart_rate("72")).await.problem(403, "no-care-relationship");

    // The same by a bundle.
    let mut another = consent;
    another["id"] = json!(Uuid::new_v4());
    post_bundle(&world.service(), &bundle("transaction", &[create(another.clone())])).await.expect(200);
    physician.post(&path, &heart_rate("72")).await.expect(201);
    let url = format!("Consent/{}", another["id"].as_str().unwrap_or_default());
    another["status"] = json!("inactive");
    let entry = json!({"resource": another, "request": {"method": "PUT", "url": url}});
    post_bundle(&world.service(), &bundle("transaction", &[entry])).await.expect(200);
    physician.post(&path, &heart_rate("72")).await.problem(403, "no-care-relationship");
}

/// One door has just read the consent; another withdraws it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_consent_withdrawn_at_another_door_opens_nothing() {
    let mut world = World::start().await;
    let other = world.another_door().await;
    let (doctor, patient) = (world.practitioner("1").await, world.stranger().await);
    let physician = physician(&world, doctor, None);
    let consent = consent(patient, "permit", doctor, json!([]));
    post_bundle(&world.service(), &bundle("transaction", &[create(consent.clone())])).await.expect(200);
    let path = format!("/v1/patients/{patient}/observations");
    physician.post(&path, &heart_rate("72")).await.expect(201);
    physician.post(&path, &heart_rate("73")).await.expect(201);
    let own = Caller::with_token(&other, world.issuer.patient_token(patient));
    let id = consent["id"].as_str().unwrap_or_default();
    own.post(&format!("/v1/consents/{id}/withdraw"), &json!({})).await.expect(200);
    physician.post(&path, &heart_rate("74")).await.problem(403, "no-care-relationship");
}

/// A denial by one code hides what bears it beside others, whichever comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_by_any_coding_of_an_observation_hides_it() {
    let world = World::start().await;
    let (doctor, patient) = (world.practitioner("1").await, world.stranger().await);
    let physician = physician(&world, doctor, None);
    begin_encounter(&physician, patient, doctor).await;
    let observation = |codings: Value| {
        let mut observation = fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}"));
        observation["code"] = json!({"coding": codings});
        observation
    };
    let loinc = json!({"system": "http://loinc.org", "code": "8867-4"});
    let snomed = json!({"system": "http://snomed.info/sct", "code": "364075005"});
    let (both, one) = (observation(json!([loinc, snomed])), observation(json!([loinc])));
    let denial = consent(patient, "deny", doctor, json!([{"coding": [snomed]}]));
    let entries = [create(both.clone()), create(one.clone()), create(denial)];
    post_bundle(&world.service(), &bundle("transaction", &entries)).await.expect(200);
    let path =
        |resource: &Value| format!("/v1/observations/{}/entered-in-error", resource["id"].as_str().unwrap_or_default());
    physician.post(&path(&both), &json!({})).await.problem(404, "not-found");
    physician.post(&path(&one), &json!({})).await.expect(200);
}

fn consent(patient: Uuid, kind: &str, practitioner: Uuid, codes: Value) -> Value {
    let actor = json!({"role": {"text": "x"}, "reference": {"reference": format!("Practitioner/{practitioner}")}});
    let mut consent = json!({
        "resourceType": "Consent", "id": Uuid::new_v4(), "status": "active", "patient": {"reference": format!("Patient/{patient}")},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "provision": {"type": kind, "actor": [actor]}
    });
    if codes != json!([]) {
        consent["provision"]["code"] = codes;
    }
    consent
}

/// The glass opens the record for whoever broke it and for nobody else; the case is reviewed once, by somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_glass_is_broken_for_a_reason_and_reviewed() {
    let world = World::start().await;
    let (doctor, colleague, patient) =
        (world.practitioner("1").await, world.practitioner("2").await, world.stranger().await);
    let (one, other) = (physician(&world, doctor, None), physician(&world, colleague, None));
    let glass = format!("/v1/patients/{patient}/break-glass");
    let orders = format!("/v1/patients/{patient}/medication-orders");
    let reason = json!({"reason": "Unconscious.", "minutes": 10});
    one.post(&orders, &penicillin()).await.problem(403, "no-care-relationship");
    for bad in [json!({"reason": ""}), json!({"reason": "x", "minutes": 0}), json!({"reason": "x", "minutes": 61})] {
        one.post(&glass, &bad).await.problem(422, "invalid-value");
    }
    world.caller(Role::Physician).post(&glass, &reason).await.problem(403, "forbidden");
    world.caller(Role::Nurse).post(&glass, &reason).await.problem(403, "forbidden");
    let nobody = format!("/v1/patients/{}/break-glass", Uuid::new_v4());
    one.post(&nobody, &reason).await.problem(404, "not-found");
    let case = id_of(&post_with(&one, &glass, "key", &reason).await.expect(201));
    one.post(&orders, &penicillin()).await.expect(201);
    other.post(&orders, &penicillin()).await.problem(403, "no-care-relationship");

    let review = format!("/v1/emergency-accesses/{case}/review");
    let finding = json!({"finding": "Justified."});
    one.post(&review, &finding).await.problem(403, "forbidden");
    let mut claims = world.issuer.claims(&format!("physician-{doctor}"), &[Role::Auditor], None);
    claims["organization"] = json!(ORGANIZATION);
    let own = Caller::with_token(&world.url, world.issuer.mint(&claims));
    own.post(&review, &finding).await.problem(403, "forbidden");
    world.caller(Role::Auditor).post(&review, &finding).await.expect(200);
    world.caller(Role::Auditor).post(&review, &json!({"finding": "Other."})).await.problem(409, "rule-violated");
    one.post(&orders, &penicillin()).await.problem(403, "no-care-relationship");
}

/// A Task that says the same, but was filed like any other resource, opens nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_forged_emergency_opens_nothing() {
    let world = World::start().await;
    let (doctor, patient) = (world.practitioner("1").await, world.stranger().await);
    let task = json!({
        "resourceType": "Task", "id": Uuid::new_v4(), "status": "requested", "intent": "order",
        "code": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "BTG"}]},
        "for": {"reference": format!("Patient/{patient}")},
        "requester": {"reference": format!("Practitioner/{doctor}")},
        "restriction": {"period": {"start": "2020-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z"}}
    });
    post_bundle(&world.service(), &bundle("transaction", &[create(task)])).await.expect(200);
    let path = format!("/v1/patients/{patient}/observations");
    physician(&world, doctor, None).post(&path, &heart_rate("72")).await.problem(403, "no-care-relationship");
}
