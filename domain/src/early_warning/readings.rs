//! From what is recorded of a patient to a score, though not everything may be recorded.
//!
//! **What is missing** counts as normal, so a score is never higher than the patient's true one: an incomplete set may alarm,
//! and can't reassure. It is complete with the five that are measured with every round (respiration, saturation, blood
//! pressure, pulse, temperature). Oxygen and consciousness are often written down only when there is something to say of them:
//! not recorded means on air, and alert. Saturation is judged by scale 1; scale 2 takes a prescription, which no code here tells.
//!
//! **What is bounded** (`> 130`, `<= 88`) is scored if all that it can mean lies in one step of the chart: a saturation below
//! 85 % is a 3 whatever it is, and whoever reads it would call for help. Else it is *undecided*: it adds nothing, as if it were
//! missing, and the score says so ([`Readings::undecided`]). In either case it never reassures: only numbers that were measured
//! make a set complete. What has no UCUM unit that is known here can mean anything, so it is always undecided.
//!
//! **What does not count** says nothing: what was taken back, what is about somebody or something else, what is not understood
//! ([`counts`]). Whether it is recent enough is for whoever keeps the readings.

use serde::{Deserialize, Serialize};

use super::chart::{self, Row};
use super::{Risk, Score};
use crate::fhir::{Coding, Measurement, Resource, codings, measurements};
use crate::observation::counts;

const LOINC: &str = "http://loinc.org";
const SNOMED_CT: &str = "http://snomed.info/sct";
/// Breathing air is breathing 21 % oxygen.
const AIR_PERCENT: f64 = 21.0;
/// The codes that say alert: LOINC's answer and SNOMED CT's finding. Any other answer of theirs counts as impaired.
const ALERT: [(&str, &str); 2] = [(LOINC, "LA9340-6"), (SNOMED_CT, "248234008")];
/// Level of responsiveness (AVPU), and level of consciousness (ACVPU).
const CONSCIOUSNESS: [&str; 2] = ["67775-7", "80288-4"];

/// What the score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parameter {
    /// Breaths per minute.
    Respiration,
    /// Percent.
    Saturation,
    /// 1 if supplemental oxygen is given, else 0.
    Oxygen,
    /// Systolic, in mmHg.
    BloodPressure,
    /// Beats per minute.
    Pulse,
    /// 0 if alert, else 1.
    Consciousness,
    /// Degrees Celsius.
    Temperature,
}

impl Parameter {
    pub const ALL: [Self; 7] = [
        Self::Respiration,
        Self::Saturation,
        Self::Oxygen,
        Self::BloodPressure,
        Self::Pulse,
        Self::Consciousness,
        Self::Temperature,
    ];

    /// The code that stands for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Respiration => "respiration",
            Self::Saturation => "saturation",
            Self::Oxygen => "oxygen",
            Self::BloodPressure => "blood-pressure",
            Self::Pulse => "pulse",
            Self::Consciousness => "consciousness",
            Self::Temperature => "temperature",
        }
    }

    /// The parameter that a code stands for.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|parameter| parameter.as_str() == code)
    }

    fn of_code(code: &str) -> Option<Self> {
        match code {
            "9279-1" => Some(Self::Respiration),
            "2708-6" | "59408-5" => Some(Self::Saturation),
            "3151-8" | "3150-6" => Some(Self::Oxygen),
            "8480-6" => Some(Self::BloodPressure),
            "8867-4" => Some(Self::Pulse),
            "8310-5" => Some(Self::Temperature),
            code if CONSCIOUSNESS.contains(&code) => Some(Self::Consciousness),
            _ => None,
        }
    }

    fn is_measured_every_round(self) -> bool {
        !matches!(self, Self::Oxygen | Self::Consciousness)
    }

    /// The points of a value; nothing if it may be several.
    fn points(self, value: Value) -> Option<u8> {
        match self {
            Self::Respiration => whole(&chart::RESPIRATION, 1.0, value),
            Self::Saturation => whole(&chart::SATURATION_1, 1.0, value),
            Self::BloodPressure => whole(&chart::BLOOD_PRESSURE, 1.0, value),
            Self::Pulse => whole(&chart::PULSE, 1.0, value),
            Self::Temperature => whole(&chart::TENTHS_OF_TEMPERATURE, 10.0, value),
            Self::Oxygen => value.exact().map(|given| if given > 0.0 { 2 } else { 0 }),
            Self::Consciousness => value.exact().map(|impaired| if impaired > 0.0 { 3 } else { 0 }),
        }
    }
}

