//! Measured values, of an observation or of its components.

use serde_json::Value;

use super::{Coding, Resource, codings};

/// A FHIR `Quantity`. The value keeps its digits as text; `number` is for comparing.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    pub value: String,
    pub number: f64,
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
            unit: text("unit"),
            system: text("system"),
            code: text("code"),
        })
    }
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

/// All measured values of an Observation, components included.
pub fn measurements(observation: &Resource) -> Vec<Measurement> {
    let own = measurement(None, observation.get("code"), observation.get("valueQuantity"));
    let components = observation.items("component").iter().enumerate();
    own.into_iter()
        .chain(
            components
                .filter_map(|(index, part)| measurement(Some(index), part.get("code"), part.get("valueQuantity"))),
        )
        .collect()
}

fn measurement(component: Option<usize>, code: Option<&Value>, quantity: Option<&Value>) -> Option<Measurement> {
    Some(Measurement { component, codings: codings(code), quantity: Quantity::of(quantity?)? })
}
