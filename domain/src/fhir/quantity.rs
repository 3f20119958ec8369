//! Measured values, of an observation or of its components.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Coding, Resource, codings};

/// The system of UCUM units (<https://ucum.org>).
pub const UCUM: &str = "http://unitsofmeasure.org";

/// How the true value lies to the one that is given (<https://hl7.org/fhir/R4/valueset-quantity-comparator.html>, and `ad` of
/// R5). It is a part of the value: `> 600` is not 600.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Comparator {
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    LessOrEqual,
    #[serde(rename = ">=")]
    GreaterOrEqual,
    #[serde(rename = ">")]
    Greater,
    /// What it takes to achieve this in total.
    #[serde(rename = "ad")]
    Sufficient,
}

impl Comparator {
    /// Every comparator.
    pub const ALL: [Self; 5] = [Self::Less, Self::LessOrEqual, Self::GreaterOrEqual, Self::Greater, Self::Sufficient];

    /// The code that stands for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Sufficient => "ad",
        }
    }

    /// The comparator that a code stands for.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|comparator| comparator.as_str() == code)
    }
}

/// A FHIR `Quantity`. The value keeps its digits as text; `number` is for comparing.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    pub value: String,
    pub number: f64,
    /// Nothing if the value is given as it is. A comparator that nobody knows leaves everything open, as `ad` does.
    pub comparator: Option<Comparator>,
    pub unit: Option<String>,
    pub system: Option<String>,
    /// The coded unit, UCUM where `system` says so.
    pub code: Option<String>,
}

impl Quantity {
    /// Reads a quantity that has a numeric value.
    pub fn of(value: &Value) -> Option<Self> {
        let number = value.get("value")?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            value: number.as_number()?.to_string(),
            number: number.as_f64()?,
            comparator: value.get("comparator").map(comparator),
            unit: text("unit"),
            system: text("system"),
            code: text("code"),
        })
    }

    /// The unit as it is coded in UCUM; nothing if it is said in words only, or in another system.
    pub fn ucum(&self) -> Option<&str> {
        self.code.as_deref().filter(|_| self.system.as_deref() == Some(UCUM))
    }

    /// The UCUM unit in the one way of writing it: without annotations, which change no quantity, and without the `1` before
    /// a slash. `{beats}/min` and `1/min` are `/min`.
    pub fn plain_ucum(&self) -> Option<String> {
        let mut plain = without_annotations(self.ucum()?)?;
        if plain.starts_with("1/") {
            plain.remove(0);
        }
        Some(if plain.is_empty() { "1".to_owned() } else { plain })
    }

    /// The least and the most that the true value can be, as far as they are bounded. The borders count as part of it:
    /// whoever asks wants to be on the safe side of them.
    pub fn bounds(&self) -> (Option<f64>, Option<f64>) {
        match self.comparator {
            None => (Some(self.number), Some(self.number)),
            Some(Comparator::Less | Comparator::LessOrEqual) => (None, Some(self.number)),
            Some(Comparator::Greater | Comparator::GreaterOrEqual) => (Some(self.number), None),
            Some(Comparator::Sufficient) => (None, None),
        }
    }
}

fn comparator(code: &Value) -> Comparator {
    code.as_str().and_then(Comparator::parse).unwrap_or(Comparator::Sufficient)
}

/// Nothing if the braces don't match.
fn without_annotations(code: &str) -> Option<String> {
    let mut plain = String::with_capacity(code.len());
    let mut is_inside = false;
    for letter in code.chars() {
        match letter {
            '{' if !is_inside => is_inside = true,
            '}' if is_inside => is_inside = false,
            '{' | '}' => return None,
            _ if is_inside => {}
            letter => plain.push(letter),
        }
    }
    (!is_inside).then_some(plain)
}

/// One measured value of an observation: of the observation itself (`component` is none) or of its n-th component.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub component: Option<usize>,
    pub codings: Vec<Coding>,
    pub quantity: Quantity,
}

impl Measurement {
    /// Where the value stands, as a JSON pointer.
    pub fn pointer(&self) -> String {
        self.component.map_or_else(|| "/valueQuantity".to_owned(), |index| format!("/component/{index}/valueQuantity"))
    }
}

/// The forms that a result may have, and the reason for having none.
pub const RESULTS: [&str; 12] = [
    "valueQuantity",
    "valueCodeableConcept",
    "valueString",
    "valueBoolean",
    "valueInteger",
    "valueRange",
    "valueRatio",
    "valueSampledData",
    "valueTime",
    "valueDateTime",
    "valuePeriod",
    "dataAbsentReason",
];

