//! Given events, when a command, then events or a refusal.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::state::Step;
use super::{Appointment, AppointmentCommand, AppointmentEvent};
use crate::common::testing::{self, about, at, check_notes, decided, fold_all, given, history, now, read_fixtures};
use crate::fhir::Resource;
use crate::record::{Issued, PatientFacts, Record};
use crate::types::{Claim, ClaimChange};

const PATIENT: &str = "Patient/057aa36e-b892-9964-75b9-ffb46b097e34";
const DOCTOR: Uuid = Uuid::from_u128(0xd0);
const NURSE: Uuid = Uuid::from_u128(0xd1);
const NINE: &str = "2026-12-10T09:00:00Z";
const TEN_PAST_NINE: &str = "2026-12-10T09:10:00Z";

fn participant(reference: &str, status: &str) -> Value {
    json!({"actor": {"reference": reference}, "required": "required", "status": status})
}

fn practitioner(id: Uuid, status: &str) -> Value {
    participant(&format!("Practitioner/{id}"), status)
}

/// After `appointment-example` of HL7, ten minutes long.
fn resource() -> Resource {
    testing::resource(json!({
        "resourceType": "Appointment",
        "id": "6f1a1c52-5f39-4d57-a7c5-7f3f5e1c2b10",
        "status": "pending",
        "serviceCategory": [{"coding": [{"system": "http://example.org/service-category", "code": "gp"}]}],
        "start": NINE,
        "end": TEN_PAST_NINE,
        "participant": [participant(PATIENT, "accepted"), practitioner(DOCTOR, "needs-action")]
    }))
}

fn timed(start: &str, end: &str) -> Resource {
    resource().with("start", json!(start)).with("end", json!(end))
}

fn with_status(status: &str) -> Resource {
    resource().with("status", json!(status))
}

#[track_caller]
fn check(events: &[AppointmentEvent], when: &Issued<AppointmentCommand>, then: Result<&[&str], &str>) {
    testing::check::<Appointment>(events, when, then);
}

fn book(resource: Resource) -> Issued<AppointmentCommand> {
    decided(AppointmentCommand::Book { resource })
}

fn record(resource: Resource) -> Issued<AppointmentCommand> {
    history(AppointmentCommand::Record { resource, slot_taken: false })
}

fn record_over(resource: Resource) -> Issued<AppointmentCommand> {
    history(AppointmentCommand::Record { resource, slot_taken: true })
}

fn amend(resource: Resource) -> Issued<AppointmentCommand> {
    decided(AppointmentCommand::Amend { resource })
}

fn confirm() -> Issued<AppointmentCommand> {
    decided(AppointmentCommand::Confirm)
}

fn check_in() -> Issued<AppointmentCommand> {
    decided(AppointmentCommand::CheckIn)
}

fn cancel() -> Issued<AppointmentCommand> {
    decided(AppointmentCommand::Cancel { reason: Some("snow".to_owned()) })
}

/// On the day, after it should have begun.
fn no_show() -> Issued<AppointmentCommand> {
    Issued { now: at(TEN_PAST_NINE), ..decided(AppointmentCommand::MarkNoShow) }
}

fn mistake() -> Issued<AppointmentCommand> {
    decided(AppointmentCommand::MarkEnteredInError)
}

fn booked() -> Vec<AppointmentEvent> {
    testing::after::<Appointment>(&[], &book(resource()))
}

fn recorded(status: &str) -> Vec<AppointmentEvent> {
    testing::after::<Appointment>(&[], &record(with_status(status)))
}

fn after(steps: &[Issued<AppointmentCommand>]) -> Vec<AppointmentEvent> {
    steps.iter().fold(booked(), |events, step| testing::after::<Appointment>(&events, step))
}

fn standing(events: &[AppointmentEvent]) -> Resource {
    given::<Appointment>(events).resource().unwrap().clone()
}

/// What the last of the events does to the claims: the starts of the cells taken and of those released.
fn claimed(events: &[AppointmentEvent]) -> (Vec<String>, Vec<String>) {
    let (last, before) = events.split_last().unwrap();
    let (mut taken, mut released) = (Vec::new(), Vec::new());
    for change in given::<Appointment>(before).claims(last) {
        match change {
            ClaimChange::Take(claim) => taken.push(cell(&claim)),
            ClaimChange::Release(claim) => released.push(cell(&claim)),
        }
    }
    (taken, released)
}

