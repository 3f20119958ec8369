//! What is ordered, and whether an allergy speaks against it.

use serde_json::Value;

use crate::allergy::{ActiveAllergy, significant_words};
use crate::fhir::naming::contained_medication;
use crate::fhir::{Coding, Resource, codings};

/// A medication as an order names it.
pub(super) struct Medication {
    codings: Vec<Coding>,
    words: Vec<String>,
}

impl Medication {
    /// The medication of a MedicationRequest: its concept, or the contained Medication with its ingredients, or at least
    /// what the reference displays. A Medication kept elsewhere is out of sight from here.
    pub(super) fn of(order: &Resource) -> Self {
        let contained = contained_medication(order);
        let ingredients = contained.and_then(|medication| medication.get("ingredient")).and_then(Value::as_array);
        let ingredients = ingredients.into_iter().flatten().filter_map(|item| item.get("itemCodeableConcept"));
        let concepts: Vec<&Value> = order
            .get("medicationCodeableConcept")
            .into_iter()
            .chain(contained.and_then(|medication| medication.get("code")))
            .chain(ingredients)
            .collect();
        let codings: Vec<Coding> = concepts.iter().flat_map(|concept| codings(Some(concept))).collect();
        let texts = concepts.iter().filter_map(|concept| concept.get("text").and_then(Value::as_str));
        let displays = codings.iter().filter_map(|coding| coding.display.as_deref());
        let words = displays
            .chain(texts)
            .chain(order.text_at("/medicationReference/display"))
            .flat_map(significant_words)
            .collect();
        Self { codings, words }
    }

    /// Whether it can be told if the allergy is to this medication: both are named in one code system, or both in words.
    pub(super) fn is_comparable_with(&self, allergy: &ActiveAllergy) -> bool {
        let shared = |one: &Coding, other: &Coding| !one.system.is_empty() && one.system == other.system;
        self.codings.iter().any(|coding| allergy.codings.iter().any(|other| shared(coding, other)))
            || !(self.words.is_empty() || allergy.words.is_empty())
    }

    /// Whether the allergy is to this medication: the same code, or a word that both names share.
    pub(super) fn is_met_by(&self, allergy: &ActiveAllergy) -> bool {
        let same = |one: &Coding, other: &Coding| one.system == other.system && one.code == other.code;
        self.codings.iter().any(|coding| allergy.codings.iter().any(|other| same(coding, other)))
            || self.words.iter().any(|word| allergy.words.contains(word))
    }
}

/// The elements that say what is ordered, to see whether two orders are for the same.
pub(super) fn ordered(order: &Resource) -> [Option<&Value>; 3] {
    [
        order.get("medicationCodeableConcept"),
        order.at("/medicationReference/reference"),
        contained_medication(order).and_then(|medication| medication.get("code")),
    ]
}
