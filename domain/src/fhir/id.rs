//! Ids: every resource here has a UUID, and what comes under another id becomes one that can be told from it.

use uuid::Uuid;

/// The namespace of derived ids (version 5 UUIDs); it never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6e65_7875_7368_4561_8c74_6865_6e65_7769);

/// A UUID that is always the same for the same texts.
pub fn derived_id(texts: &[&str]) -> Uuid {
    let mut name = Vec::new();
    for text in texts {
        name.extend_from_slice(&(text.len() as u64).to_be_bytes());
        name.extend_from_slice(text.as_bytes());
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

/// The UUID that the resource has which is `<type>/<id>` at this server: the id itself if it is a UUID, else one made from
/// both. So whoever put a resource under an id of their own refers to it and reads it under that id, and nobody has to
/// keep a list. Nothing for what is no FHIR id.
pub fn id_of(resource_type: &str, id: &str) -> Option<Uuid> {
    is_fhir_id(id).then(|| Uuid::parse_str(id).unwrap_or_else(|_| derived_id(&["fhir", resource_type, id])))
}

/// FHIR R4 `id`: 1 to 64 of letters, digits, `-` and `.` (<https://hl7.org/fhir/R4/datatypes.html#id>).
pub fn is_fhir_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_keep_their_parts_apart() {
        assert_eq!(derived_id(&["a", "b"]), derived_id(&["a", "b"]));
        assert_ne!(derived_id(&["ab", ""]), derived_id(&["a", "b"]));
    }

    #[test]
    fn a_uuid_is_itself_however_it_is_written_and_another_id_is_always_the_same_one() {
        let uuid = Uuid::parse_str("057aa36e-b892-9964-75b9-ffb46b097e34").unwrap();
        for text in ["057aa36e-b892-9964-75b9-ffb46b097e34", "057AA36E-B892-9964-75B9-FFB46B097E34"] {
            assert_eq!(id_of("Patient", text), Some(uuid));
        }
        assert_eq!(id_of("Patient", "057aa36eb892996475b9ffb46b097e34"), Some(uuid));
        // Ids that are stored already were made like this: the value must never change.
        assert_eq!(id_of("Patient", "ward.7"), Some(derived_id(&["fhir", "Patient", "ward.7"])));
        assert_ne!(id_of("Patient", "ward.7"), id_of("Location", "ward.7"));
        for bad in ["", "a b", "a/b", "{057aa36e-b892-9964-75b9-ffb46b097e34}", &"x".repeat(65)] {
            assert_eq!(id_of("Patient", bad), None, "{bad}");
        }
    }
}