/// `d0 09:05`: the last two digits of the practitioner's id and the start of the cell.
fn cell(claim: &Claim) -> String {
    let (practitioner, minutes) = claim.value.split_once('|').unwrap();
    let time = DateTime::<Utc>::from_timestamp(minutes.parse::<i64>().unwrap() * 60, 0).unwrap();
    format!("{} {}", &practitioner[34..], time.format("%H:%M"))
}

#[test]
fn book_takes_a_time_to_come() {
    let accepted = Ok(&["Appointment.Booked"][..]);
    for status in ["proposed", "pending", "booked"] {
        check(&[], &book(with_status(status)), accepted);
    }
    for status in ["waitlist", "arrived", "fulfilled", "cancelled"] {
        check(&[], &book(with_status(status)), Err("appointment-not-bookable"));
    }
    check(&[], &book(timed("2026-12-10T09:00:00Z", "2026-12-10T21:00:00Z")), accepted);
    check(&[], &book(timed("2026-12-10T09:00:00Z", "2026-12-10T21:05:00Z")), Err("appointment-too-long"));
    check(&[], &book(timed("2026-12-10T09:01:00Z", "2026-12-10T09:10:00Z")), Err("appointment-off-grid"));
    check(&[], &book(timed("2026-12-10T09:00:00Z", "2026-12-10T09:09:59Z")), Err("appointment-off-grid"));
    check(&[], &book(timed("2026-12-10T09:00:00+05:45", "2026-12-10T09:10:00+05:45")), accepted);
    check(&[], &book(timed(NINE, "2026-12-10T10:00:00+01:00")), Err("appointment-without-length"));
    check(&[], &book(timed("2026-11-24T07:55:00Z", "2026-11-24T08:55:00Z")), Err("appointment-in-the-past"));
    let timeless = resource().without("start").without("end").with("status", json!("proposed"));
    check(&[], &book(timeless), Err("required-element-missing"));
    let alone = resource().with("participant", json!([participant(PATIENT, "accepted")]));
    check(&[], &book(alone), Err("required-element-missing"));
    check(&booked(), &book(resource()), Ok(&[]));
    check(&after(&[confirm()]), &book(resource()), Ok(&[]));
    check(&booked(), &book(with_status("booked")), Err("already-recorded"));
}

#[test]
fn form() {
    let accepted = Ok(&["Appointment.Recorded"][..]);
    let mut statuses = vec!["proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow"];
    statuses.extend(["entered-in-error", "checked-in", "waitlist"]);
    for status in statuses {
        check(&[], &record(with_status(status)), accepted);
    }
    let with = |name: &str, value: Value| record(resource().with(name, value));
    check(&[], &with("status", json!("done")), Err("unknown-code"));
    check(&[], &record(resource().without("status")), Err("required-element-missing"));
    check(&[], &with("start", json!("2026-12-10")), Err("bad-date"));
    check(&[], &with("start", json!(9)), Err("wrong-type"));
    check(&[], &with("end", json!("2026-12-10T08:59:00Z")), Err("end-before-start"));
    check(&[], &with("end", json!("2026-12-10T10:10:00+01:15")), Err("end-before-start"));
    check(&[], &record(resource().without("end")), Err("required-element-missing"));
    check(&[], &record(resource().without("start")), Err("required-element-missing"));
    let timeless = || resource().without("start").without("end");
    check(&[], &record(timeless()), Err("required-element-missing"));
    check(&[], &record(timeless().with("status", json!("waitlist"))), accepted);
    check(&[], &record(resource().without("participant")), Err("required-element-missing"));
    check(&[], &with("participant", json!([practitioner(DOCTOR, "accepted")])), Err("required-element-missing"));
    check(&[], &with("participant", json!([participant(PATIENT, "maybe")])), Err("unknown-code"));
    check(&[], &with("participant", json!([{"actor": {"reference": PATIENT}}])), Err("required-element-missing"));
    check(&[], &with("participant", json!([{"status": "accepted"}])), Err("required-element-missing"));
    let optional = json!([{"actor": {"reference": PATIENT}, "required": "perhaps", "status": "accepted"}]);
    check(&[], &with("participant", optional), Err("unknown-code"));
    check(&[], &with("cancelationReason", json!({"text": "snow"})), Err("reason-without-cancellation"));
    check(&[], &with("room", json!("7")), Err("unknown-element"));
}

