//! R4's modifier elements and our read models: what each decision says, shown by examples.

use std::collections::HashMap;

use nexus_auth::Role;
use nexus_domain::fhir::modifiers::decisions::{Decision, ROWS, decision, elements};
use nexus_domain::{AnyEvent, aggregate_for};
use nexus_projections::{read_models, schema_of};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

/// Read models that take a resource whole, or nothing of it.
const WHOLE: [&str; 2] = ["fhir_resources", "access_erasures"];
/// Rows whose examples stand elsewhere: with the series and scores, and with the search for people.
const SHOWN_ELSEWHERE: [&str; 2] = ["Observation.status", "Basic.code"];

#[test]
fn every_read_model_that_reads_a_type_minds_its_modifiers_or_has_none_to_mind() {
    let models = read_models();
    let known: Vec<&str> =
        models.iter().map(|model| model.name()).chain(AnyEvent::AGGREGATES.iter().copied()).collect();
    for row in ROWS {
        for name in row.by.iter().chain(row.spared) {
            assert!(known.contains(name) || *name == "access", "{name} is neither an aggregate nor a read model");
        }
    }
    for element in elements() {
        let row = decision(&element).unwrap();
        let kind = element.split('.').next().unwrap();
        let Some(aggregate) = aggregate_for(kind) else { continue };
        for model in models.iter().filter(|model| model.wants(aggregate) && reads(model.name(), kind)) {
            let decided = row.decision == Decision::Refused
                || row.by.contains(&model.name())
                || row.spared.contains(&model.name());
            assert!(decided, "{} reads {aggregate}; nobody decided what {element} means to it", model.name());
        }
    }
}

/// Of a directory that keeps many types, a read model that lists patients' data takes the names of some.
fn reads(model: &str, kind: &str) -> bool {
    let of_directory = aggregate_for(kind) == Some("DirectoryEntry");
    match model {
        "ward_census" if of_directory => kind == "Location",
        "patient_chart" | "timeline" if of_directory => kind == "Medication",
        _ => !WHOLE.contains(&model),
    }
}

/// What an example is to be in the chart: standing (2: not listed) and qualifier; and its status in the timeline, if it is
/// there.
struct Example {
    elements: &'static [&'static str],
    resource: Value,
    chart: Option<(i16, Option<&'static str>)>,
    timeline: Option<&'static str>,
}

