use chrono::{DateTime, SecondsFormat, TimeZone};
use nexus_event_store::SubjectKey;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const ROUND: [(&str, f64); 5] =
    [("9279-1", 16.0), ("2708-6", 98.0), ("8480-6", 120.0), ("8867-4", 70.0), ("8310-5", 36.8)];

/// One patient, and a clock that the test sets.
#[derive(Clone)]
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

    fn tell(&mut self, aggregate_type: &str, event: &str, id: Uuid, resource: Json) -> Vec<Finding> {
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

fn observation(id: Uuid, patient: Uuid, status: &str, code: &str, value: f64, at: DateTime<Utc>) -> Json {
    json!({
        "resourceType": "Observation", "id": id, "status": status,
        "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit_of(code)},
        "effectiveDateTime": at.to_rfc3339_opts(SecondsFormat::Secs, true),
    })
}

fn unit_of(code: &str) -> &'static str {
    match code {
        "2708-6" => "%",
        "8480-6" => "mm[Hg]",
        "8310-5" => "Cel",
        _ => "/min",
    }
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

#[test]
fn what_was_measured_last_counts_however_much_is_recorded_afterwards() {
    let mut ward = Ward::with_inpatient();
    assert_eq!(risks(&ward.measure("8867-4", 140.0).1), [Risk::LowMedium]);
    for minutes in 1..=40 {
        let earlier = ward.now - TimeDelta::minutes(minutes);
        assert_eq!(ward.measure_at(Uuid::new_v4(), "8867-4", 70.0, earlier).1, [], "the history of a monitor");
    }
}

#[test]
fn a_bounded_value_alarms_by_what_is_certain_and_says_what_is_not() {
    let mut ward = Ward::with_inpatient();
    let bounded = |ward: &mut Ward, comparator: &str, value: f64| {
        let mut pulse = observation(Uuid::new_v4(), ward.key.subject(), "final", "8867-4", value, ward.now);
        pulse["valueQuantity"]["comparator"] = json!(comparator);
        let id = Uuid::parse_str(pulse["id"].as_str().unwrap()).unwrap();
        ward.tell("Observation", "Recorded", id, pulse)
    };
    assert_eq!(bounded(&mut ward, ">", 100.0), [], "1, 2 or 3");
    let found = ward.measure("9279-1", 26.0).1;
    assert_eq!(
        (risks(&found), found[0].score, &found[0].undecided),
        (vec![Risk::LowMedium], 3, &vec![Parameter::Pulse])
    );
    assert_eq!(ward.measure("9279-1", 16.0).1, [], "the pulse may be anything above 100");
    let found = bounded(&mut ward, ">", 135.0);
    assert_eq!(found, [], "3, which is the risk that stands");
    let found = ward.measure("8310-5", 39.5).1;
    assert_eq!((risks(&found), found[0].score, found[0].undecided.len()), (vec![Risk::Medium], 5, 0));
    assert_eq!(risks(&ward.measure("8867-4", 70.0).1), [Risk::Low], "all of it is measured again");
}

#[test]
fn an_amendment_that_says_less_reassures_nobody() {
    let mut ward = Ward::with_inpatient();
    let (id, found) = ward.measure("8867-4", 140.0);
    assert_eq!(risks(&found), [Risk::LowMedium]);
    let amended = observation(id, ward.key.subject(), "amended", "8867-4", 140.0, ward.now);
    for (name, what) in OBSCURE {
        let mut ward = ward.clone();
        assert_eq!(ward.tell("Observation", "Amended", id, what(amended.clone(), ward.now)), [], "{name}");
        assert_eq!(ward.measure("9279-1", 16.0).1, [], "{name}: nobody knows the pulse");
        assert_eq!(risks(&ward.measure("8867-4", 70.0).1), [Risk::Low], "{name}: until it is measured again");
    }
}

/// A way in which an observation says less than it seems to.
type Change = (&'static str, fn(Json, DateTime<Utc>) -> Json);

fn with(mut observation: Json, name: &str, value: Json) -> Json {
    observation[name] = value;
    observation
}

fn at(observation: Json, name: &str, time: Json) -> Json {
    let mut observation = observation;
    observation.as_object_mut().unwrap().shift_remove("effectiveDateTime");
    with(observation, name, time)
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Nobody can tell whether it says anything of now.
const OBSCURE: [Change; 10] = [
    ("without a time", |it, _| at(it, "note", json!([{"text": "x"}]))),
    ("of a day", |it, now| at(it, "effectiveDateTime", json!(now.date_naive().to_string()))),
    ("of a year", |it, now| at(it, "effectiveDateTime", json!(now.year().to_string()))),
    ("issued now", |it, now| at(it, "issued", json!(text(now)))),
    ("ongoing", |it, now| at(it, "effectivePeriod", json!({"start": text(now)}))),
    ("until now", |it, now| at(it, "effectivePeriod", json!({"end": text(now)}))),
    ("ahead of the clock", |it, now| at(it, "effectiveInstant", json!(text(now + TimeDelta::minutes(30))))),
    ("since the day before yesterday", |it, now| {
        at(it, "effectivePeriod", json!({"start": text(now - TimeDelta::hours(50)), "end": text(now)}))
    }),
    ("not understood", |it, _| with(it, "modifierExtension", json!([{"url": "urn:x", "valueBoolean": true}]))),
    ("of unknown status", |it, _| with(it, "status", json!("unknown"))),
];

/// It says nothing of the patient now.
const IRRELEVANT: [Change; 7] = [
    ("about another", |it, _| with(it, "focus", json!([{"reference": format!("RelatedPerson/{}", Uuid::new_v4())}]))),
    ("of a place", |it, _| with(it, "subject", json!({"reference": format!("Location/{}", Uuid::new_v4())}))),
    ("of another patient", |it, _| with(it, "subject", json!({"reference": format!("Patient/{}", Uuid::new_v4())}))),
    ("of 2018", |it, _| at(it, "effectiveDateTime", json!("2018-06"))),
    ("of yesterday", |it, now| at(it, "effectiveDateTime", json!(text(now - TimeDelta::hours(25))))),
    ("issued in 2018", |it, _| at(it, "issued", json!("2018-06-05T04:03:02Z"))),
    ("cancelled", |it, _| with(it, "status", json!("cancelled"))),
];

fn any_measurement() -> impl Strategy<Value = (usize, f64)> {
    let spread = [(4, 40), (75, 100), (60, 240), (30, 180), (33, 42)];
    (0..ROUND.len(), 0.0..1.0_f64).prop_map(move |(index, share)| {
        let (least, most) = spread[index];
        (index, (f64::from(least) + f64::from(most - least) * share).round())
    })
}

impl Ward {
    /// The risk that stands.
    fn risk(&self) -> Risk {
        self.bedside.stays.get(&self.stay).and_then(|risk| Risk::parse(risk)).unwrap_or(Risk::Low)
    }

    /// A bedside as any day may leave it.
    fn after(day: &[(usize, f64)]) -> Self {
        let mut ward = Self::new();
        ward.stay("IMP", "in-progress");
        for (index, value) in day {
            ward.now += TimeDelta::minutes(20);
            ward.measure(ROUND[*index].0, *value);
        }
        ward
    }
}

proptest! {
    /// No alert is raised, escalated or cleared by what is somebody else's, of another time, or not understood: it leaves
    /// no trace at all.
    #[test]
    fn what_says_nothing_of_the_patient_now_moves_nothing(
        day in prop::collection::vec(any_measurement(), 0..25), (index, value) in any_measurement(),
        change in prop::sample::select([&OBSCURE[..], &IRRELEVANT[..]].concat()),
    ) {
        let mut ward = Ward::after(&day);
        let before = ward.bedside.clone();
        let id = Uuid::new_v4();
        let said = observation(id, ward.key.subject(), "final", ROUND[index].0, value, ward.now);
        let found = ward.tell("Observation", "Recorded", id, (change.1)(said, ward.now));
        prop_assert_eq!(found, vec![], "{}", change.0);
        prop_assert_eq!(ward.bedside, before, "{}", change.0);
    }

    /// A bounded value eases nothing, and raises no more than every number does that it may stand for.
    #[test]
    fn a_bounded_value_moves_nothing_that_all_of_it_would_not_move(
        day in prop::collection::vec(any_measurement(), 0..25), (index, value) in any_measurement(),
        comparator in prop::sample::select(vec!["<", "<=", ">", ">=", "ad"]), share in 0.0..1.0_f64,
        later in prop::collection::vec(any_measurement(), 0..4),
    ) {
        let ward = Ward::after(&day);
        let code = ROUND[index].0;
        let tell = |number: f64, comparator: Option<&str>| {
            let mut ward = ward.clone();
            let id = Uuid::new_v4();
            let mut said = observation(id, ward.key.subject(), "final", code, number, ward.now);
            if let Some(comparator) = comparator {
                said["valueQuantity"]["comparator"] = json!(comparator);
            }
            ward.tell("Observation", "Recorded", id, said);
            ward
        };
        let mut bounded = tell(value, Some(comparator));
        prop_assert!(bounded.risk() >= ward.risk());
        let meant = match comparator {
            "<" | "<=" => value * share,
            ">" | ">=" => value + 300.0 * share,
            _ => 300.0 * share,
        };
        let exact = tell(meant, None);
        prop_assert!(bounded.risk() <= exact.risk().max(ward.risk()), "{comparator} {value} was {meant}");
        // Whatever else is measured: as long as this is the latest of its kind, nothing is eased.
        for (other, value) in later.into_iter().filter(|(other, _)| *other != index) {
            let before = bounded.risk();
            bounded.now += TimeDelta::minutes(1);
            bounded.measure(ROUND[other].0, value);
            prop_assert!(bounded.risk() >= before);
        }
    }

    /// An amendment after which less is known than before eases nothing.
    #[test]
    fn what_is_amended_into_something_obscure_eases_nothing(
        day in prop::collection::vec(any_measurement(), 0..25), (index, value) in any_measurement(),
        change in prop::sample::select(OBSCURE.to_vec()), comparator in prop::option::of(Just(">")),
    ) {
        let mut ward = Ward::after(&day);
        let (id, _) = ward.measure(ROUND[index].0, value);
        let before = ward.risk();
        let mut amended = observation(id, ward.key.subject(), "amended", ROUND[index].0, value, ward.now);
        if let Some(comparator) = comparator {
            amended["valueQuantity"]["comparator"] = json!(comparator);
        } else {
            amended = (change.1)(amended, ward.now);
        }
        ward.tell("Observation", "Amended", id, amended);
        prop_assert!(ward.risk() >= before, "{}", change.0);
    }
}
