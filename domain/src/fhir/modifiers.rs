//! Elements that change the meaning of whatever they stand in (<https://hl7.org/fhir/R4/conformance-rules.html#isModifier>).

use serde_json::Value;

use super::Resource;

const MODIFIER_EXTENSION: &str = "modifierExtension";

/// Whether a resource has a `modifierExtension`, at any depth but in what it contains: nobody here knows any, so what the
/// resource says is not understood. A contained resource is another one, with a meaning of its own.
pub fn unknown_modifier_extension(resource: &Resource) -> bool {
    resource.members().iter().any(|(name, value)| name == MODIFIER_EXTENSION || (name != "contained" && has_one(value)))
}

fn has_one(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, child)| name == MODIFIER_EXTENSION || has_one(child)),
        Value::Array(items) => items.iter().any(has_one),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_modifier_extension_is_found_wherever_it_stands() {
        let found = |more: Value| {
            let mut json = json!({"resourceType": "Observation"});
            json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            unknown_modifier_extension(&Resource::parse(json).unwrap())
        };
        let modified = json!([{"url": "urn:x", "valueBoolean": true}]);
        assert!(found(json!({"modifierExtension": modified})));
        assert!(found(json!({"component": [{"modifierExtension": modified}]})));
        assert!(found(json!({"effectiveTiming": {"modifierExtension": modified}})));
        assert!(!found(json!({"extension": modified})));
        assert!(!found(json!({"contained": [{"resourceType": "Specimen", "modifierExtension": modified}]})));
    }
}