#[test]
fn patients_who_are_dead_or_replaced_refuse_decisions_and_note_history() {
    let dead =
        PatientFacts { deceased: true, deceased_at: Some(at("2026-11-01T00:00:00Z")), ..PatientFacts::default() };
    let replaced = PatientFacts { replaced: true, ..PatientFacts::default() };
    check(&[], &about(book(resource()), dead.clone()), Err("patient-deceased"));
    check(&[], &about(book(resource()), replaced.clone()), Err("patient-replaced"));
    check_notes::<Appointment>(&[], &about(record(resource()), dead.clone()), &["patient-deceased"]);
    let before = timed("2026-10-10T09:00:00Z", "2026-10-10T09:30:00Z");
    check_notes::<Appointment>(&[], &about(record(before), dead), &[]);
    check_notes::<Appointment>(&[], &about(record(resource()), replaced), &["patient-replaced"]);
    let mut stranger = record(resource());
    stranger.patient = PatientFacts::default();
    check(&[], &stranger, Err("unknown-patient"));
}

#[test]
fn history_is_noted_where_a_booking_would_be_refused() {
    check_notes::<Appointment>(&[], &record(resource()), &[]);
    check_notes::<Appointment>(&[], &record_over(resource()), &["slot-taken"]);
    let here = decided(AppointmentCommand::Record { resource: resource(), slot_taken: true });
    check(&[], &here, Err("slot-taken"));
    check_notes::<Appointment>(
        &[],
        &record(timed("2013-12-10T09:01:00Z", "2013-12-10T09:10:00Z")),
        &["appointment-off-grid"],
    );
    let walk_in = record(timed("2013-12-10T09:00:00Z", "2013-12-10T09:00:00Z"));
    check_notes::<Appointment>(&[], &walk_in, &["appointment-without-length"]);
    assert_eq!(claimed(&testing::after::<Appointment>(&[], &walk_in)), (vec![], vec![]));
    let long = record(timed("2013-12-10T09:00:00Z", "2013-12-12T09:00:00Z"));
    check_notes::<Appointment>(&[], &long, &["appointment-too-long"]);
    check_notes::<Appointment>(
        &[],
        &history(AppointmentCommand::Book { resource: timed("2013-12-10T09:00:00Z", "2013-12-10T09:10:00Z") }),
        &["appointment-in-the-past"],
    );
}

#[test]
fn a_booking_claims_every_cell_of_every_practitioner() {
    assert_eq!(claimed(&booked()), (vec!["d0 09:00".to_owned(), "d0 09:05".to_owned()], vec![]));
    let several = resource().with(
        "participant",
        json!([
            participant(PATIENT, "accepted"),
            practitioner(NURSE, "tentative"),
            practitioner(NURSE, "tentative"),
            practitioner(DOCTOR, "declined"),
            {"actor": {"reference": format!("Practitioner/{DOCTOR}")}, "required": "information-only", "status": "accepted"},
            participant("Location/0696ac49-3128-87d3-7344-04510aa4f324", "accepted")
        ]),
    );
    let events = testing::after::<Appointment>(&[], &book(several));
    assert_eq!(claimed(&events).0, ["d1 09:00", "d1 09:05"]);
    let ragged = record(timed("2013-12-10T09:01:00Z", "2013-12-10T09:10:01Z"));
    assert_eq!(claimed(&testing::after::<Appointment>(&[], &ragged)).0, ["d0 09:00", "d0 09:05", "d0 09:10"]);
    let day = book(timed("2026-12-10T00:00:00Z", "2026-12-10T12:00:00Z"));
    assert_eq!(claimed(&testing::after::<Appointment>(&[], &day)).0.len(), 144);
    let endless = record(timed("2013-12-10T09:00:00Z", "2033-12-12T09:00:00Z"));
    assert_eq!(claimed(&testing::after::<Appointment>(&[], &endless)), (vec![], vec![]));
}

