use chrono::{DateTime, SecondsFormat, TimeZone};
use nexus_event_store::SubjectKey;
use serde_json::{Value, json};

use super::*;

const ROUND: [(&str, f64); 5] =
    [("9279-1", 16.0), ("2708-6", 98.0), ("8480-6", 120.0), ("8867-4", 70.0), ("8310-5", 36.8)];

/// One patient, and a clock that the test sets.
struct Ward {
    bedside: Bedside,
    key: SubjectKey,
    stay: Uuid,
    now: DateTime<Utc>,
    position: i64,
}

impl Ward {
    fn new() -> Self {
        let key = SubjectKey::generate(Uuid::new_v4());
        let now = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
        Self { bedside: Bedside::default(), key, stay: Uuid::new_v4(), now, position: 0 }
    }

    /// A patient who is in hospital and whose last round was normal.
    fn with_inpatient() -> Self {
        let mut ward = Self::new();
        assert_eq!(ward.stay("IMP", "in-progress"), []);
        for (code, value) in ROUND {
            assert_eq!(ward.measure(code, value).1, []);
        }
        ward
    }

    fn tell(&mut self, aggregate_type: &str, event: &str, id: Uuid, resource: Value) -> Vec<Finding> {
        let payload = json!({event: {"resource": resource, "notes": []}});
        let event_type = format!("{aggregate_type}.{event}");
        let mut facts = AnyEvent::parse(aggregate_type, &event_type, "2.0", payload).unwrap();
        self.position += 1;
        self.bedside.see(&Event {
            partition: 0,
            position: self.position,
            subject: self.key.subject(),
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: id,
            sequence: 1,
            recorded_at: self.now,
            actor: "test".to_owned(),
            fact: facts.remove(0),
            key: self.key.clone(),
        })
    }

    fn born(&mut self, birth_date: &str) {
        let id = self.key.subject();
        self.tell(
            "Patient",
            "Registered",
            id,
            json!({"resourceType": "Patient", "id": id, "birthDate": birth_date, "gender": "other"}),
        );
    }

    fn stay(&mut self, class: &str, status: &str) -> Vec<Finding> {
        let (id, patient) = (self.stay, self.key.subject());
        let encounter = json!({
            "resourceType": "Encounter", "id": id, "status": status, "class": {"code": class},
            "subject": {"reference": format!("Patient/{patient}")},
        });
        self.tell("Encounter", "Started", id, encounter)
    }

    fn measure(&mut self, code: &str, value: f64) -> (Uuid, Vec<Finding>) {
        let at = self.now;
        self.measure_at(Uuid::new_v4(), code, value, at)
    }

    fn measure_at(&mut self, id: Uuid, code: &str, value: f64, at: DateTime<Utc>) -> (Uuid, Vec<Finding>) {
        let observation = observation(id, self.key.subject(), "final", code, value, at);
        (id, self.tell("Observation", "Recorded", id, observation))
    }
}

fn observation(id: Uuid, patient: Uuid, status: &str, code: &str, value: f64, at: DateTime<Utc>) -> Value {
    json!({
        "resourceType": "Observation", "id": id, "status": status,
        "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": value, "unit": "1"},
        "effectiveDateTime": at.to_rfc3339_opts(SecondsFormat::Secs, true),
    })
}

fn risks(findings: &[Finding]) -> Vec<Risk> {
    findings.iter().map(|it| it.risk).collect()
}

#[test]
fn a_red_score_is_found_at_once_and_a_complete_round_eases_it() {
    let mut ward = Ward::with_inpatient();
    assert_eq!(risks(&ward.measure("8867-4", 140.0).1), [Risk::LowMedium]);
    assert_eq!(ward.measure("8867-4", 141.0).1, [], "the same risk is no news");
    assert_eq!(risks(&ward.measure("8867-4", 70.0).1), [Risk::Low]);
}

#[test]
fn an_incomplete_round_alarms_and_does_not_reassure() {
    let mut ward = Ward::new();
    ward.stay("IMP", "in-progress");
    assert_eq!(risks(&ward.measure("8867-4", 140.0).1), [Risk::LowMedium]);
    assert_eq!(ward.measure("8867-4", 70.0).1, [], "four of five are not known");
}

#[test]
fn what_was_measured_a_day_ago_or_before_something_newer_does_not_count() {
    let mut ward = Ward::with_inpatient();
    let long_ago = ward.now - TimeDelta::hours(25);
    assert_eq!(ward.measure_at(Uuid::new_v4(), "8867-4", 140.0, long_ago).1, []);
    let earlier = ward.now - TimeDelta::hours(1);
    assert_eq!(ward.measure_at(Uuid::new_v4(), "8867-4", 140.0, earlier).1, [], "70 was measured after it");
    assert_eq!(risks(&ward.measure("8867-4", 140.0).1), [Risk::LowMedium]);
    ward.now += TimeDelta::hours(25);
    assert_eq!(ward.measure("8310-5", 36.8).1, [], "nothing else is known any more, so nothing is eased");
}

#[test]
fn what_was_entered_in_error_is_taken_back() {
    let mut ward = Ward::with_inpatient();
    let (id, found) = ward.measure("8867-4", 140.0);
    assert_eq!(risks(&found), [Risk::LowMedium]);
    let withdrawn = observation(id, ward.key.subject(), "entered-in-error", "8867-4", 140.0, ward.now);
    assert_eq!(risks(&ward.tell("Observation", "EnteredInError", id, withdrawn)), [Risk::Low]);
}

#[test]
fn children_outpatients_and_those_who_left_alarm_nobody() {
    let mut ward = Ward::new();
    ward.born("2015-05-05");
    ward.stay("IMP", "in-progress");
    assert_eq!(ward.measure("8867-4", 140.0).1, [], "NEWS2 is for adults");

    let mut ward = Ward::new();
    ward.born("1985-05-05");
    ward.stay("AMB", "in-progress");
    assert_eq!(ward.measure("8867-4", 140.0).1, []);

    let mut ward = Ward::with_inpatient();
    ward.measure("8867-4", 140.0);
    let ended = ward.stay("IMP", "finished");
    assert_eq!((risks(&ended), ended[0].encounter), (vec![Risk::Low], ward.stay), "the alert ends with the stay");
    assert_eq!(ward.measure("8867-4", 150.0).1, []);
}