/// The points of a row of the chart in whole steps of a unit, `per_unit` of them.
fn whole(row: &Row, per_unit: f64, value: Value) -> Option<u8> {
    let step = |number: f64| (number * per_unit).round();
    let least = value.least.map_or(f64::NEG_INFINITY, step);
    row.over(least, value.most.map_or(f64::INFINITY, step))
}

/// What a reading says: the least and the most that its parameter can be, the same if it is a number; nothing where it is not
/// bounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    least: Option<f64>,
    most: Option<f64>,
}

impl Value {
    /// It can be anything.
    pub const UNKNOWN: Self = Self { least: None, most: None };

    /// A number that was measured.
    pub fn of(number: f64) -> Self {
        Self::within(Some(number), Some(number))
    }

    /// Something between these two, borders included.
    pub fn within(least: Option<f64>, most: Option<f64>) -> Self {
        Self { least, most }
    }

    /// The number, if it is one.
    pub fn exact(self) -> Option<f64> {
        self.least.filter(|_| self.least == self.most)
    }

    fn map(self, convert: impl Fn(f64) -> f64) -> Self {
        Self { least: self.least.map(&convert), most: self.most.map(&convert) }
    }

    /// 1 if all of it is more than that, 0 if nothing of it is, else unknown.
    fn is_more_than(self, limit: f64) -> Self {
        match (self.least, self.most) {
            (Some(least), _) if least > limit => Self::of(1.0),
            (_, Some(most)) if most <= limit => Self::of(0.0),
            _ => Self::UNKNOWN,
        }
    }
}

/// What an observation says of the parameters, components included; nothing if it does not count.
pub fn readings(observation: &Resource) -> Vec<(Parameter, Value)> {
    if counts(observation).is_err() {
        return Vec::new();
    }
    let measured = measurements(observation).into_iter().filter_map(|measurement| reading(&measurement));
    measured.chain(consciousness(observation)).collect()
}

fn reading(measurement: &Measurement) -> Option<(Parameter, Value)> {
    let code = measurement.codings.iter().find_map(loinc)?;
    let parameter = Parameter::of_code(code).filter(|parameter| *parameter != Parameter::Consciousness)?;
    let (least, most) = measurement.quantity.bounds();
    let unit = measurement.quantity.plain_ucum();
    let value = convert(parameter, code, Value::within(least, most), unit.as_deref());
    Some((parameter, value.unwrap_or(Value::UNKNOWN)))
}

/// The value in the parameter's own unit; nothing if its unit is not known.
fn convert(parameter: Parameter, code: &str, value: Value, unit: Option<&str>) -> Option<Value> {
    Some(match (parameter, unit?) {
        (Parameter::Respiration | Parameter::Pulse, "/min") => value,
        (Parameter::Saturation, "%") => value,
        (Parameter::Saturation, "1") => value.map(|share| share * 100.0),
        (Parameter::Oxygen, "%") if code == "3150-6" => value.is_more_than(AIR_PERCENT),
        (Parameter::Oxygen, "1") if code == "3150-6" => value.is_more_than(AIR_PERCENT / 100.0),
        // Whatever the flow is counted in, some is more than none.
        (Parameter::Oxygen, _) if code != "3150-6" => value.is_more_than(0.0),
        (Parameter::BloodPressure, "mm[Hg]") => value,
        (Parameter::BloodPressure, "kPa") => value.map(|pressure| pressure * 7.500_62),
        (Parameter::BloodPressure, "cm[H2O]") => value.map(|pressure| pressure * 0.735_56),
        (Parameter::Temperature, "Cel") => value,
        (Parameter::Temperature, "[degF]") => value.map(|fahrenheit| (fahrenheit - 32.0) / 1.8),
        (Parameter::Temperature, "K") => value.map(|kelvin| kelvin - 273.15),
        _ => return None,
    })
}

fn loinc(coding: &Coding) -> Option<&str> {
    (coding.system == LOINC && Parameter::of_code(&coding.code).is_some()).then_some(coding.code.as_str())
}

