//! From what is recorded of a patient to a score, though not everything may be recorded.
//!
//! What is missing counts as normal, so a score is never higher than the patient's true one: an incomplete set may alarm, and
//! can't reassure. It is complete with the five that are measured with every round (respiration, saturation, blood pressure,
//! pulse, temperature). Oxygen and consciousness are often written down only when there is something to say of them: not
//! recorded means on air, and alert. Saturation is judged by scale 1; scale 2 takes a prescription, which no code here tells.

use super::{Consciousness, Risk, SaturationScale, Score, VitalSigns};
use crate::fhir::{Coding, Measurement, Resource, codings, measurements};

const LOINC: &str = "http://loinc.org";
/// Breathing air is breathing 21 % oxygen.
const AIR_PERCENT: f64 = 21.0;
/// The codes that say alert: LOINC's answer and SNOMED CT's finding. Any other answer counts as impaired.
const ALERT: [&str; 2] = ["LA9340-6", "248234008"];
/// Level of responsiveness (AVPU), and level of consciousness (ACVPU).
const CONSCIOUSNESS: [&str; 2] = ["67775-7", "80288-4"];
/// The statuses of an observation that states something.
const STATED: [&str; 4] = ["preliminary", "final", "amended", "corrected"];

/// What the score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
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
}

/// What an observation says of the parameters, components included; nothing once it is taken back.
pub fn readings(observation: &Resource) -> Vec<(Parameter, f64)> {
    if !observation.text("status").is_some_and(|status| STATED.contains(&status)) {
        return Vec::new();
    }
    let measured = measurements(observation).into_iter().filter_map(|measurement| reading(&measurement));
    measured.chain(consciousness(observation)).collect()
}

fn reading(measurement: &Measurement) -> Option<(Parameter, f64)> {
    let code = measurement.codings.iter().find_map(loinc)?;
    let parameter = Parameter::of_code(code)?;
    let (number, unit) = (measurement.quantity.number, measurement.quantity.code.as_deref());
    let value = match parameter {
        Parameter::Consciousness => return None,
        Parameter::Oxygen if code == "3150-6" => f64::from(percent(number, unit) > AIR_PERCENT),
        Parameter::Oxygen => f64::from(number > 0.0),
        Parameter::Saturation => percent(number, unit),
        Parameter::Temperature if unit == Some("[degF]") => (number - 32.0) / 1.8,
        Parameter::Temperature if unit == Some("K") => number - 273.15,
        Parameter::BloodPressure if unit == Some("kPa") => number * 7.500_62,
        Parameter::BloodPressure if unit == Some("cm[H2O]") => number * 0.735_56,
        _ => number,
    };
    Some((parameter, value))
}

fn loinc(coding: &Coding) -> Option<&str> {
    (coding.system == LOINC && Parameter::of_code(&coding.code).is_some()).then_some(coding.code.as_str())
}

fn percent(number: f64, unit: Option<&str>) -> f64 {
    if unit == Some("1") { number * 100.0 } else { number }
}

fn consciousness(observation: &Resource) -> Option<(Parameter, f64)> {
    let asked = codings(observation.get("code"));
    asked.iter().find(|coding| coding.system == LOINC && CONSCIOUSNESS.contains(&coding.code.as_str()))?;
    let answers = codings(observation.get("valueCodeableConcept"));
    if answers.is_empty() {
        return None;
    }
    let is_alert = answers.iter().any(|answer| ALERT.contains(&answer.code.as_str()));
    Some((Parameter::Consciousness, f64::from(!is_alert)))
}

/// The latest reading of each parameter, as far as there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readings([Option<f64>; 7]);

impl Readings {
    pub fn set(&mut self, parameter: Parameter, value: f64) {
        self.0[parameter as usize] = Some(value);
    }

    /// Whether nothing is missing that could make the patient worse than the score says.
    pub fn is_complete(&self) -> bool {
        Parameter::ALL
            .into_iter()
            .all(|parameter| !parameter.is_measured_every_round() || self.get(parameter).is_some())
    }

    /// The score of what there is.
    pub fn score(&self) -> Score {
        let number = |parameter, normal| self.get(parameter).unwrap_or(normal);
        let is_impaired = number(Parameter::Consciousness, 0.0) > 0.0;
        let signs = VitalSigns {
            respiration: number(Parameter::Respiration, 16.0),
            saturation: number(Parameter::Saturation, 98.0),
            scale: SaturationScale::One,
            oxygen: number(Parameter::Oxygen, 0.0) > 0.0,
            blood_pressure: number(Parameter::BloodPressure, 120.0),
            pulse: number(Parameter::Pulse, 70.0),
            consciousness: if is_impaired { Consciousness::Impaired } else { Consciousness::Alert },
            temperature: number(Parameter::Temperature, 37.0),
        };
        signs.score()
    }

    /// The risk that it comes to.
    pub fn risk(&self) -> Risk {
        self.score().risk()
    }

    fn get(&self, parameter: Parameter) -> Option<f64> {
        self.0[parameter as usize]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn observation(more: Value) -> Resource {
        let mut json = json!({"resourceType": "Observation", "status": "final"});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Resource::parse(json).unwrap()
    }

    fn measured(code: &str, value: f64, unit: &str) -> Resource {
        observation(json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "code": unit}
        }))
    }

    fn answered(code: &str, answer: &str) -> Resource {
        observation(json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueCodeableConcept": {"coding": [{"code": answer}]}
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
            (measured("8310-5", 98.6, "[degF]"), Parameter::Temperature, 37.0),
            (answered("67775-7", "LA9340-6"), Parameter::Consciousness, 0.0),
            (answered("80288-4", "248234008"), Parameter::Consciousness, 0.0),
            (answered("67775-7", "LA9343-0"), Parameter::Consciousness, 1.0),
        ];
        for (observation, parameter, value) in rows {
            let found = readings(&observation);
            assert_eq!(found.len(), 1, "{parameter:?}");
            assert!(found[0].0 == parameter && (found[0].1 - value).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn systolic_pressure_is_found_in_its_component() {
        let part = |code: &str, value: f64| {
            json!({
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "valueQuantity": {"value": value, "code": "mm[Hg]"}
            })
        };
        let pressure = observation(json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
            "component": [part("8462-4", 70.0), part("8480-6", 95.0)]
        }));
        assert_eq!(readings(&pressure), [(Parameter::BloodPressure, 95.0)]);
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
        set.set(Parameter::Pulse, 135.0);
        assert_eq!((set.risk(), set.is_complete()), (Risk::LowMedium, false));
        set.set(Parameter::Oxygen, 1.0);
        assert_eq!((set.score().total(), set.risk()), (5, Risk::Medium));
        set.set(Parameter::Consciousness, 1.0);
        assert_eq!((set.score().total(), set.risk(), set.is_complete()), (8, Risk::High, false));
        for (parameter, value) in [
            (Parameter::Respiration, 16.0),
            (Parameter::Saturation, 97.0),
            (Parameter::BloodPressure, 120.0),
            (Parameter::Temperature, 37.0),
        ] {
            assert!(!set.is_complete());
            set.set(parameter, value);
        }
        assert_eq!((set.score().total(), set.is_complete()), (8, true));
    }
}
