//! Codings and codeable concepts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A code within a code system, with the text that a person reads.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coding {
    pub system: String,
    pub code: String,
    pub display: Option<String>,
}

/// The codings of a `CodeableConcept` (those that have a code).
pub fn codings(concept: Option<&Value>) -> Vec<Coding> {
    let items = concept.and_then(|value| value.get("coding")).and_then(Value::as_array);
    items.map_or_else(Vec::new, |items| items.iter().filter_map(coding).collect())
}

fn coding(value: &Value) -> Option<Coding> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Coding { system: text("system").unwrap_or_default(), code: text("code")?, display: text("display") })
}
