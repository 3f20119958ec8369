//! What an old log may hold and the write door refuses today: no event may be one that the database can't take.

use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

/// Longer than an entry of an index may be, and nothing that could be compressed.
fn long() -> String {
    (0..200).map(|_| Uuid::new_v4().simple().to_string()).collect()
}

fn about(patient: Uuid, mut resource: Value) -> Value {
    resource["id"] = json!(Uuid::new_v4());
    resource["subject"] = reference("Patient", patient);
    resource
}

#[tokio::test]
async fn texts_that_a_column_can_not_hold_stop_nobody() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let mut person = patient(id, "Cor\0mier", "Chi", "1959-07-30");
    person["gender"] = json!("fe\0male");
    world.record([person]).await;
    for (system, code) in [(long(), long()), ("http://loinc.org\0".to_owned(), "84\080-6".to_owned())] {
        let coded = json!({"coding": [{"system": system, "code": code}]});
        let resources = [
            json!({"resourceType": "Condition", "code": coded, "clinicalStatus": coded}),
            json!({"resourceType": "Observation", "status": code, "code": coded,
                "valueQuantity": {"value": 120, "unit": "mmHg", "code": code, "system": system}}),
            json!({"resourceType": "Encounter", "status": code, "class": {"system": system, "code": code}}),
            json!({"resourceType": "Procedure", "status": code, "code": coded}),
            json!({"resourceType": "Appointment", "status": code, "start": "2026-11-25T09:00:00Z",
                "participant": [{"actor": reference("Patient", id)}]}),
        ];
        world.record(resources.map(|resource| about(id, resource))).await;
    }
    // Found by what was sent, as far as it is kept, and by what the column holds.
    for code in ["8480-6", "84%0080-6", "http://loinc.org%00%7C8480-6"] {
        let found = world.get(Role::Nurse, &format!("/v1/patients/{id}/vital-signs?code={code}")).await.items();
        assert_eq!(found.len(), 1, "{code}");
    }
    let pages = world.all_pages(Role::Analyst, "/v1/population/conditions", 1).await;
    assert_eq!(pages.len(), 2);
    let timeline = world.get(Role::Nurse, &format!("/v1/patients/{id}/timeline")).await.items();
    assert_eq!(timeline.len(), 11);
}
