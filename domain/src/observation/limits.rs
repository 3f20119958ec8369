//! What a living human body can show at all.
//!
//! The limits are those of possibility, not of normality: outside of them a value was mistyped or has the wrong unit.
//! They are set beyond the extremes reported from survivors (named row by row), so that no true measurement is refused.
//! Codes are those of FHIR's vital signs profile (<https://hl7.org/fhir/R4/observation-vitalsigns.html>) and their close
//! kin in LOINC; units are UCUM (<https://ucum.org>).

use crate::fhir::{Measurement, Quantity, Resource, measurements};
use crate::types::FormError;

const LOINC: &str = "http://loinc.org";
const UCUM: &str = "http://unitsofmeasure.org";

/// The least and the most that a vital sign can be, in its first unit.
struct Limits {
    codes: &'static [&'static str],
    units: &'static [Unit],
    min: f64,
    max: f64,
}

/// A UCUM unit and how it converts to the first unit of its row: `value * factor + offset`.
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
];
const LENGTH: &[Unit] = &[
    unit("cm"),
    scaled("m", 100.0),
    scaled("mm", 0.1),
    scaled("[in_i]", 2.54),
    scaled("[in_us]", 2.540_005_08),
    scaled("[ft_i]", 30.48),
];

const LIMITS: &[Limits] = &[
    // Heart rate, from asystole to beyond the fastest reported in man, 480/min (Chhabra et al., J Cardiol 2012).
    Limits {
        codes: &["8867-4", "8889-8", "8893-0"],
        units: &[unit("/min"), unit("{beats}/min"), unit("{Beats}/min")],
        min: 0.0,
        max: 500.0,
    },
    // Respiratory rate, from apnoea to beyond tachypnoea of the newborn (100 to 120/min).
    Limits {
        codes: &["9279-1"],
        units: &[unit("/min"), unit("{breaths}/min"), unit("{Breaths}/min"), unit("{resp}/min")],
        min: 0.0,
        max: 200.0,
    },
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

/// Vital signs have a UCUM unit and a value that a body can show, components included.
pub(super) fn check_limits(observation: &Resource) -> Result<(), FormError> {
    measurements(observation).iter().try_for_each(check_measurement)
}

fn check_measurement(measurement: &Measurement) -> Result<(), FormError> {
    let named = |limits: &&Limits| {
        measurement.codings.iter().any(|coding| coding.system == LOINC && limits.codes.contains(&coding.code.as_str()))
    };
    let Some(limits) = LIMITS.iter().find(named) else { return Ok(()) };
    let Some(unit) = ucum_unit(&measurement.quantity, limits.units) else {
        return Err(FormError::new(
            "unit-not-ucum",
            format!("{}/code", measurement.pointer()),
            "A vital sign needs one of the UCUM units in which it is measured.",
        ));
    };
    let value = measurement.quantity.number * unit.factor + unit.offset;
    if (limits.min..=limits.max).contains(&value) {
        return Ok(());
    }
    Err(FormError::new(
        "value-impossible",
        format!("{}/value", measurement.pointer()),
        "No living human body can show this value in this unit.",
    ))
}

fn ucum_unit<'a>(quantity: &Quantity, units: &'a [Unit]) -> Option<&'a Unit> {
    let code = quantity.code.as_deref().filter(|_| quantity.system.as_deref() == Some(UCUM))?;
    units.iter().find(|unit| unit.code == code)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn code_of(loinc: &str, value: &str, unit: &str) -> Option<&'static str> {
        let number: Value = serde_json::from_str(value).unwrap();
        let quantity = json!({"value": number, "unit": unit, "system": UCUM, "code": unit});
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
        ] {
            assert_eq!(code_of(loinc, value, unit), Some("value-impossible"), "{loinc} {value} {unit}");
        }
    }

    #[test]
    fn a_vital_sign_has_one_of_its_ucum_units() {
        for (loinc, unit) in
            [("8867-4", "bpm"), ("8310-5", "C"), ("8310-5", "mm[Hg]"), ("29463-7", "lbs"), ("8480-6", "mmHg")]
        {
            assert_eq!(code_of(loinc, "80", unit), Some("unit-not-ucum"), "{loinc} {unit}");
        }
    }
}