#[test]
fn claims_are_given_up_with_the_appointment() {
    let cells = || vec!["d0 09:00".to_owned(), "d0 09:05".to_owned()];
    for end in [cancel(), no_show(), mistake()] {
        assert_eq!(claimed(&after(&[end])), (vec![], cells()));
    }
    for step in [confirm(), amend(resource().with("comment", json!("bring the scan")))] {
        assert_eq!(claimed(&after(&[step])), (vec![], vec![]));
    }
    assert_eq!(claimed(&after(&[confirm(), check_in()])), (vec![], vec![]));
    assert_eq!(claimed(&after(&[cancel(), mistake()])), (vec![], vec![]));
    let later = amend(timed("2026-12-10T09:05:00Z", "2026-12-10T09:15:00Z"));
    assert_eq!(claimed(&after(&[later])), (vec!["d0 09:10".to_owned()], vec!["d0 09:00".to_owned()]));
}

#[test]
fn what_was_booked_over_another_holds_nothing_that_it_could_give_up() {
    let over = testing::after::<Appointment>(&[], &record_over(resource()));
    assert_eq!(claimed(&over), (vec![], vec![]));
    for step in [cancel(), mistake(), amend(resource().with("comment", json!("bring the scan")))] {
        assert_eq!(claimed(&testing::after::<Appointment>(&over, &step)), (vec![], vec![]));
    }
    let moved = testing::after::<Appointment>(&over, &amend(timed("2026-12-10T10:00:00Z", "2026-12-10T10:05:00Z")));
    assert_eq!(claimed(&moved), (vec!["d0 10:00".to_owned()], vec![]));
    let agreed = testing::after::<Appointment>(&[], &record_over(with_status("booked")));
    assert_eq!(claimed(&testing::after::<Appointment>(&agreed, &check_in())), (vec![], vec![]));
    let confirmed = testing::after::<Appointment>(&over, &confirm());
    assert_eq!(claimed(&confirmed).0, ["d0 09:00", "d0 09:05"]);
    let waiting = testing::after::<Appointment>(&[], &record(with_status("waitlist")));
    assert_eq!(claimed(&waiting), (vec![], vec![]));
    assert_eq!(claimed(&testing::after::<Appointment>(&waiting, &confirm())).0, ["d0 09:00", "d0 09:05"]);
}

#[test]
fn amend_corrects_and_moves() {
    check(&[], &amend(resource()), Err("unknown-appointment"));
    check(&booked(), &amend(resource()), Ok(&[]));
    check(&booked(), &amend(timed("2026-12-11T09:00:00Z", "2026-12-11T09:30:00Z")), Ok(&["Appointment.Amended"]));
    check(&booked(), &amend(timed("2026-12-11T09:01:00Z", "2026-12-11T09:30:00Z")), Err("appointment-off-grid"));
    check(&booked(), &amend(timed("2026-12-11T09:00:00Z", "2026-12-12T09:30:00Z")), Err("appointment-too-long"));
    check(&booked(), &amend(timed("2026-11-23T09:00:00Z", "2026-11-23T09:30:00Z")), Err("appointment-in-the-past"));
    let other = "Patient/0696ac49-3128-87d3-7344-04510aa4f324";
    let participants = json!([participant(other, "accepted"), practitioner(DOCTOR, "accepted")]);
    check(&booked(), &amend(resource().with("participant", participants)), Err("subject-changed"));
    for (from, to, then) in [
        ("booked", "arrived", Ok(&["Appointment.Amended"][..])),
        ("arrived", "fulfilled", Ok(&["Appointment.Amended"])),
        ("arrived", "noshow", Err("already-checked-in")),
        ("checked-in", "booked", Err("already-checked-in")),
        ("cancelled", "booked", Err("appointment-over")),
        ("noshow", "arrived", Err("appointment-over")),
        ("fulfilled", "cancelled", Err("appointment-over")),
        ("fulfilled", "entered-in-error", Ok(&["Appointment.Amended"])),
        ("entered-in-error", "booked", Err("entered-in-error")),
    ] {
        check(&recorded(from), &amend(with_status(to)), then);
    }
}

