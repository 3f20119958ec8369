//! What things are called, and what is hidden because of what they refer to.

use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::{Clinician, consent, encounter, labelled};
use crate::chart::condition;
use crate::sample;
use crate::world::{World, patient, reference};

fn order(patient: Uuid, more: Value) -> Value {
    let mut order = json!({"resourceType": "MedicationRequest", "id": Uuid::new_v4(), "status": "active", "intent": "order",
        "subject": reference("Patient", patient), "authoredOn": "2024-01-01",
        "category": [{"coding": [{"code": "inpatient", "display": "Inpatient"}]}]});
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    order
}

fn medication(id: Uuid, code: &str, name: Option<&str>) -> Value {
    let mut medication = json!({"resourceType": "Medication", "id": id, "code": {"coding": [{"code": code}]}});
    if let Some(name) = name {
        medication["code"]["text"] = json!(name);
    }
    medication
}

fn find<'a>(items: &'a [Value], resource: &Value) -> Option<&'a Value> {
    items.iter().find(|item| item["id"] == resource["id"])
}

async fn lists(world: &World, clinician: &Clinician, patient: Uuid) -> (Vec<Value>, Vec<Value>) {
    let chart = clinician.get(world, &format!("/v1/patients/{patient}/chart?section=medications")).await.json();
    let timeline = clinician.get(world, &format!("/v1/patients/{patient}/timeline?limit=200")).await.items();
    (chart["sections"][0]["items"].as_array().unwrap().clone(), timeline)
}

async fn cared_for(world: &World) -> (Uuid, Clinician) {
    let (id, doctor) = (Uuid::new_v4(), Clinician::new(world, Role::Physician));
    let visit = encounter(id, "in-progress", Some(doctor.practitioner), None);
    world.record_only([patient(id, "Cormier", "Chi", "1959-07-30"), visit]).await;
    (id, doctor)
}

#[tokio::test]
async fn a_medicine_is_called_by_its_name_wherever_that_stands() {
    let world = World::new().await;
    let (id, doctor) = cared_for(&world).await;
    let (named, bare, late) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let of = |medicine: Uuid| json!({"medicationReference": reference("Medication", medicine)});
    let contained = json!({"resourceType": "Medication", "id": "inner", "code": {"text": "Bisacodyl"}});
    let rows = [
        (order(id, of(named)), "Senna"),
        (order(id, of(bare)), "A06AB06"),
        (order(id, of(late)), "Lactulose"),
        (order(id, json!({"medicationReference": {"display": "Macrogol"}})), "Macrogol"),
        (order(id, json!({"contained": [contained], "medicationReference": {"reference": "#inner"}})), "Bisacodyl"),
        (
            order(id, json!({"medicationCodeableConcept": {"extension": [{"url": "urn:x", "valueCode": "unknown"}]}})),
            "Inpatient",
        ),
    ];
    world.record_only([medication(named, "A06AB06", Some("Senna")), medication(bare, "A06AB06", None)]).await;
    world.record_only(rows.iter().map(|(order, _)| order.clone())).await;
    world.record_only([medication(late, "A06AD11", Some("Lactulose"))]).await;
    let (chart, timeline) = lists(&world, &doctor, id).await;
    for (order, name) in &rows {
        assert_eq!(find(&chart, order).unwrap()["display"], *name, "{order}");
        assert_eq!(find(&timeline, order).unwrap()["title"], *name, "{order}");
    }
    world
        .apply(&[world.event("Updated", medication(named, "A06AB06", Some("Senna leaf")), json!({"notes": []})).await])
        .await;
    let (chart, _) = lists(&world, &doctor, id).await;
    assert_eq!(find(&chart, &rows[0].0).unwrap()["display"], "Senna leaf", "a new name counts at once");
}

/// Neither a consent nor a label can be got around by saying the medicine elsewhere.
#[tokio::test]
async fn what_hides_a_medicine_hides_the_orders_of_it() {
    let world = World::new().await;
    let (id, _) = cared_for(&world).await;
    let (denied, free, secret, unseen) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let reason = labelled(condition(Uuid::new_v4(), id, "86406008", "active", "2020-01-01"), "V");
    let of = |medicine: Uuid| json!({"medicationReference": reference("Medication", medicine)});
    let contained = medication(Uuid::nil(), "J05AR", None);
    let elsewhere = json!({"reference": "https://pharmacy.example/Medication/7", "display": "Something"});
    let because = json!({"medicationCodeableConcept": {"text": "Senna"}, "reasonReference": [{"reference":
        format!("Condition/{}", reason["id"].as_str().unwrap())}]});
    let hidden = [
        order(id, of(denied)),
        order(id, of(secret)),
        order(id, of(unseen)),
        order(id, json!({"contained": [contained], "medicationReference": {"reference": format!("#{}", Uuid::nil())}})),
        order(id, json!({"medicationReference": elsewhere})),
        order(id, because),
    ];
    let shown = order(id, of(free));
    let secret = labelled(medication(secret, "N07BC", None), "V");
    world.record_only([medication(denied, "J05AR", Some("Abacavir")), medication(free, "A06AB06", None), secret]).await;
    world.record_only([reason]).await;
    world.record_only(hidden.iter().chain([&shown]).cloned()).await;
    let denial = consent(id, json!({"type": "deny", "code": [{"coding": [{"code": "J05AR"}]}]}));
    world.record_only([denial]).await;
    // The organization's own clinicians: a very restricted one is for those who take part.
    let colleague = Clinician::new(&world, Role::Nurse);
    world.record_only([encounter(id, "in-progress", Some(colleague.practitioner), None)]).await;
    let (chart, timeline) = lists(&world, &colleague, id).await;
    let path = |order: &Value| format!("/fhir/MedicationRequest/{}", order["id"].as_str().unwrap());
    for order in &hidden {
        assert!(find(&chart, order).is_none() && find(&timeline, order).is_none(), "{order}");
        assert_eq!(colleague.status(&world, &path(order)).await, 404, "{order}");
    }
    assert!(find(&chart, &shown).is_some() && find(&timeline, &shown).is_some());
    assert_eq!(colleague.status(&world, &path(&shown)).await, 200);
    let own = world.issuer.patient_token(id);
    assert_eq!(world.get_with(&own, &path(&hidden[0]), &[]).await.status, 200);
    // A label that comes later counts.
    let later = labelled(medication(free, "A06AB06", None), "V");
    world.apply(&[world.event("Updated", later, json!({"notes": []})).await]).await;
    let (chart, _) = lists(&world, &colleague, id).await;
    assert!(find(&chart, &shown).is_none());
}

#[tokio::test]
async fn no_line_of_the_sample_is_nameless() {
    let world = World::new().await;
    let resources = sample::resources();
    let patients: Vec<Uuid> = resources
        .iter()
        .filter(|resource| resource["resourceType"] == "Patient")
        .map(|resource| resource["id"].as_str().unwrap().parse().unwrap())
        .collect();
    world.record(resources).await;
    for patient in patients {
        let timeline = world.get(Role::Physician, &format!("/v1/patients/{patient}/timeline?limit=500")).await.items();
        assert!(timeline.iter().all(|item| !item["title"].as_str().unwrap().trim().is_empty()));
        let chart = world.get(Role::Physician, &format!("/v1/patients/{patient}/chart?limit=500")).await.json();
        for section in chart["sections"].as_array().unwrap() {
            let items = section["items"].as_array().unwrap();
            assert!(items.iter().all(|item| !item["display"].as_str().unwrap().trim().is_empty()), "{section}");
        }
    }
}
