//! What a living human body can show at all.
//!
//! The limits are those of possibility, not of normality: outside of them a value was mistyped or has the wrong unit.
//! They are set beyond the extremes reported from survivors (named row by row), so that no true measurement is refused.
//! Codes are those of FHIR's vital signs profile (<https://hl7.org/fhir/R4/observation-vitalsigns.html>) and their close
//! kin in LOINC; units are UCUM (<https://ucum.org>).

use crate::fhir::{Measurement, Quantity, Resource, measurements};
use crate::types::FormError;

const LOINC: &str = "http://loinc.org";

/// The least and the most that a vital sign can be, in its first unit.
struct Limits {
    codes: &'static [&'static str],
    units: &'static [Unit],
    min: f64,
    max: f64,
}

/// A UCUM unit, without annotations, and how it converts to the first unit of its row: `value * factor + offset`.
struct Unit {
    code: &'static str,
    factor: f64,
    offset: f64,
}

const fn unit(code: &'static str) -> Unit {
    scaled(code, 1.0)
}

const fn scaled(code: &'static str, factor: f64) -> Unit {
    Unit { code, factor, offset: 0.0 }
}

const PRESSURE: &[Unit] = &[unit("mm[Hg]"), scaled("kPa", 7.500_62), scaled("cm[H2O]", 0.735_56)];
const MASS: &[Unit] = &[
    unit("kg"),
    scaled("g", 0.001),
    scaled("[lb_av]", 0.453_592_37),
    scaled("[oz_av]", 0.028_349_523_125),
    scaled("[stone_av]", 6.350_293_18),
    scaled("[lb_tr]", 0.373_241_721_6),
];
const LENGTH: &[Unit] = &[
    unit("cm"),
    scaled("m", 100.0),
    scaled("mm", 0.1),
    scaled("[in_i]", 2.54),
    scaled("[in_us]", 2.540_005_08),
    scaled("[ft_i]", 30.48),
    scaled("[ft_us]", 30.480_060_96),
];

const LIMITS: &[Limits] = &[
    // Heart rate, from asystole to beyond the fastest reported in man, 480/min (Chhabra et al., J Cardiol 2012).
    Limits { codes: &["8867-4", "8889-8", "8893-0"], units: &[unit("/min")], min: 0.0, max: 500.0 },
    // Respiratory rate, from apnoea to beyond tachypnoea of the newborn (100 to 120/min).
    Limits { codes: &["9279-1"], units: &[unit("/min")], min: 0.0, max: 200.0 },
    // Body temperature; survived: 11.8 °C (Polish Mother's Memorial Hospital, 2014) and 46.5 °C (Slovis et al., 1982).
    Limits {
        codes: &["8310-5", "8331-1", "8332-9"],
        units: &[
            unit("Cel"),
            Unit { code: "[degF]", factor: 5.0 / 9.0, offset: -160.0 / 9.0 },
            Unit { code: "K", factor: 1.0, offset: -273.15 },
        ],
        min: 9.0,
        max: 48.0,
    },
    // Oxygen saturation is a share of the whole.
    Limits { codes: &["59408-5", "2708-6"], units: &[unit("%"), scaled("1", 100.0)], min: 0.0, max: 100.0 },
    // Arterial pressure under the heaviest lifting: 480/350 (MacDougall et al., J Appl Physiol 1985).
    Limits { codes: &["8480-6"], units: PRESSURE, min: 0.0, max: 500.0 },
    Limits { codes: &["8462-4"], units: PRESSURE, min: 0.0, max: 400.0 },
    // Body weight, from below the lightest surviving newborn (212 g) to beyond the heaviest adult (635 kg).
    Limits { codes: &["29463-7", "3141-9", "8335-2"], units: MASS, min: 0.1, max: 700.0 },
    // Height or length, from below the shortest surviving newborn (about 23 cm) to beyond the tallest adult (272 cm).
    Limits { codes: &["8302-2", "8306-3", "8301-4", "3137-7"], units: LENGTH, min: 15.0, max: 290.0 },
    // Body mass index: the heaviest adults came near 250 kg/m2.
    Limits { codes: &["39156-5"], units: &[unit("kg/m2"), scaled("g/cm2", 10.0)], min: 3.0, max: 300.0 },
    // Head circumference, from extreme prematurity (under 20 cm) to hydrocephalus (over 90 cm).
    Limits { codes: &["9843-4", "8287-5"], units: LENGTH, min: 10.0, max: 130.0 },
    // Glucose in blood or serum: survived at 2,656 mg/dL (Guinness World Records, 2008); 1 mmol/L is 18.016 mg/dL.
    Limits {
        codes: &["2339-0", "2345-7", "41653-7", "15074-8", "14749-6"],
        units: &[unit("mg/dL"), scaled("mmol/L", 18.016), scaled("g/L", 100.0)],
        min: 0.0,
        max: 3500.0,
    },
];