/// An answer in codes of the house only may say either.
fn consciousness(observation: &Resource) -> Option<(Parameter, Value)> {
    let asked = codings(observation.get("code"));
    asked.iter().find(|coding| coding.system == LOINC && CONSCIOUSNESS.contains(&coding.code.as_str()))?;
    let answers = codings(observation.get("valueCodeableConcept"));
    if answers.is_empty() {
        return None;
    }
    let is_alert = |answer: &Coding| ALERT.contains(&(answer.system.as_str(), answer.code.as_str()));
    let is_known = |answer: &Coding| [LOINC, SNOMED_CT].contains(&answer.system.as_str());
    let value = match answers.iter().any(is_alert) {
        true => Value::of(0.0),
        false if answers.iter().any(is_known) => Value::of(1.0),
        false => Value::UNKNOWN,
    };
    Some((Parameter::Consciousness, value))
}

/// The latest reading of each parameter, as far as there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readings([Option<Value>; 7]);

impl Readings {
    pub fn set(&mut self, parameter: Parameter, value: Value) {
        self.0[parameter as usize] = Some(value);
    }

    /// Whether nothing is missing or bounded that could make the patient worse than the score says.
    pub fn is_complete(&self) -> bool {
        Parameter::ALL.into_iter().all(|parameter| match self.get(parameter) {
            Some(value) => value.exact().is_some(),
            None => !parameter.is_measured_every_round(),
        })
    }

    /// Whether everything that was recorded is a number. What is missing may be missing.
    pub fn is_exact(&self) -> bool {
        self.0.iter().flatten().all(|value| value.exact().is_some())
    }

    /// What keeps the score from being more than the least that it can be: parameters that were not recorded, though they
    /// are measured with every round, and those that lie in more than one step of the chart.
    pub fn undecided(&self) -> Vec<Parameter> {
        let is_open = |parameter: &Parameter| match self.get(*parameter) {
            Some(value) => parameter.points(value).is_none(),
            None => parameter.is_measured_every_round(),
        };
        Parameter::ALL.into_iter().filter(is_open).collect()
    }

    /// The score of what is decided: the least that it can be.
    pub fn score(&self) -> Score {
        let points = |parameter: Parameter| self.get(parameter).and_then(|value| parameter.points(value)).unwrap_or(0);
        Score {
            respiration: points(Parameter::Respiration),
            saturation: points(Parameter::Saturation),
            oxygen: points(Parameter::Oxygen),
            blood_pressure: points(Parameter::BloodPressure),
            pulse: points(Parameter::Pulse),
            consciousness: points(Parameter::Consciousness),
            temperature: points(Parameter::Temperature),
        }
    }

    /// The risk that it comes to.
    pub fn risk(&self) -> Risk {
        self.score().risk()
    }

    fn get(&self, parameter: Parameter) -> Option<Value> {
        self.0[parameter as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Consciousness, SaturationScale, VitalSigns};
    use super::*;

    fn observation(more: serde_json::Value) -> Resource {
        let mut json = json!({
            "resourceType": "Observation", "status": "final",
            "subject": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"}
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Resource::parse(json).unwrap()
    }

    fn measured(code: &str, value: f64, unit: &str) -> Resource {
        observation(json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit}
        }))
    }

    fn bounded(code: &str, comparator: &str, value: f64, unit: &str) -> Resource {
        let quantity = json!({
            "value": value, "comparator": comparator, "system": "http://unitsofmeasure.org", "code": unit
        });
        measured(code, value, unit).with("valueQuantity", quantity)
    }

