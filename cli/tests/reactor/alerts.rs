//! Early warning, from an observation to the ward's list.

use nexus_testkit::{DEADLINE, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::World;

const RAISED: &str = "Alert.Raised";
const ESCALATED: &str = "Alert.Escalated";
const EASED: &str = "Alert.Eased";
const CLEARED: &str = "Alert.Cleared";

async fn standing(world: &World, patient: Uuid) -> Vec<Value> {
    let answer = world.nurse.get(&format!("/v1/patients/{patient}/alerts")).await;
    if answer.status == 200 { answer.json()["items"].as_array().unwrap().clone() } else { Vec::new() }
}

async fn wait_until_risk(world: &World, patient: Uuid, risk: Option<&str>) -> Option<Value> {
    eventually(&format!("the risk is {risk:?}"), DEADLINE, || async {
        let alerts = standing(world, patient).await;
        let found = alerts.first().map(|alert| alert["risk"].as_str().unwrap().to_owned());
        (found.as_deref() == risk).then(|| alerts.first().cloned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_rises_eases_and_ends_with_what_is_measured() {
    let world = World::start().await;
    let (_projector, _reactor) = (world.projector().await, world.reactor());
    let (patient, stay) = world.inpatient().await;
    world.is_well(patient).await;
    // A measurement of the day before yesterday alarms nobody, nor does one of somebody who is not in hospital.
    let old = json!({
        "code": {"system": "http://loinc.org", "code": "8867-4"}, "effectiveAt": "2020-01-01T00:00:00Z",
        "value": {"value": 200, "unit": "/min", "code": "/min"}
    });
    let path = format!("/v1/patients/{patient}/observations");
    world.service.post(&path, &old).await.expect(201);
    // Above 100 is 1, 2 or 3 points: nobody can tell.
    let bounded = json!({
        "code": {"system": "http://loinc.org", "code": "8867-4"},
        "value": {"value": 100, "comparator": ">", "unit": "/min", "code": "/min"}
    });
    world.service.post(&path, &bounded).await.expect(201);
    world.measure(patient, "8867-4", 140.0, "/min").await;
    let alert = wait_until_risk(&world, patient, Some("low-medium")).await.unwrap();
    assert_eq!((&alert["score"], alert["encounter"].as_str()), (&json!(3), Some(stay.to_string().as_str())));
    assert_eq!(alert["undecided"], json!([]));
    assert_eq!(alert["person"]["name"][0]["family"], "Example");
    let mistaken = world.measure(patient, "9279-1", 26.0, "/min").await;
    wait_until_risk(&world, patient, Some("medium")).await;
    world.measure(patient, "3151-8", 2.0, "L/min").await;
    wait_until_risk(&world, patient, Some("high")).await;
    let mistake = format!("/v1/observations/{mistaken}/entered-in-error");
    world.service.post(&mistake, &json!({})).await.expect(200);
    wait_until_risk(&world, patient, Some("medium")).await;
    let finish = json!({"disposition": {
        "system": "http://terminology.hl7.org/CodeSystem/discharge-disposition", "code": "home"
    }});
    world.service.post(&format!("/v1/encounters/{stay}/finish"), &finish).await.expect(200);
    wait_until_risk(&world, patient, None).await;
    world.measure(patient, "8867-4", 150.0, "/min").await;
    world.wait_for_events("Alert", patient, &[RAISED, ESCALATED, ESCALATED, EASED, CLEARED]).await;
    assert_eq!(world.orders("early_warning_v2", "refused").await, 0);
}

/// Twenty times the reactor is killed (SIGKILL), and the projector dies now and then, in the middle of what they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_is_there_once_though_everything_dies_twenty_times() {
    const ROUNDS: usize = 20;
    let world = World::start().await;
    let mut projector = Some(world.projector().await);
    let mut reactor = Some(world.reactor());
    let mut patients = Vec::new();
    for _ in 0..4 {
        let (patient, _) = world.inpatient().await;
        world.is_well(patient).await;
        patients.push(patient);
    }
    for round in 0..ROUNDS {
        let done = world.orders("early_warning_v2", "done").await;
        for (index, patient) in patients.iter().enumerate() {
            world.measure(*patient, "8867-4", 140.0, "/min").await;
            world.measure(*patient, "8867-4", 70.0, "/min").await;
            if index == round % patients.len() {
                eventually("this one is at work", DEADLINE, || async {
                    (world.orders("early_warning_v2", "done").await > done).then_some(())
                })
                .await;
                drop(reactor.take());
                reactor = Some(world.reactor());
                if round % 5 == 4 {
                    // Not both at the same time: the dead one leaves its partitions first.
                    drop(projector.take());
                    projector = Some(world.projector().await);
                }
            }
        }
    }
    let expected: Vec<&str> = [RAISED, CLEARED].into_iter().cycle().take(2 * ROUNDS).collect();
    for patient in patients {
        world.wait_for_events("Alert", patient, &expected).await;
    }
    eventually("nothing is left to be done", DEADLINE, || async {
        (world.orders("early_warning_v2", "due").await == 0).then_some(())
    })
    .await;
    assert_eq!(world.orders("early_warning_v2", "done").await, i64::try_from(4 * 2 * ROUNDS).unwrap());
}
