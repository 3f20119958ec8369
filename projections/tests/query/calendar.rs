//! Practitioners' days.

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta};
use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

fn appointment(id: Uuid, patient: Uuid, practitioners: &[Uuid], start: &str) -> Value {
    let end = DateTime::parse_from_rfc3339(start).unwrap() + TimeDelta::minutes(30);
    lasting(id, patient, practitioners, (start, &end.to_rfc3339()))
}

fn lasting(id: Uuid, patient: Uuid, practitioners: &[Uuid], (start, end): (&str, &str)) -> Value {
    let actors = practitioners.iter().map(|practitioner| reference("Practitioner", *practitioner));
    let actors = actors.chain([reference("Patient", patient)]);
    json!({
        "resourceType": "Appointment",
        "id": id,
        "status": "booked",
        "description": "Check-up",
        "start": start,
        "end": end,
        "participant": actors.map(|actor| json!({"actor": actor, "status": "accepted"})).collect::<Vec<_>>(),
    })
}

async fn day(world: &World, practitioner: Uuid, query: &str) -> Vec<Value> {
    let path = format!("/v1/practitioners/{practitioner}/appointments?{query}");
    world.get(Role::Registrar, &path).await.items().iter().map(|item| item["appointment"].clone()).collect()
}

#[tokio::test]
async fn a_day_has_the_appointments_of_that_day_in_order() {
    let world = World::new().await;
    let (id, doctor, other) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let [early, late, eve] = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    world
        .record([
            patient(id, "Cormier", "Chi", "1959-07-30"),
            appointment(late, id, &[doctor, other], "2026-11-25T15:00:00Z"),
            appointment(early, id, &[doctor], "2026-11-25T09:00:00+01:00"),
            appointment(eve, id, &[doctor], "2026-11-24T23:30:00Z"),
        ])
        .await;
    assert_eq!(day(&world, doctor, "date=2026-11-25").await, [json!(early), json!(late)]);
    assert_eq!(day(&world, doctor, "date=2026-11-25&offset=%2B01:00").await, [json!(eve), json!(early), json!(late)]);
    assert_eq!(day(&world, doctor, "date=2026-11-25&offset=+01:00").await.len(), 3);
    assert_eq!(day(&world, other, "date=2026-11-25").await, [json!(late)]);
    assert!(day(&world, doctor, "date=2026-11-26").await.is_empty());
    let items =
        world.all_pages(Role::Nurse, &format!("/v1/practitioners/{doctor}/appointments?date=2026-11-25"), 1).await;
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["person"]["name"][0]["family"], "Cormier");
    assert_eq!((&items[0]["status"], &items[0]["description"]), (&json!("booked"), &json!("Check-up")));
}

#[tokio::test]
async fn what_lasts_over_midnight_is_in_every_day_that_it_touches() {
    let world = World::new().await;
    let (id, midwife) = (Uuid::new_v4(), Uuid::new_v4());
    let [night, until_midnight, from_midnight, walk_in, week] = std::array::from_fn(|_| Uuid::new_v4());
    let lasting = |it, start, end| lasting(it, id, &[midwife], (start, end));
    world
        .record([
            patient(id, "Okonkwo", "Ada", "1988-02-11"),
            lasting(week, "2027-03-01T08:00:00+13:00", "2027-03-08T08:00:00+13:00"),
            lasting(night, "2027-03-04T21:40:00+05:45", "2027-03-05T06:20:00+05:45"),
            lasting(until_midnight, "2027-03-04T22:00:00+05:45", "2027-03-05T00:00:00+05:45"),
            lasting(from_midnight, "2027-03-05T00:00:00+05:45", "2027-03-05T00:30:00+05:45"),
            lasting(walk_in, "2027-03-06T00:00:00+05:45", "2027-03-06T00:00:00+05:45"),
        ])
        .await;
    let week = json!(week);
    for (date, more) in [
        ("2027-03-01", vec![]),
        ("2027-03-04", vec![json!(night), json!(until_midnight)]),
        ("2027-03-05", vec![json!(night), json!(from_midnight)]),
        ("2027-03-06", vec![json!(walk_in)]),
        ("2027-03-07", vec![]),
        ("2027-03-08", vec![]),
    ] {
        // In Nepal the week begins on the 1st of March at 00:45, and is over on the 8th at 00:45.
        let expected = [vec![week.clone()], more].concat();
        assert_eq!(day(&world, midwife, &format!("date={date}&offset=%2B05:45")).await, expected, "{date}");
    }
    for (date, offset) in
        [("2027-02-28", "%2B05:45"), ("2027-02-28", "%2B13:00"), ("2027-03-08", "-05:00"), ("2027-03-09", "%2B05:45")]
    {
        assert!(day(&world, midwife, &format!("date={date}&offset={offset}")).await.is_empty(), "{date} {offset}");
    }
    let page = format!("/v1/practitioners/{midwife}/appointments?date=2027-03-05&offset=%2B05:45");
    let items = world.all_pages(Role::Nurse, &page, 1).await;
    assert_eq!(
        items.iter().map(|item| &item["appointment"]).collect::<Vec<_>>(),
        [&week, &json!(night), &json!(from_midnight)]
    );
    assert_eq!(
        (&items[1]["start"], &items[1]["end"]),
        (&json!("2027-03-04T15:55:00Z"), &json!("2027-03-05T00:35:00Z"))
    );
}

#[tokio::test]
async fn an_amended_appointment_leaves_the_old_calendar() {
    let world = World::new().await;
    let (id, one, other, it) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let booked = world.event("Booked", appointment(it, id, &[one], "2026-11-25T09:00:00Z"), json!({"notes": []})).await;
    world.apply(std::slice::from_ref(&booked)).await;
    let moved = appointment(it, id, &[other], "2026-11-26T09:00:00Z");
    world.apply(&[world.event("Amended", moved.clone(), json!({"notes": []})).await]).await;
    world.apply(&[booked]).await;
    assert!(day(&world, one, "date=2026-11-25").await.is_empty());
    assert_eq!(day(&world, other, "date=2026-11-26").await, [json!(it)]);
    let mut cancelled = moved;
    cancelled["status"] = json!("cancelled");
    world.apply(&[world.event("Cancelled", cancelled.clone(), json!({"reason": null})).await]).await;
    assert_eq!(day(&world, other, "date=2026-11-26").await, [json!(it)]);
    cancelled["status"] = json!("entered-in-error");
    world.apply(&[world.event("EnteredInError", cancelled, json!({})).await]).await;
    assert!(day(&world, other, "date=2026-11-26").await.is_empty());
}

#[tokio::test]
async fn a_day_must_be_one() {
    let world = World::new().await;
    for query in ["", "date=", "date=tomorrow", "date=2026-2-3", "date=2026-02-30", "date=2026-11-25&offset=CET"] {
        let path = format!("/v1/practitioners/{}/appointments?{query}", Uuid::new_v4());
        let answer = world.get(Role::Nurse, &path).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::BAD_REQUEST, "invalid-parameter"),
            "{query}"
        );
    }
}