    fn answered(code: &str, system: &str, answer: &str) -> Resource {
        observation(json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueCodeableConcept": {"coding": [{"system": system, "code": answer}]}
        }))
    }

    #[test]
    fn every_code_is_read_in_its_units() {
        let rows = [
            (measured("9279-1", 18.0, "/min"), Parameter::Respiration, 18.0),
            (measured("2708-6", 96.0, "%"), Parameter::Saturation, 96.0),
            (measured("59408-5", 0.96, "1"), Parameter::Saturation, 96.0),
            (measured("3151-8", 2.0, "L/min"), Parameter::Oxygen, 1.0),
            (measured("3151-8", 0.0, "L/min"), Parameter::Oxygen, 0.0),
            (measured("3150-6", 21.0, "%"), Parameter::Oxygen, 0.0),
            (measured("3150-6", 28.0, "%"), Parameter::Oxygen, 1.0),
            (measured("8480-6", 120.0, "mm[Hg]"), Parameter::BloodPressure, 120.0),
            (measured("8867-4", 72.0, "/min"), Parameter::Pulse, 72.0),
            (measured("8310-5", 37.5, "Cel"), Parameter::Temperature, 37.5),
            (measured("8310-5", 98.6, "[degF]{oral}"), Parameter::Temperature, 37.0),
            (measured("8867-4", 72.0, "{pulses}/min"), Parameter::Pulse, 72.0),
            (measured("8480-6", 16.0, "kPa"), Parameter::BloodPressure, 120.009_92),
            (answered("67775-7", LOINC, "LA9340-6"), Parameter::Consciousness, 0.0),
            (answered("80288-4", SNOMED_CT, "248234008"), Parameter::Consciousness, 0.0),
            (answered("67775-7", LOINC, "LA9343-0"), Parameter::Consciousness, 1.0),
        ];
        for (observation, parameter, value) in rows {
            let found = readings(&observation);
            assert_eq!(found.len(), 1, "{parameter:?}");
            let exact = found[0].1.exact().unwrap();
            assert!(found[0].0 == parameter && (exact - value).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn systolic_pressure_is_found_in_its_component() {
        let part = |code: &str, value: f64| {
            json!({
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
            })
        };
        let pressure = observation(json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
            "component": [part("8462-4", 70.0), part("8480-6", 95.0)]
        }));
        assert_eq!(readings(&pressure), [(Parameter::BloodPressure, Value::of(95.0))]);
    }

    #[test]
    fn what_was_taken_back_or_is_something_else_says_nothing() {
        for status in ["entered-in-error", "cancelled", "registered", "unknown"] {
            assert_eq!(readings(&measured("8867-4", 150.0, "/min").with("status", json!(status))), [], "{status}");
        }
        assert_eq!(readings(&measured("29463-7", 80.0, "kg")), []);
        assert_eq!(readings(&observation(json!({"code": {"text": "x"}, "valueString": "x"}))), []);
    }

    #[test]
    fn an_incomplete_set_is_a_lower_bound() {
        let mut set = Readings::default();
        assert_eq!((set.score().total(), set.is_complete()), (0, false));
        set.set(Parameter::Pulse, Value::of(135.0));
        assert_eq!((set.risk(), set.is_complete()), (Risk::LowMedium, false));
        set.set(Parameter::Oxygen, Value::of(1.0));
        assert_eq!((set.score().total(), set.risk()), (5, Risk::Medium));
        set.set(Parameter::Consciousness, Value::of(1.0));
        assert_eq!((set.score().total(), set.risk(), set.is_complete()), (8, Risk::High, false));
        for (parameter, value) in [
            (Parameter::Respiration, 16.0),
            (Parameter::Saturation, 97.0),
            (Parameter::BloodPressure, 120.0),
            (Parameter::Temperature, 37.0),
        ] {
            assert!(!set.is_complete());
            set.set(parameter, Value::of(value));
        }
        assert_eq!((set.score().total(), set.is_complete()), (8, true));
    }

    #[test]
    fn units_that_are_not_known_leave_everything_open() {
        let pulse = measured("8867-4", 150.0, "/min");
        for quantity in [
            json!({"value": 150, "unit": "bpm"}),
            json!({"value": 150, "code": "/min"}),
            json!({"value": 150, "system": "http://snomed.info/sct", "code": "/min"}),
            json!({"value": 150, "system": "http://unitsofmeasure.org", "code": "/h"}),
            json!({"value": 150}),
        ] {
            let found = readings(&pulse.clone().with("valueQuantity", quantity.clone()));
            assert_eq!(found, [(Parameter::Pulse, Value::UNKNOWN)], "{quantity}");
        }
        let of_the_house = answered("67775-7", "urn:house", "LA9340-6");
        assert_eq!(readings(&of_the_house), [(Parameter::Consciousness, Value::UNKNOWN)]);
    }

    #[test]
    fn a_bounded_value_is_decided_if_all_of_it_lies_in_one_step() {
        let rows = [
            ("8867-4", ">", 140.0, "/min", Some(3)),
            ("8867-4", ">=", 131.0, "/min", Some(3)),
            ("8867-4", ">", 120.0, "/min", None),
            ("8867-4", "<", 40.0, "/min", Some(3)),
            ("8867-4", "<=", 90.0, "/min", None),
            ("8867-4", "ad", 70.0, "/min", None),
            ("2708-6", "<", 85.0, "%", Some(3)),
            ("2708-6", ">", 96.0, "%", Some(0)),
            ("2708-6", ">", 95.0, "%", None),
            ("8480-6", "<", 90.0, "mm[Hg]", Some(3)),
            ("8480-6", ">", 200.0, "mm[Hg]", None),
            ("8310-5", "<=", 35.0, "Cel", Some(3)),
            ("8310-5", "<", 35.1, "Cel", None),
            ("8310-5", ">", 102.9, "[degF]", Some(2)),
            ("3151-8", ">=", 2.0, "L/min", Some(2)),
            ("3151-8", ">", 0.0, "L/min", None),
            ("3150-6", "<=", 21.0, "%", Some(0)),
        ];
        for (code, comparator, number, unit, expected) in rows {
            let found = readings(&bounded(code, comparator, number, unit));
            let [(parameter, value)] = found[..] else { panic!("{found:?}") };
            assert_eq!(parameter.points(value), expected, "{code} {comparator} {number}");
            let mut set = Readings::default();
            set.set(parameter, value);
            assert_eq!(set.undecided().contains(&parameter), expected.is_none(), "{code} {comparator} {number}");
        }
    }

    #[test]
    fn a_bounded_value_never_makes_a_set_complete() {
        let mut set = Readings::default();
        for (parameter, normal) in [
            (Parameter::Respiration, 16.0),
            (Parameter::BloodPressure, 120.0),
            (Parameter::Pulse, 70.0),
            (Parameter::Temperature, 37.0),
        ] {
            set.set(parameter, Value::of(normal));
        }
        set.set(Parameter::Saturation, Value::within(Some(97.0), None));
        assert_eq!((set.is_complete(), set.is_exact(), set.undecided().len()), (false, false, 0));
        set.set(Parameter::Saturation, Value::of(97.0));
        assert_eq!((set.is_complete(), set.is_exact(), set.undecided().len()), (true, true, 0));
        set.set(Parameter::Consciousness, Value::UNKNOWN);
        assert_eq!((set.is_complete(), set.undecided()), (false, vec![Parameter::Consciousness]));
    }

    fn any_value() -> impl Strategy<Value = Option<Value>> {
        let number = (0..4500_i32).prop_map(|tenths| f64::from(tenths) / 10.0);
        (number.clone(), number, 0..6).prop_map(|(one, other, form)| match form {
            0 => None,
            1 => Some(Value::within(Some(one), None)),
            2 => Some(Value::within(None, Some(one))),
            3 => Some(Value::within(Some(one.min(other)), Some(one.max(other)))),
            _ => Some(Value::of(one)),
        })
    }

    proptest! {
        /// What a set says is true of every patient whom it may describe.
        #[test]
        fn a_score_is_the_least_that_it_can_be(
            values in prop::array::uniform7(any_value()), shares in prop::array::uniform7(0.0..1.0_f64),
        ) {
            let (mut set, mut true_one) = (Readings::default(), Readings::default());
            for (index, parameter) in Parameter::ALL.into_iter().enumerate() {
                let Some(value) = values[index] else { continue };
                set.set(parameter, value);
                let (least, most) = (value.least.unwrap_or(0.0), value.most.unwrap_or(450.0));
                true_one.set(parameter, Value::of(least + (most - least) * shares[index]));
            }
            prop_assert!(set.score().total() <= true_one.score().total());
            prop_assert!(set.risk() <= true_one.risk());
            let open = set.undecided();
            let known = |parameter: &Parameter| !open.contains(parameter);
            for parameter in Parameter::ALL.into_iter().filter(known) {
                prop_assert_eq!(points_of(&set.score(), parameter), points_of(&true_one.score(), parameter));
            }
        }

        /// Of numbers, the score is that of the chart.
        #[test]
        fn of_numbers_the_score_is_that_of_the_chart(
            tenths in prop::array::uniform5(0..4500_i32), oxygen in any::<bool>(), impaired in any::<bool>(),
        ) {
            let numbers = tenths.map(|tenths| f64::from(tenths) / 10.0);
            let [respiration, saturation, blood_pressure, pulse, temperature] = numbers;
            let consciousness = if impaired { Consciousness::Impaired } else { Consciousness::Alert };
            let scale = SaturationScale::One;
            let signs = VitalSigns {
                respiration, saturation, scale, oxygen, blood_pressure, pulse, consciousness, temperature
            };
            let mut set = Readings::default();
            let switches = [f64::from(oxygen), f64::from(impaired)];
            let order = [respiration, saturation, switches[0], blood_pressure, pulse, switches[1], temperature];
            for (parameter, number) in Parameter::ALL.into_iter().zip(order) {
                set.set(parameter, Value::of(number));
            }
            prop_assert_eq!(set.score(), signs.score());
        }
    }

    fn points_of(score: &Score, parameter: Parameter) -> u8 {
        score.parts()[parameter as usize]
    }
}