/// What was found, in whichever form: of the observation itself (`component` is none) or of its n-th component.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding<'a> {
    pub component: Option<usize>,
    pub codings: Vec<Coding>,
    /// One of [`RESULTS`].
    pub element: &'static str,
    pub value: &'a Value,
}

/// All results of an Observation, components included.
pub fn findings(observation: &Resource) -> Vec<Finding<'_>> {
    let get = |name: &str| observation.get(name);
    let components = observation.items("component").iter().enumerate();
    let of_components = components.filter_map(|(index, part)| finding(Some(index), &|name| part.get(name)));
    finding(None, &get).into_iter().chain(of_components).collect()
}

/// All measured values of an Observation, components included.
pub fn measurements(observation: &Resource) -> Vec<Measurement> {
    findings(observation).into_iter().filter_map(Finding::measurement).collect()
}

impl Finding<'_> {
    /// The measured value, if it is one.
    pub fn measurement(self) -> Option<Measurement> {
        let quantity = Quantity::of(self.value).filter(|_| self.element == "valueQuantity")?;
        Some(Measurement { component: self.component, codings: self.codings, quantity })
    }
}

fn finding<'a>(component: Option<usize>, get: &dyn Fn(&str) -> Option<&'a Value>) -> Option<Finding<'a>> {
    let (element, value) = RESULTS.into_iter().find_map(|name| Some((name, get(name)?)))?;
    Some(Finding { component, codings: codings(get("code")), element, value })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quantity(value: Value) -> Quantity {
        Quantity::of(&value).unwrap()
    }

    #[test]
    fn a_comparator_is_a_part_of_the_value() {
        for (code, bounds) in [
            ("<", (None, Some(7.5))),
            ("<=", (None, Some(7.5))),
            (">", (Some(7.5), None)),
            (">=", (Some(7.5), None)),
            ("ad", (None, None)),
            ("about", (None, None)),
        ] {
            assert_eq!(quantity(json!({"value": 7.5, "comparator": code})).bounds(), bounds, "{code}");
        }
        assert_eq!(quantity(json!({"value": 7.5})).bounds(), (Some(7.5), Some(7.5)));
        assert!(Comparator::ALL.iter().all(|it| Comparator::parse(it.as_str()) == Some(*it)));
    }

    #[test]
    fn only_what_says_ucum_is_ucum_and_annotations_change_nothing() {
        let plain =
            |system: &str, code: &str| quantity(json!({"value": 1, "system": system, "code": code})).plain_ucum();
        for (code, expected) in [
            ("{pulses}/min", "/min"),
            ("1/min", "/min"),
            ("/min{at_rest}", "/min"),
            ("Cel{core}", "Cel"),
            ("%", "%"),
            ("{score}", "1"),
            ("1", "1"),
        ] {
            assert_eq!(plain(UCUM, code).as_deref(), Some(expected), "{code}");
        }
        assert_eq!(plain(UCUM, "{x/min"), None);
        assert_eq!(plain("http://snomed.info/sct", "258682000"), None);
        assert_eq!(quantity(json!({"value": 1, "unit": "kg"})).ucum(), None);
        assert_eq!(quantity(json!({"value": 1, "code": "kg"})).ucum(), None, "of no system");
    }

    #[test]
    fn every_form_of_a_result_is_found_once() {
        let all = json!({
            "resourceType": "Observation",
            "code": {"text": "x"},
            "component": [
                {"code": {"coding": [{"code": "a"}]}, "valueRange": {"high": {"value": 3}}},
                {"code": {"text": "b"}},
                {"code": {"text": "c"}, "dataAbsentReason": {"text": "asleep"}},
                {"code": {"text": "d"}, "valueQuantity": {"value": 1}},
                {"code": {"text": "e"}, "valueQuantity": {"unit": "kg"}}
            ]
        });
        let observation = Resource::parse(all).unwrap();
        let found: Vec<_> = findings(&observation).iter().map(|it| (it.component, it.element)).collect();
        let quantity = "valueQuantity";
        let expected =
            [(Some(0), "valueRange"), (Some(2), "dataAbsentReason"), (Some(3), quantity), (Some(4), quantity)];
        assert_eq!(found, expected);
        assert_eq!(measurements(&observation).len(), 1);
    }
}