#[test]
fn history_that_moves_claims_nothing() {
    let moved = timed("2026-12-11T09:00:00Z", "2026-12-11T09:30:00Z");
    let moving = history(AppointmentCommand::Amend { resource: moved });
    check_notes::<Appointment>(&booked(), &moving, &["slot-unclaimed"]);
    assert_eq!(claimed(&after(&[moving])), (vec![], vec!["d0 09:00".to_owned(), "d0 09:05".to_owned()]));
    let over = history(AppointmentCommand::Amend { resource: with_status("booked") });
    check_notes::<Appointment>(&recorded("cancelled"), &over, &["appointment-over", "slot-unclaimed"]);
}

#[test]
fn confirm_makes_it_booked() {
    check(&[], &confirm(), Err("unknown-appointment"));
    check(&booked(), &confirm(), Ok(&["Appointment.Confirmed"]));
    check(&after(&[confirm()]), &confirm(), Ok(&[]));
    check(&after(&[confirm(), check_in()]), &confirm(), Err("already-checked-in"));
    check(&after(&[cancel()]), &confirm(), Err("appointment-over"));
    check(&after(&[mistake()]), &confirm(), Err("entered-in-error"));
    let timeless = resource().without("start").without("end").with("status", json!("waitlist"));
    let waiting = testing::after::<Appointment>(&[], &record(timeless));
    check(&waiting, &confirm(), Err("appointment-not-scheduled"));
    check(&waiting, &no_show(), Err("appointment-not-scheduled"));
    let resource = standing(&after(&[confirm()]));
    assert_eq!(resource.text("status"), Some("booked"));
    assert_eq!(resource.text_at("/participant/1/status"), Some("accepted"));
}

#[test]
fn check_in_follows_the_confirmation() {
    check(&[], &check_in(), Err("unknown-appointment"));
    check(&booked(), &check_in(), Err("appointment-not-confirmed"));
    check(&after(&[confirm()]), &check_in(), Ok(&["Appointment.CheckedIn"]));
    check(&after(&[confirm(), check_in()]), &check_in(), Ok(&[]));
    check(&recorded("arrived"), &check_in(), Ok(&[]));
    check(&recorded("fulfilled"), &check_in(), Err("appointment-over"));
    assert_eq!(standing(&after(&[confirm(), check_in()])).text("status"), Some("checked-in"));
}

#[test]
fn cancel_comes_before_the_end() {
    check(&[], &cancel(), Err("unknown-appointment"));
    check(&booked(), &cancel(), Ok(&["Appointment.Cancelled"]));
    check(&after(&[confirm(), check_in()]), &cancel(), Ok(&["Appointment.Cancelled"]));
    check(&after(&[cancel()]), &cancel(), Ok(&[]));
    check(&after(&[no_show()]), &cancel(), Err("appointment-over"));
    check(&recorded("fulfilled"), &cancel(), Err("appointment-over"));
    check(&booked(), &decided(AppointmentCommand::Cancel { reason: Some(String::new()) }), Err("empty-element"));
    let silent = decided(AppointmentCommand::Cancel { reason: None });
    assert!(standing(&after(&[silent])).get("cancelationReason").is_none());
    let cancelled = after(&[cancel()]);
    assert_eq!(standing(&cancelled).text("status"), Some("cancelled"));
    assert_eq!(standing(&cancelled).text_at("/cancelationReason/text"), Some("snow"));
    let mistaken = standing(&after(&[cancel(), mistake()]));
    assert_eq!((mistaken.text("status"), mistaken.get("cancelationReason")), (Some("entered-in-error"), None));
}

#[test]
fn a_no_show_is_known_once_it_should_have_begun() {
    check(&[], &no_show(), Err("unknown-appointment"));
    check(&booked(), &decided(AppointmentCommand::MarkNoShow), Err("appointment-not-yet-due"));
    check(&booked(), &no_show(), Ok(&["Appointment.NoShow"]));
    check(&after(&[confirm()]), &no_show(), Ok(&["Appointment.NoShow"]));
    check(&after(&[no_show()]), &no_show(), Ok(&[]));
    check(&after(&[confirm(), check_in()]), &no_show(), Err("already-checked-in"));
    check(&after(&[cancel()]), &no_show(), Err("appointment-over"));
    assert_eq!(standing(&after(&[no_show()])).text("status"), Some("noshow"));
}

