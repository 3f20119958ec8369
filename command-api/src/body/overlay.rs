//! A body over the resource that stands: what the body has no member for is not its to take away.

use nexus_domain::fhir::Resource;

/// The standing resource with those elements that the body owns as the body has them: what it leaves out is gone.
/// Everything else stays. What is said beside an element (`_birthDate`) stays as long as the element says the same; the
/// narrative (`text`) as long as everything does, since it would tell the old values to whoever reads it.
pub fn overlay(standing: &Resource, body: &Resource, owned: impl Fn(&str) -> bool) -> Resource {
    let mut merged = standing.clone();
    let same = |name: &str| standing.get(name) == body.get(name);
    let outdated = |name: &&String| {
        let element = name.strip_prefix('_').unwrap_or(name);
        owned(element) && !same(element) && (name.starts_with('_') || body.get(element).is_none())
    };
    for name in standing.members().keys().filter(outdated) {
        merged = merged.without(name);
    }
    for (name, value) in body.members().iter().filter(|(name, _)| owned(name)) {
        merged = merged.with(name, value.clone());
    }
    if merged == *standing { merged } else { merged.without("text") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(json: Value) -> Resource {
        Resource::parse(json).unwrap()
    }

    fn standing() -> Resource {
        resource(json!({
            "resourceType": "Patient", "text": {"status": "generated"}, "gender": "female", "_gender": {"id": "g"},
            "birthDate": "1985-04-12", "_birthDate": {"extension": [{"url": "urn:x", "valueString": "noon"}]},
            "deceasedBoolean": true, "maritalStatus": {"text": "Married"}
        }))
    }

    #[test]
    fn what_the_body_owns_is_replaced_and_everything_else_stays() {
        let owned = |name: &str| matches!(name, "gender" | "birthDate" | "name");
        let body = resource(json!({
            "resourceType": "Patient", "birthDate": "1985-04-12", "name": [{"family": "B"}], "active": false
        }));
        let merged = overlay(&standing(), &body, owned).into_json();
        let expected = json!({
            "resourceType": "Patient", "birthDate": "1985-04-12",
            "_birthDate": {"extension": [{"url": "urn:x", "valueString": "noon"}]},
            "deceasedBoolean": true, "maritalStatus": {"text": "Married"}, "name": [{"family": "B"}]
        });
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_body_that_says_the_same_changes_nothing() {
        let body = resource(json!({"resourceType": "Patient", "gender": "female"}));
        assert_eq!(overlay(&standing(), &body, |name| name == "gender"), standing());
        let other = resource(json!({"resourceType": "Patient", "gender": "other"}));
        let changed = overlay(&standing(), &other, |name| name == "gender");
        assert_eq!((changed.text("gender"), changed.get("_gender"), changed.get("text")), (Some("other"), None, None));
    }
}
