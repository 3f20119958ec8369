//! Modifier elements: those that change what the rest of a resource says (FHIR R4 `isModifier`,
//! <https://hl7.org/fhir/R4/conformance-rules.html#isModifier>).
//!
//! Whoever lists, counts, scores or warns asks here first. [`decisions`] says for each modifier element of R4 who minds it;
//! a test fails on one that nobody decided about.

pub mod decisions;

mod stance;

use serde_json::Value;

use super::Resource;

pub use stance::{Stance, coded_status, has_error_status, is_entered_in_error, stance, status};

/// Whether all that changes the meaning of a resource is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Understanding {
    Understood,
    /// It is kept, readable, and in the timeline as not understood; in no list that states facts, no series and no score.
    NotUnderstood,
}

/// What no one here knows the meaning of makes a resource not understood: a modifier extension anywhere in it, contained
/// resources and datatypes included, or rules that it was made under.
pub fn understood(resource: &Resource) -> Understanding {
    let strange = resource.members().iter().any(is_strange);
    if strange { Understanding::NotUnderstood } else { Understanding::Understood }
}

/// The same for whoever only wants to go on or not.
pub fn is_understood(resource: &Resource) -> bool {
    understood(resource) == Understanding::Understood
}

/// A resource nests at most as deep as its JSON was read, so this ends.
fn is_strange((name, value): (&String, &Value)) -> bool {
    match value {
        // `contained` resources may have rules of their own; a plain element is never called so.
        Value::String(_) => name == "implicitRules",
        _ if name == "modifierExtension" || name == "_implicitRules" => true,
        Value::Object(object) => object.iter().any(is_strange),
        Value::Array(items) => items.iter().filter_map(Value::as_object).flatten().any(is_strange),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
