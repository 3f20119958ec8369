//! The blind index: what a patient is found by, as keyed hashes that say nothing without the key.
//!
//! A search hashes what it looks for in the same way. Hashes of names with a letter dropped find names with a typo;
//! hashes of sounds find other spellings. What they find is opened and compared, so a collision is no wrong answer.

use nexus_domain::fhir::Resource;
use nexus_event_store::Keyring;
use serde_json::Value;

use super::names;

/// Names of a patient that are indexed; a record with more is not a person's.
const NAMES_MAX: usize = 16;
/// Hashes of one patient.
const KEYS_MAX: usize = 2_000;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A medical record number with its system.
    Mrn,
    /// A medical record number alone.
    MrnValue,
    /// Any identifier with its system.
    Identifier,
    BirthDate,
    Name,
    NameNear,
    NameSound,
}

impl Kind {
    const fn domain(self) -> &'static str {
        match self {
            Self::Mrn => "patient_directory/mrn",
            Self::MrnValue => "patient_directory/mrn-value",
            Self::Identifier => "patient_directory/identifier",
            Self::BirthDate => "patient_directory/birth-date",
            Self::Name => "patient_directory/name",
            Self::NameNear => "patient_directory/name-near",
            Self::NameSound => "patient_directory/name-sound",
        }
    }
}

/// The hash of one value, cut to 64 bits.
pub(super) fn key(keyring: &Keyring, kind: Kind, value: &str) -> i64 {
    let hash = keyring.blind(kind.domain(), value);
    let (short, _) = hash.split_first_chunk().expect("a hash of 32 bytes has 8");
    i64::from_be_bytes(*short)
}

/// Every hash that a word of a search may find a name by.
pub(super) fn near_keys(keyring: &Keyring, word: &str) -> Vec<i64> {
    let near = names::neighbours(word).into_iter().map(|near| key(keyring, Kind::NameNear, &near));
    near.chain(names::sounds(word).into_iter().map(|sound| key(keyring, Kind::NameSound, &sound))).collect()
}

/// Every hash that a patient is found by.
pub(super) fn keys(keyring: &Keyring, patient: &Resource) -> impl Iterator<Item = i64> + use<> {
    let mut keys = identifier_keys(keyring, patient);
    keys.extend(patient.text("birthDate").map(|date| key(keyring, Kind::BirthDate, date)));
    for spelling in name_spellings(patient) {
        keys.push(key(keyring, Kind::Name, &spelling));
        keys.extend(near_keys(keyring, &spelling));
    }
    keys.sort_unstable();
    keys.dedup();
    keys.truncate(KEYS_MAX);
    keys.into_iter()
}

/// All spellings of all names of the patient.
pub(super) fn name_spellings(patient: &Resource) -> Vec<String> {
    let mut spellings: Vec<_> =
        patient.items("name").iter().take(NAMES_MAX).flat_map(name_texts).flat_map(names::spellings).collect();
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

/// Family and given names; the whole text where there is nothing else.
fn name_texts(name: &Value) -> Vec<&str> {
    let given = name.get("given").and_then(Value::as_array).into_iter().flatten();
    let mut texts: Vec<_> = name.get("family").into_iter().chain(given).filter_map(Value::as_str).collect();
    if texts.is_empty() {
        texts.extend(name.get("text").and_then(Value::as_str));
    }
    texts
}

fn identifier_keys(keyring: &Keyring, patient: &Resource) -> Vec<i64> {
    let mut keys = Vec::new();
    for identifier in patient.items("identifier") {
        let Some((system, value)) = identifier_parts(identifier) else { continue };
        let whole = format!("{system}|{value}");
        keys.push(key(keyring, Kind::Identifier, &whole));
        if is_mrn(identifier) {
            keys.push(key(keyring, Kind::Mrn, &whole));
            keys.push(key(keyring, Kind::MrnValue, value));
        }
    }
    keys
}

/// System and value of an identifier that has a value.
pub(super) fn identifier_parts(identifier: &Value) -> Option<(&str, &str)> {
    let text = |name: &str| identifier.get(name).and_then(Value::as_str).map(str::trim);
    Some((text("system").unwrap_or_default(), text("value").filter(|value| !value.is_empty())?))
}

/// Whether an identifier is a medical record number.
pub(super) fn is_mrn(identifier: &Value) -> bool {
    let codings = identifier.pointer("/type/coding").and_then(Value::as_array).into_iter().flatten();
    codings.into_iter().any(|coding| coding.get("code").and_then(Value::as_str) == Some("MR"))
}
