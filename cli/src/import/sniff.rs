//! Looks at the types of a bundle's resources without keeping the bundle in memory.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Resources that are about no patient.
const DIRECTORY: [&str; 12] = [
    "Practitioner",
    "PractitionerRole",
    "Organization",
    "OrganizationAffiliation",
    "Location",
    "HealthcareService",
    "Endpoint",
    "Device",
    "Medication",
    "Substance",
    "Schedule",
    "Slot",
];

/// When something is sent: later phases refer to what the earlier ones brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Organizations and what comes with them.
    Organizations,
    /// The rest of the directory: practitioners and their roles name organizations.
    Directory,
    /// Patients, alone or with everything of theirs in one bundle.
    Patients,
    /// Encounters that come without their patient.
    Encounters,
    /// Everything else.
    Others,
}

/// The phase of a set of resource types.
pub fn phase(types: &BTreeSet<String>) -> Phase {
    let has = |wanted: &str| types.contains(wanted);
    let all_directory = types.iter().all(|name| DIRECTORY.contains(&name.as_str()));
    match () {
        () if all_directory && has("Organization") => Phase::Organizations,
        () if all_directory && !types.is_empty() => Phase::Directory,
        () if has("Patient") => Phase::Patients,
        () if has("Encounter") => Phase::Encounters,
        () => Phase::Others,
    }
}

/// The types of a bundle's resources, as far as they were read: a patient settles the phase, and reading ends there.
pub fn types_of_bundle(reader: impl Read) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    // Broken JSON shows itself when it is sent, with an error that names the file.
    deserializer_visit(&mut deserializer, &mut types).ok();
    types
}

fn deserializer_visit<R: Read>(
    deserializer: &mut serde_json::Deserializer<serde_json::de::IoRead<R>>,
    types: &mut BTreeSet<String>,
) -> Result<(), serde_json::Error> {
    Bundle(types).deserialize(deserializer)
}

#[derive(Deserialize)]
struct Entry {
    resource: Option<Typed>,
}

/// Of a resource, only its type.
#[derive(Deserialize)]
pub struct Typed {
    #[serde(rename = "resourceType")]
    pub resource_type: String,
}

struct Bundle<'a>(&'a mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for Bundle<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Bundle<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a bundle")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "entry" => map.next_value_seed(Entries(&mut *self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Entries<'a>(&'a mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("the entries of a bundle")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<Entry>()? {
            let Some(resource) = entry.resource else { continue };
            let is_patient = resource.resource_type == "Patient";
            self.0.insert(resource.resource_type);
            if is_patient {
                return Err(serde::de::Error::custom("seen enough"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_comes_before_those_who_refer_to_it() {
        let phase_of = |json: &str| phase(&types_of_bundle(json.as_bytes()));
        let bundle = |types: &[&str]| {
            let entries: Vec<String> =
                types.iter().map(|name| format!(r#"{{"resource":{{"id":"1","resourceType":"{name}"}}}}"#)).collect();
            format!(r#"{{"resourceType":"Bundle","entry":[{}]}}"#, entries.join(","))
        };
        assert_eq!(phase_of(&bundle(&["Organization", "Location"])), Phase::Organizations);
        assert_eq!(phase_of(&bundle(&["Practitioner", "PractitionerRole"])), Phase::Directory);
        assert_eq!(phase_of(&bundle(&["Organization", "Patient", "Encounter"])), Phase::Patients);
        assert_eq!(phase_of(&bundle(&["Encounter", "Observation"])), Phase::Encounters);
        assert_eq!(phase_of(&bundle(&["Observation", "Practitioner"])), Phase::Others);
        assert_eq!(phase_of("broken"), Phase::Others);
    }

    #[test]
    fn reading_ends_at_the_first_patient() {
        let cut_off = r#"{"entry":[{"resource":{"resourceType":"Patient"}},{"resource":{"#;
        assert_eq!(phase(&types_of_bundle(cut_off.as_bytes())), Phase::Patients);
    }
}
