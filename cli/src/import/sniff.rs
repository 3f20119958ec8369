//! Looks at what is in a file without keeping it in memory: the types of its resources, the server that it is from.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;

use nexus_domain::fhir::is_directory_type;
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Resource types in the order in which they are sent: each row refers to the ones above it. What is in no row is last.
/// It need not be perfect: what is refused for being too early is sent again.
const ROWS: [&[&str]; 9] = [
    &["Organization"],
    &["Practitioner", "Location", "Endpoint", "Medication", "Substance", "OrganizationAffiliation"],
    &["HealthcareService", "PractitionerRole", "Schedule", "Slot"],
    &["Patient"],
    &["RelatedPerson", "Device", "Group", "Coverage", "EpisodeOfCare", "Encounter"],
    &["Condition", "AllergyIntolerance", "Immunization", "Observation", "Specimen", "CareTeam", "Goal", "Appointment"],
    &["CarePlan", "ServiceRequest", "MedicationRequest", "Procedure", "Media"],
    &[
        "DiagnosticReport",
        "ImagingStudy",
        "DocumentReference",
        "MedicationAdministration",
        "MedicationDispense",
        "Claim",
    ],
    &["ExplanationOfBenefit", "ClaimResponse"],
];

/// When something is sent, as the row of its type: later phases refer to what the earlier ones brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Phase(usize);

/// The phase of a file with these types: that of its first one. Practitioners who come with patients don't count.
pub fn phase(types: &BTreeSet<String>) -> Phase {
    // A device may be somebody's, and comes with the hospital all the same.
    let is_directory = |name: &String| is_directory_type(name) || name == "Device";
    let all_directory = types.iter().all(is_directory);
    let rows = types.iter().filter(|name| all_directory || !is_directory(name)).map(|name| row(name));
    Phase(rows.min().unwrap_or(ROWS.len()))
}

fn row(name: &str) -> usize {
    ROWS.iter().position(|row| row.contains(&name)).unwrap_or(ROWS.len())
}

/// What a short look tells of a file.
#[derive(Debug, Default)]
pub struct Look {
    pub types: BTreeSet<String>,
    /// What absolute references to patients begin with.
    pub bases: BTreeSet<String>,
    /// It is one resource and no bundle.
    pub is_single: bool,
}

impl Look {
    /// Looks at one resource, too.
    pub fn add_resource(&mut self, json: &[u8]) {
        if let Ok(typed) = serde_json::from_slice::<Typed>(json) {
            self.types.insert(typed.resource_type);
            self.bases.extend(bases_in(json));
        }
    }
}

/// Looks at a bundle, or at a resource by itself. A patient settles the phase of a bundle, and reading ends there.
pub fn look_at_json(reader: impl Read) -> Look {
    let mut look = Look::default();
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    // Broken JSON shows itself when it is sent, with an error that names the file.
    Bundle(&mut look).deserialize(&mut deserializer).ok();
    look
}

/// What comes before `/Patient/…` in absolute references.
pub fn bases_in(json: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(json);
    let values = text.split("\"reference\"").skip(1).filter_map(|rest| {
        let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        rest.split('"').next()
    });
    let base = |value: &str| Some(value.split_once("/Patient/")?.0.to_owned());
    values.filter(|value| value.starts_with("http://") || value.starts_with("https://")).filter_map(base).collect()
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

struct Bundle<'a>(&'a mut Look);

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
                "entry" => map.next_value_seed(Entries(&mut self.0.types))?,
                "resourceType" => {
                    let name: String = map.next_value()?;
                    if name != "Bundle" {
                        self.0.is_single = true;
                        self.0.types.insert(name);
                    }
                }
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
        let phase_of = |json: &str| phase(&look_at_json(json.as_bytes()).types);
        let bundle = |types: &[&str]| {
            let entries: Vec<String> =
                types.iter().map(|name| format!(r#"{{"resource":{{"id":"1","resourceType":"{name}"}}}}"#)).collect();
            format!(r#"{{"resourceType":"Bundle","entry":[{}]}}"#, entries.join(","))
        };
        let in_order = [
            phase_of(&bundle(&["Organization", "Location"])),
            phase_of(&bundle(&["Practitioner", "PractitionerRole"])),
            phase_of(&bundle(&["Organization", "Patient", "Encounter"])),
            phase_of(&bundle(&["Encounter", "Observation"])),
            phase_of(&bundle(&["Observation", "Practitioner"])),
            phase_of(&bundle(&["Claim"])),
            phase_of(&bundle(&["Provenance"])),
        ];
        assert!(in_order.is_sorted_by(|earlier, later| earlier < later), "{in_order:?}");
        assert_eq!(phase_of("broken"), phase_of(&bundle(&["Provenance"])));
        assert!(phase_of(&bundle(&["Patient"])) < phase_of(&bundle(&["Device"])), "a device may be a patient's");
    }

    #[test]
    fn a_resource_by_itself_has_its_own_type() {
        let look = look_at_json(&br#"{"id":"1","resourceType":"Goal","subject":{"reference":"Patient/1"}}"#[..]);
        assert!(look.is_single && look.types.contains("Goal") && look.bases.is_empty());
    }

    #[test]
    fn reading_ends_at_the_first_patient() {
        let cut_off = r#"{"entry":[{"resource":{"resourceType":"Patient"}},{"resource":{"#;
        assert!(look_at_json(cut_off.as_bytes()).types.contains("Patient"));
    }
}
