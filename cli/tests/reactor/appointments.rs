//! Appointment follow-up: timers that survive, fire once, and follow what they are about.

use chrono::{TimeDelta, Utc};
use nexus_testkit::{DEADLINE, Role, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, time};

/// Long enough for an appointment to be cancelled before it is over, and no longer.
const SOON: TimeDelta = TimeDelta::seconds(5);

fn appointment(patient: Uuid, starts_in: TimeDelta, ends_in: TimeDelta) -> Value {
    json!({
        "resourceType": "Appointment", "id": Uuid::new_v4(), "status": "booked",
        "start": time(Utc::now() + starts_in), "end": time(Utc::now() + ends_in),
        "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
    })
}

/// States an appointment as it was made elsewhere: those that are made here start at full five minutes only.
async fn record(world: &World, appointment: &Value) {
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": appointment, "request": {"method": "POST", "url": "Appointment"}}
    ]});
    world.service.post_fhir(bundle.to_string(), &Uuid::new_v4().to_string()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_survive_fire_once_and_end_with_their_cause() {
    let world = World::start().await;
    let _projector = world.projector().await;
    let reactor = world.reactor();
    let (missed, _) = world.inpatient().await;
    let (reminded, _) = world.inpatient().await;
    let (cancelled, _) = world.inpatient().await;
    let (past, _) = world.inpatient().await;
    record(&world, &appointment(missed, -TimeDelta::seconds(1), SOON)).await;
    record(&world, &appointment(reminded, TimeDelta::hours(24) + SOON, TimeDelta::hours(25))).await;
    record(&world, &appointment(past, -TimeDelta::hours(2), -TimeDelta::hours(1))).await;
    let doomed = appointment(cancelled, -TimeDelta::seconds(1), SOON);
    record(&world, &doomed).await;
    eventually("four timers", DEADLINE, || async {
        (world.orders("appointment_follow_up_v2", "due").await == 4).then_some(())
    })
    .await;
    // Nothing is awake when they are set off; what starts finds what is due.
    drop(reactor);
    let path = format!("/v1/appointments/{}/cancel", doomed["id"].as_str().unwrap());
    world.caller(Role::Registrar).post(&path, &json!({})).await.expect(200);
    let (_one, _other) = (world.reactor(), world.reactor());
    world.wait_for_events("Appointment", missed, &["Appointment.Recorded", "Appointment.NoShow"]).await;
    world.wait_for_events("Appointment", reminded, &["Appointment.Recorded", "Appointment.ReminderDue"]).await;
    let _third = world.reactor();
    // What is still to be sent: that the reminded one does not come tomorrow.
    eventually("two timers went off", DEADLINE, || async {
        let left = world.orders("appointment_follow_up_v2", "due").await;
        (left == 1 && world.orders("appointment_follow_up_v2", "done").await >= 1).then_some(())
    })
    .await;
    assert_eq!(world.events("Appointment", cancelled).await, ["Appointment.Recorded", "Appointment.Cancelled"]);
    assert_eq!(world.events("Appointment", past).await, ["Appointment.Recorded"]);
    assert_eq!(world.events("Appointment", missed).await.len(), 2);
    assert_eq!(world.events("Appointment", reminded).await.len(), 2);
}