/// A vital sign that is coded in UCUM has a unit in which it is measured and a value that a body can show, components
/// included. Of other units nothing is known, so nothing is judged: see [`check_units`].
pub(super) fn check_limits(observation: &Resource) -> Result<(), FormError> {
    measurements(observation).iter().filter(|it| it.quantity.ucum().is_some()).try_for_each(check_measurement)
}

/// A vital sign has its unit in UCUM.
pub(super) fn check_units(observation: &Resource) -> Result<(), FormError> {
    let uncoded = |it: &&Measurement| it.quantity.ucum().is_none() && limits_of(it).is_some();
    measurements(observation).iter().find(uncoded).map_or(Ok(()), |it| Err(not_ucum(it)))
}

fn check_measurement(measurement: &Measurement) -> Result<(), FormError> {
    let Some(limits) = limits_of(measurement) else { return Ok(()) };
    let Some(unit) = known_unit(&measurement.quantity, limits.units) else { return Err(not_ucum(measurement)) };
    let convert = |number: f64| number * unit.factor + unit.offset;
    // Of a bounded value, some part has to be possible.
    let (least, most) = measurement.quantity.bounds();
    if least.is_none_or(|least| convert(least) <= limits.max) && most.is_none_or(|most| convert(most) >= limits.min) {
        return Ok(());
    }
    Err(FormError::new(
        "value-impossible",
        format!("{}/value", measurement.pointer()),
        "No living human body can show this value in this unit.",
    ))
}

fn limits_of(measurement: &Measurement) -> Option<&'static Limits> {
    let named = |limits: &&Limits| {
        measurement.codings.iter().any(|coding| coding.system == LOINC && limits.codes.contains(&coding.code.as_str()))
    };
    LIMITS.iter().find(named)
}