#[test]
fn a_reminder_is_due_once_for_each_time() {
    let remind = || decided(AppointmentCommand::Remind);
    check(&[], &remind(), Err("unknown-appointment"));
    check(&booked(), &remind(), Err("appointment-not-confirmed"));
    check(&after(&[confirm()]), &remind(), Ok(&["Appointment.ReminderDue"]));
    check(&after(&[confirm(), remind()]), &remind(), Ok(&[]));
    let moved = amend(timed("2026-12-11T09:00:00Z", "2026-12-11T09:30:00Z").with("status", json!("booked")));
    check(&after(&[confirm(), remind(), moved]), &remind(), Ok(&["Appointment.ReminderDue"]));
    let late = Issued { now: at(NINE), ..remind() };
    check(&after(&[confirm()]), &late, Err("appointment-has-begun"));
    check(&after(&[confirm(), check_in()]), &remind(), Err("already-checked-in"));
    check(&after(&[cancel()]), &remind(), Err("appointment-over"));
    let timeless = resource().without("start").without("end").with("status", json!("waitlist"));
    check(&testing::after::<Appointment>(&[], &record(timeless)), &remind(), Err("appointment-not-scheduled"));
    assert_eq!(standing(&after(&[confirm(), remind()])), standing(&after(&[confirm()])));
    check(&after(&[confirm(), remind()]), &cancel(), Ok(&["Appointment.Cancelled"]));
}

#[test]
fn mark_entered_in_error() {
    check(&[], &mistake(), Err("unknown-appointment"));
    check(&recorded("fulfilled"), &mistake(), Ok(&["Appointment.EnteredInError"]));
    check(&after(&[mistake()]), &mistake(), Ok(&[]));
}

/// Every event version ever written must stay readable; these files are never changed.
#[test]
fn fixtures_of_every_version_are_read() {
    assert_eq!(
        read_fixtures::<Appointment>("appointment"),
        [
            "Appointment.Amended 1.0",
            "Appointment.Booked 1.0",
            "Appointment.Cancelled 1.0",
            "Appointment.CheckedIn 1.0",
            "Appointment.Confirmed 1.0",
            "Appointment.EnteredInError 1.0",
            "Appointment.NoShow 1.0",
            "Appointment.Recorded 1.0",
            "Appointment.ReminderDue 1.0"
        ]
    );
}

fn any_command() -> impl Strategy<Value = Issued<AppointmentCommand>> {
    let statuses = ["proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "waitlist", "noshow"];
    let resources =
        (prop::sample::select(statuses.to_vec()), -20..40_i64, 1..20_i64).prop_map(|(status, from, length)| {
            let text = |cells: i64| (now() + TimeDelta::minutes(5 * cells)).to_rfc3339_opts(SecondsFormat::Secs, true);
            timed(&text(from), &text(from + length)).with("status", json!(status))
        });
    let action = prop_oneof![
        resources.clone().prop_map(|resource| AppointmentCommand::Book { resource }),
        (resources.clone(), any::<bool>())
            .prop_map(|(resource, slot_taken)| AppointmentCommand::Record { resource, slot_taken }),
        resources.prop_map(|resource| AppointmentCommand::Amend { resource }),
        Just(AppointmentCommand::Confirm),
        Just(AppointmentCommand::CheckIn),
        Just(AppointmentCommand::Cancel { reason: None }),
        Just(AppointmentCommand::MarkNoShow),
        Just(AppointmentCommand::Remind),
        Just(AppointmentCommand::MarkEnteredInError),
    ];
    (action, any::<bool>()).prop_map(|(action, here)| if here { decided(action) } else { history(action) })
}

proptest! {
    #[test]
    fn any_accepted_history_folds(commands in prop::collection::vec(any_command(), 1..20), taken in any::<bool>()) {
        let first = if taken { record_over(resource()) } else { book(resource()) };
        let commands: Vec<_> = std::iter::once(first).chain(commands).collect();
        let accepted = fold_all::<Appointment>(&commands, |state| {
            let resource = state.resource().unwrap();
            assert_eq!(state.step, Step::of(resource));
            super::form::check(resource).unwrap();
        });
        prop_assert!(accepted >= 1);
    }
}
