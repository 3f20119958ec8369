//! What an allergy means for an order: the codes and the words by which a medication may be recognised.

use std::fmt;

use serde_json::Value;
use uuid::Uuid;

use crate::fhir::modifiers::coded_status;
use crate::fhir::{Coding, Resource, codings};

/// SNOMED CT's statements that there is no allergy (716186003 |No known allergy| and what is below it). They are
/// recorded as allergies, but nothing follows from them.
const NO_KNOWN_ALLERGY: &[&str] = &[
    "716186003", // no known allergy
    "409137002", // … to drugs
    "429625007", // … to food
    "428607008", // … to environmental substances
    "716184000", // … to latex
    "716220001", // … to animals
    "428197003", // … to insects
];

/// A single letter says too little to recognise a substance by; an abbreviation such as `ASA` names one.
const WORD_LETTERS_MIN: usize = 2;
/// A word is taken for a plural only if this much of it remains.
const STEM_LETTERS_MIN: usize = 4;

/// Words that stand in the names of many allergies or many medications, so that they tell nothing apart.
const STOP_WORDS: &[&str] = &[
    "acid",
    "actuation",
    "adverse",
    "allergen",
    "allergic",
    "allergie",
    "allergy",
    "anaphylaxi",
    "anhydrou",
    "capsule",
    "caused",
    "chewable",
    "chloride",
    "class",
    "coated",
    "cream",
    "delayed",
    "disorder",
    "dose",
    "dosing",
    "drug",
    "effect",
    "extended",
    "extract",
    "finding",
    "form",
    "from",
    "hour",
    "hydrochloride",
    "hypersensitivity",
    "implant",
    "inhalant",
    "inhalation",
    "inhaler",
    "injectable",
    "injection",
    "intolerance",
    "intolerant",
    "known",
    "lotion",
    "medication",
    "medicine",
    "metered",
    "nasal",
    "ointment",
    "ophthalmic",
    "oral",
    "pack",
    "patch",
    "pill",
    "potassium",
    "powder",
    "preparation",
    "prefilled",
    "product",
    "propensity",
    "reaction",
    "reported",
    "rectal",
    "release",
    "sensitivity",
    "situation",
    "sodium",
    "solution",
    "spray",
    "substance",
    "sulfate",
    "suspected",
    "suspension",
    "syringe",
    "system",
    "tablet",
    "topical",
    "transdermal",
    "unit",
    "with",
];

/// The same among words of two or three letters: units, forms of dosage, and what holds a sentence together.
const SHORT_STOP_WORDS: &[&str] = &[
    "act", "all", "and", "any", "are", "bar", "by", "can", "cap", "cr", "day", "dr", "due", "ear", "er", "eye", "for",
    "gel", "gm", "had", "has", "hcl", "her", "his", "hr", "hrs", "im", "in", "inj", "ir", "is", "it", "iu", "iv", "kg",
    "kit", "la", "mcg", "meq", "mg", "ml", "mm", "mol", "na", "ng", "nk", "no", "nos", "not", "of", "oil", "on", "or",
    "oz", "pad", "per", "pt", "sol", "sr", "tab", "the", "to", "top", "ug", "usp", "was", "xl", "xr",
];

/// An allergy that holds now. `Debug` shows the id only, since the rest is patient data.
#[derive(Clone, PartialEq, Eq)]
pub struct ActiveAllergy {
    /// The id of the allergy's stream.
    pub id: Uuid,
    /// The codes of what the patient reacts to.
    pub codings: Vec<Coding>,
    /// Whether anybody has confirmed it, or nobody said that it still has to be.
    pub confirmed: bool,
    /// The words that name it, lower-case and singular, without those that tell nothing.
    pub words: Vec<String>,
}

impl fmt::Debug for ActiveAllergy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveAllergy({}, redacted)", self.id)
    }
}

impl ActiveAllergy {
    /// What is to be minded of an AllergyIntolerance: its code, and the substances that reactions are put down to.
    /// Nothing if it only says that no allergy is known.
    pub(super) fn of(resource: &Resource) -> Option<Self> {
        let substances = resource.items("reaction").iter().filter_map(|reaction| reaction.get("substance"));
        let concepts: Vec<&Value> = resource.get("code").into_iter().chain(substances).collect();
        let codings: Vec<Coding> = concepts.iter().flat_map(|concept| codings(Some(concept))).collect();
        if codings.iter().any(|coding| NO_KNOWN_ALLERGY.contains(&coding.code.as_str())) {
            return None;
        }
        let texts = concepts.iter().filter_map(|concept| concept.get("text").and_then(Value::as_str));
        let words = words_of(codings.iter().filter_map(|coding| coding.display.as_deref()).chain(texts));
        let confirmed = coded_status(resource, "verificationStatus") != Some("unconfirmed");
        Some(Self { id: resource.id()?, codings, confirmed, words })
    }
}

/// The significant words of several texts, each once.
fn words_of<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut words: Vec<String> = texts.flat_map(significant_words).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// The words of a text that may name a substance: whole words of two letters or more, in lower case and singular, so
/// that `Penicillins` and `penicillin` are one. Stop words are singular in the same rough way. Short words are left as
/// they are, and digits in front of a word are no part of it.
pub(crate) fn significant_words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words = words.map(|word| word.trim_start_matches(|c: char| c.is_ascii_digit()).to_lowercase());
    words
        .filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() >= WORD_LETTERS_MIN)
        .map(|word| singular(&word).to_owned())
        .filter(|word| !STOP_WORDS.contains(&word.as_str()) && !SHORT_STOP_WORDS.contains(&word.as_str()))
        .collect()
}

fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.chars().count() >= STEM_LETTERS_MIN && !stem.ends_with('s') => stem,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_tell_substances_apart_remain() {
        assert_eq!(significant_words("Allergy to penicillins (disorder)"), ["penicillin"]);
        assert_eq!(significant_words("PENICILLIN V Potassium 250 MG Oral Tablets"), ["penicillin"]);
        assert_eq!(significant_words("24 HR Metformin hydrochloride 500mg"), ["metformin"]);
        assert!(significant_words("No known drug allergies (situation)").is_empty());
        assert_eq!(significant_words("Allergy to ASA"), ["asa"]);
        assert_eq!(significant_words("ASA 81 MG Oral Tablet"), ["asa"]);
        assert_eq!(significant_words("5-FU, 5FU"), ["fu", "fu"]);
        assert!(significant_words("10 mg per day, IV or by mouth 2 hrs").contains(&"mouth".to_owned()));
        assert!(significant_words("").is_empty());
    }

    #[test]
    fn stop_words_are_as_words_come_out() {
        assert!(STOP_WORDS.iter().chain(SHORT_STOP_WORDS).all(|word| singular(word) == *word));
    }
}