fn known_unit(quantity: &Quantity, units: &'static [Unit]) -> Option<&'static Unit> {
    let code = quantity.plain_ucum()?;
    units.iter().find(|unit| unit.code == code)
}

fn not_ucum(measurement: &Measurement) -> FormError {
    FormError::new(
        "unit-not-ucum",
        format!("{}/code", measurement.pointer()),
        "A vital sign needs one of the UCUM units in which it is measured.",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fhir::UCUM;

    fn code_of(loinc: &str, value: &str, unit: &str) -> Option<&'static str> {
        let number: Value = serde_json::from_str(value).unwrap();
        let quantity = json!({"value": number, "unit": unit, "system": UCUM, "code": unit});
        refusal_of(loinc, quantity)
    }

    fn refusal_of(loinc: &str, quantity: Value) -> Option<&'static str> {
        let code = json!({"coding": [{"system": LOINC, "code": loinc}]});
        let observation = json!({"resourceType": "Observation", "code": code, "valueQuantity": quantity});
        check_limits(&Resource::parse(observation).unwrap()).err().map(|error| error.code)
    }

    #[test]
    fn what_bodies_can_show_passes_in_any_of_its_units() {
        for (loinc, value, unit) in [
            ("8867-4", "0", "/min"),
            ("8867-4", "199.97", "{beats}/min"),
            ("9279-1", "39.853", "/min"),
            ("8310-5", "42.183", "Cel"),
            ("8310-5", "98.6", "[degF]"),
            ("8310-5", "115.7", "[degF]"),
            ("59408-5", "100.0", "%"),
            ("2708-6", "75.04", "%"),
            ("8480-6", "199", "mm[Hg]"),
            ("8480-6", "16.0", "kPa"),
            ("29463-7", "2.5", "kg"),
            ("29463-7", "212", "g"),
            ("29463-7", "1400.0", "[lb_av]"),
            ("8302-2", "198.4", "cm"),
            ("8302-2", "6.5", "[ft_i]"),
            ("8302-2", "72.0", "[in_i]"),
            ("8302-2", "1.8", "m"),
            ("39156-5", "13.39", "kg/m2"),
            ("9843-4", "51.2", "cm"),
            ("2339-0", "64.01", "mg/dL"),
            ("15074-8", "6.3", "mmol/L"),
            ("718-7", "99999", "g/dL"),
            ("8867-4", "61", "1/min"),
            ("9279-1", "17", "{breaths}/min"),
            ("9279-1", "17", "/min{spontaneous}"),
            ("8310-5", "37.2", "Cel{tympanic}"),
            ("8302-2", "5.9", "[ft_us]"),
            ("29463-7", "190", "[lb_tr]"),
        ] {
            assert_eq!(code_of(loinc, value, unit), None, "{loinc} {value} {unit}");
        }
    }

    #[test]
    fn what_no_body_shows_is_refused() {
        for (loinc, value, unit) in [
            ("8867-4", "-1", "/min"),
            ("8867-4", "720", "/min"),
            ("9279-1", "1200", "/min"),
            ("8310-5", "98.6", "Cel"),
            ("8310-5", "37.0", "[degF]"),
            ("59408-5", "101", "%"),
            ("8480-6", "1200", "mm[Hg]"),
            ("8462-4", "400.1", "mm[Hg]"),
            ("29463-7", "70000", "kg"),
            ("29463-7", "70", "g"),
            ("8302-2", "1.8", "cm"),
            ("8302-2", "180", "m"),
            ("39156-5", "301", "kg/m2"),
            ("9843-4", "5", "cm"),
            ("2339-0", "64000", "mg/dL"),
            ("8867-4", "720", "{pulses}/min"),
            ("29463-7", "2000", "[lb_tr]"),
        ] {
            assert_eq!(code_of(loinc, value, unit), Some("value-impossible"), "{loinc} {value} {unit}");
        }
    }

    #[test]
    fn a_vital_sign_has_one_of_its_ucum_units() {
        for (loinc, unit) in [
            ("8867-4", "bpm"),
            ("8310-5", "C"),
            ("8310-5", "mm[Hg]"),
            ("29463-7", "lbs"),
            ("8480-6", "mmHg"),
            ("8867-4", "{x/min"),
        ] {
            assert_eq!(code_of(loinc, "80", unit), Some("unit-not-ucum"), "{loinc} {unit}");
        }
    }

    #[test]
    fn of_a_bounded_value_some_part_has_to_be_possible() {
        let refused = |loinc: &str, comparator: &str, value: i32, unit: &str| {
            let quantity = json!({"value": value, "comparator": comparator, "system": UCUM, "code": unit});
            refusal_of(loinc, quantity).is_some()
        };
        assert!(!refused("8867-4", "<", 600, "/min") && refused("8867-4", ">", 600, "/min"));
        assert!(!refused("8867-4", ">=", 500, "/min") && refused("8867-4", "<", -1, "/min"));
        assert!(!refused("2339-0", ">", 600, "mg/dL") && !refused("8867-4", "ad", 600, "/min"));
    }

    #[test]
    fn a_unit_in_words_or_of_another_system_is_not_judged_as_ucum() {
        for quantity in [
            json!({"value": 3200, "unit": "g"}),
            json!({"value": 3200, "unit": "gram", "system": "http://snomed.info/sct", "code": "258682000"}),
            json!({"value": 3200}),
        ] {
            assert_eq!(refusal_of("8339-4", quantity.clone()), None);
            assert_eq!(refusal_of("29463-7", quantity), None);
        }
        let weight = json!({
            "resourceType": "Observation", "code": {"coding": [{"system": LOINC, "code": "29463-7"}]},
            "valueQuantity": {"value": 3.2, "unit": "kg"}
        });
        let code = |json: Value| check_units(&Resource::parse(json).unwrap()).err().map(|error| error.code);
        assert_eq!(code(weight.clone()), Some("unit-not-ucum"));
        let mut coded = weight;
        coded["valueQuantity"] = json!({"value": 3.2, "system": UCUM, "code": "kg"});
        assert_eq!(code(coded), None);
    }
}