fn coded(system: &str, code: &str) -> Value {
    let own = json!({"system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code});
    json!({"coding": [{"system": "urn:example:house", "code": "active"}, own]})
}

fn example(
    elements: &'static [&'static str],
    patient: Uuid,
    more: Value,
    chart: Option<(i16, Option<&'static str>)>,
    timeline: Option<&'static str>,
) -> Example {
    let mut resource = json!({"id": Uuid::new_v4()});
    resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let kind = resource["resourceType"].as_str().unwrap();
    let subject = match kind {
        "AllergyIntolerance" | "Immunization" | "RelatedPerson" | "Consent" => "patient",
        _ => "subject",
    };
    if kind == "Appointment" {
        resource["participant"] = json!([{"actor": reference("Patient", patient), "status": "accepted"}]);
    } else {
        resource[subject] = reference("Patient", patient);
    }
    Example { elements, resource, chart, timeline }
}

fn examples(id: Uuid) -> Vec<Example> {
    let strange = json!([{"url": "urn:example:unless", "valueBoolean": true}]);
    let condition = |clinical: &str, verified: &str| {
        json!({"resourceType": "Condition", "code": {"text": "Gout"},
            "clinicalStatus": coded("condition-clinical", clinical),
            "verificationStatus": coded("condition-ver-status", verified)})
    };
    let allergy = |clinical: &str, verified: &str| {
        json!({"resourceType": "AllergyIntolerance", "code": {"text": "Latex"},
            "clinicalStatus": coded("allergyintolerance-clinical", clinical),
            "verificationStatus": coded("allergyintolerance-verification", verified)})
    };
    let order = |status: &str, intent: &str, forbids: bool| {
        json!({"resourceType": "MedicationRequest", "medicationCodeableConcept": {"text": "Senna"}, "status": status,
            "intent": intent, "doNotPerform": forbids})
    };
    let plain = |kind: &str, status: &str| json!({"resourceType": kind, "status": status, "code": {"text": "x"}});
    let with = |mut json: Value, name: &str, value: Value| {
        json[name] = value;
        json
    };
    let visit = |status: &str| with(plain("Encounter", status), "class", json!({"code": "IMP"}));
    let request = |intent: &str, forbids: bool| {
        let request = with(plain("ServiceRequest", "active"), "intent", json!(intent));
        with(request, "doNotPerform", json!(forbids))
    };
    let inactive = |kind: &str| json!({"resourceType": kind, "active": false});
    let make = |elements, json, chart, timeline| example(elements, id, json, chart, timeline);
    let unlisted = Some((2, None));
    let clinical: &[&str] = &["Condition.clinicalStatus"];
    let verified: &[&str] = &["Condition.verificationStatus"];
    let of_order: &[&str] = &["MedicationRequest.status"];
    let intent: &[&str] = &["MedicationRequest.intent"];
    vec![
        make(clinical, condition("relapse", "confirmed"), Some((0, None)), Some("relapse")),
        make(clinical, condition("resolved", "confirmed"), Some((1, None)), Some("resolved")),
        make(verified, condition("active", "differential"), Some((0, Some("differential"))), Some("active")),
        make(verified, condition("active", "provisional"), Some((0, Some("provisional"))), Some("active")),
        make(verified, condition("inactive", "refuted"), Some((1, Some("refuted"))), Some("refuted")),
        make(verified, condition("active", "entered-in-error"), unlisted, None),
        make(
            &["AllergyIntolerance.verificationStatus"],
            allergy("active", "unconfirmed"),
            Some((0, Some("unconfirmed"))),
            Some("active"),
        ),
        make(
            &["AllergyIntolerance.verificationStatus"],
            allergy("inactive", "refuted"),
            Some((1, Some("refuted"))),
            Some("refuted"),
        ),
        make(
            &["AllergyIntolerance.clinicalStatus"],
            allergy("resolved", "confirmed"),
            Some((1, None)),
            Some("resolved"),
        ),
        make(of_order, order("active", "order", false), Some((0, None)), Some("active")),
        make(of_order, order("on-hold", "order", false), Some((0, None)), Some("on-hold")),
        make(of_order, order("draft", "order", false), Some((1, None)), Some("draft")),
        make(of_order, order("cancelled", "order", false), Some((1, None)), Some("cancelled")),
        make(of_order, order("entered-in-error", "order", false), unlisted, None),
        make(intent, order("active", "proposal", false), Some((1, Some("proposal"))), Some("proposal")),
        make(intent, order("active", "option", false), Some((1, Some("option"))), Some("option")),
        make(intent, order("active", "instance-order", false), Some((0, None)), Some("active")),
        make(
            &["MedicationRequest.doNotPerform"],
            order("active", "order", true),
            Some((1, Some("not-to-be-given"))),
            Some("not-to-be-given"),
        ),
        make(
            &["MedicationRequest.modifierExtension"],
            with(order("active", "order", false), "modifierExtension", strange.clone()),
            Some((2, Some("not-understood"))),
            Some("not-understood"),
        ),
        make(
            &["Procedure.implicitRules"],
            with(plain("Procedure", "completed"), "implicitRules", json!("urn:example:rules")),
            Some((2, Some("not-understood"))),
            Some("not-understood"),
        ),
        make(&["Encounter.status"], visit("in-progress"), Some((0, None)), Some("in-progress")),
        make(&["Encounter.status"], visit("cancelled"), Some((1, None)), Some("cancelled")),
        make(&["Encounter.status"], visit("entered-in-error"), unlisted, None),
        make(&["Appointment.status"], plain("Appointment", "noshow"), None, Some("noshow")),
        make(&["Appointment.status"], plain("Appointment", "entered-in-error"), None, None),
        make(&["Consent.status"], plain("Consent", "rejected"), None, Some("rejected")),
        make(&["Procedure.status"], plain("Procedure", "not-done"), Some((1, Some("not-done"))), Some("not-done")),
        make(
            &["MedicationStatement.status"],
            plain("MedicationStatement", "not-taken"),
            Some((1, Some("not-taken"))),
            Some("not-taken"),
        ),
        make(
            &["Immunization.status"],
            plain("Immunization", "not-done"),
            Some((1, Some("not-done"))),
            Some("not-done"),
        ),
        make(
            &["Immunization.isSubpotent"],
            with(plain("Immunization", "completed"), "isSubpotent", json!(true)),
            Some((1, Some("subpotent"))),
            Some("completed"),
        ),
        make(
            &["DocumentReference.status"],
            plain("DocumentReference", "superseded"),
            Some((1, None)),
            Some("superseded"),
        ),
        make(&["DiagnosticReport.status"], plain("DiagnosticReport", "entered-in-error"), unlisted, None),
        make(&["ServiceRequest.intent"], request("plan", false), None, Some("plan")),
        make(&["ServiceRequest.doNotPerform"], request("order", true), None, Some("not-to-be-done")),
        make(&["RelatedPerson.active"], inactive("RelatedPerson"), None, Some("inactive")),
        make(
            &["Goal.lifecycleStatus"],
            json!({"resourceType": "Goal", "lifecycleStatus": "entered-in-error"}),
            None,
            None,
        ),
        make(&["Flag.status"], plain("Flag", "entered-in-error"), None, None),
    ]
}

#[tokio::test]
async fn each_decision_shows_in_chart_and_timeline() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let examples = examples(id);
    let chart = read_models().into_iter().find(|model| model.name() == "patient_chart").unwrap();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    world.record(examples.iter().map(|example| example.resource.clone())).await;
    let statement = format!(
        "select id, standing, qualifier from {}.entries where patient = $1",
        schema_of(chart.name(), chart.version())
    );
    let rows: Vec<(Uuid, i16, Option<String>)> =
        sqlx::query_as(&statement).bind(id).fetch_all(&world.read).await.unwrap();
    let charted: HashMap<String, (i16, Option<String>)> =
        rows.into_iter().map(|(id, standing, qualifier)| (id.to_string(), (standing, qualifier))).collect();
    let items = world.get(Role::Physician, &format!("/v1/patients/{id}/timeline?limit=200")).await.items();
    let timeline: HashMap<&str, &Value> = items.iter().map(|item| (item["id"].as_str().unwrap(), item)).collect();
    for Example { elements, resource, chart, timeline: status } in &examples {
        let own = resource["id"].as_str().unwrap();
        let found = charted.get(own).map(|(standing, qualifier)| (*standing, qualifier.as_deref()));
        assert_eq!(found, *chart, "{elements:?} {resource}");
        assert_eq!(timeline.get(own).map(|item| item["status"].as_str().unwrap()), *status, "{elements:?} {resource}");
        let qualifier = chart.and_then(|(_, qualifier)| qualifier);
        if let (Some(word), Some(item)) = (qualifier, timeline.get(own)) {
            assert_eq!(item["qualifier"], word);
        }
    }
    let listed = world.get(Role::Physician, &format!("/v1/patients/{id}/chart?limit=200")).await.json();
    let listed = listed["sections"].to_string();
    let hidden = |it: &&Example| matches!(it.chart, Some((2, _)) | None);
    for Example { resource, .. } in examples.iter().filter(hidden) {
        assert!(!listed.contains(resource["id"].as_str().unwrap()), "{resource}");
    }
}

/// A row that says what the timeline does has an example that shows it.
#[test]
fn no_decision_goes_without_an_example() {
    let examples = examples(Uuid::new_v4());
    for row in ROWS.iter().filter(|row| row.by.contains(&"timeline") && row.decision != Decision::Kept) {
        let shown = |element: &&str| decision(element).is_some_and(|it| std::ptr::eq(it, row));
        let has_one = examples.iter().any(|example| example.elements.iter().any(&shown));
        assert!(has_one || SHOWN_ELSEWHERE.contains(&row.elements[0]), "{:?} has no example", row.elements);
    }
}

#[tokio::test]
async fn who_is_not_understood_is_in_no_census_and_no_calendar() {
    let world = World::new().await;
    let (id, ward, doctor) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let strange = json!([{"url": "urn:example:unless", "valueBoolean": true}]);
    let visit = json!({"resourceType": "Encounter", "id": Uuid::new_v4(), "status": "in-progress", "class": {"code": "IMP"},
        "subject": reference("Patient", id), "location": [{"location": reference("Location", ward)}]});
    let booking = json!({"resourceType": "Appointment", "id": Uuid::new_v4(), "status": "booked",
        "start": "2026-11-24T09:00:00Z", "end": "2026-11-24T10:00:00Z", "participant": [
            {"actor": reference("Patient", id), "status": "accepted"},
            {"actor": reference("Practitioner", doctor), "status": "accepted"}]});
    let with = |mut json: Value| {
        json["id"] = json!(Uuid::new_v4());
        json["modifierExtension"] = strange.clone();
        json
    };
    let both = [visit.clone(), with(visit), booking.clone(), with(booking)];
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    world.record(both).await;
    let census = world.get(Role::Nurse, &format!("/v1/wards/{ward}/census")).await;
    assert_eq!(census.items().len(), 1);
    let calendar = format!("/v1/practitioners/{doctor}/appointments?date=2026-11-24");
    assert_eq!(world.get(Role::Registrar, &calendar).await.items().len(), 1);
}
