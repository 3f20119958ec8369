//! Two records of one patient, after a merge (HL7 v2 A40): both bear the old number.

use serde_json::Value;
use uuid::Uuid;

use super::state::{is_medical_record_number, medical_record_numbers};
use crate::fhir::{Reference, Resource};
use crate::types::Claim;

/// Whether a record may bear a record number that another one holds: as an old number, which no longer identifies it
/// (`use` is `old`), or because one of the two replaces the other. The holder keeps it; from there the link leads on.
pub fn may_share_number(resource: &Resource, number: &Claim, holder: Uuid, of_holder: Option<&Resource>) -> bool {
    let replaces_me = |other: &Resource| resource.id().is_some_and(|id| is_linked(other, id));
    is_old_here(resource, number) || is_linked(resource, holder) || of_holder.is_some_and(replaces_me)
}

fn is_old_here(resource: &Resource, number: &Claim) -> bool {
    let current = |identifier: &&Value| {
        is_medical_record_number(identifier) && identifier.get("use").and_then(Value::as_str) != Some("old")
    };
    let current: Vec<Value> = resource.items("identifier").iter().filter(current).cloned().collect();
    let only_current = resource.clone().with("identifier", Value::Array(current));
    !medical_record_numbers(&only_current).contains(number)
}

/// Whether one of the two records replaces the other, by the links of one of them.
fn is_linked(resource: &Resource, other: Uuid) -> bool {
    let merges = |link: &&Value| matches!(link.get("type").and_then(Value::as_str), Some("replaces" | "replaced-by"));
    let target = |link: &Value| match Reference::parse(link.pointer("/other/reference")?.as_str()?) {
        Reference::Resource { resource_type, id } if resource_type == "Patient" => Some(id),
        _ => None,
    };
    resource.items("link").iter().filter(merges).filter_map(target).any(|id| id == other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OTHER: Uuid = Uuid::from_u128(0xb0b);

    fn record(usage: &str, links: &[(&str, Uuid)]) -> Resource {
        let type_ = json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]});
        let link = |(kind, id): &(&str, Uuid)| json!({"other": {"reference": format!("Patient/{id}")}, "type": kind});
        let links: Vec<Value> = links.iter().map(link).collect();
        let json = json!({"resourceType": "Patient", "id": Uuid::from_u128(0xa11ce), "link": links,
            "identifier": [{"use": usage, "type": type_, "system": "urn:clinic", "value": "0815"}]});
        Resource::parse(json).unwrap()
    }

    #[test]
    fn an_old_number_and_one_of_a_linked_record_are_shared() {
        let number = Claim::medical_record_number("urn:clinic", "0815");
        let may = |resource: &Resource| may_share_number(resource, &number, OTHER, None);
        assert!(may(&record("old", &[])));
        assert!(may(&record("usual", &[("replaces", OTHER)])));
        assert!(may(&record("usual", &[("replaced-by", OTHER)])));
        assert!(!may(&record("usual", &[])));
        assert!(!may(&record("usual", &[("seealso", OTHER)])));
        assert!(!may(&record("usual", &[("replaces", Uuid::from_u128(3))])));
    }

    #[test]
    fn the_link_of_the_holder_will_do() {
        let number = Claim::medical_record_number("urn:clinic", "0815");
        let mine = record("usual", &[]);
        let survivor = record("usual", &[("replaces", mine.id().unwrap())]);
        assert!(may_share_number(&mine, &number, OTHER, Some(&survivor)));
        assert!(!may_share_number(&mine, &number, OTHER, Some(&record("usual", &[]))));
    }
}
