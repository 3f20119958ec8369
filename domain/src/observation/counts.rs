//! Whether an observation counts as a finding about its patient: in a series, in a score, for an alert.
//!
//! | status | counts | |
//! |---|---|---|
//! | `final`, `amended`, `corrected` | yes | |
//! | `preliminary` | yes | shown as preliminary: who is ill before the result is verified is ill |
//! | `registered` | no | there is no result yet, whatever stands there |
//! | `unknown` | no | it may have been taken back, for all its source knows |
//! | `cancelled`, `entered-in-error` | no | taken back |
//!
//! Beside its status: what has a `focus` is about something else than the patient (a fetus, a donor, a device), what has
//! another subject than a Patient is about that (a room, a group), and what has a modifier extension means something that
//! nobody here knows. All of it is kept and readable.

use serde_json::Value;

use crate::fhir::modifiers::is_understood;
use crate::fhir::{Reference, Resource, is_resource_type};

/// Why an observation does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCounted {
    /// Cancelled, or entered in error.
    TakenBack,
    /// About something else than the patient.
    NotThePatient,
    /// An element changes its meaning in a way that nobody here knows.
    NotUnderstood,
    /// Its status does not say that it states a result.
    NotStated,
}

/// Whether an observation counts as a finding about its patient.
///
/// # Errors
/// Why not. What was taken back says nothing at all, so that comes first.
pub fn counts(observation: &Resource) -> Result<(), NotCounted> {
    match observation.text("status") {
        Some("cancelled" | "entered-in-error") => Err(NotCounted::TakenBack),
        _ if about(observation).is_some() => Err(NotCounted::NotThePatient),
        _ if !is_understood(observation) => Err(NotCounted::NotUnderstood),
        Some("preliminary" | "final" | "amended" | "corrected") => Ok(()),
        _ => Err(NotCounted::NotStated),
    }
}

/// The resource type of what an observation is about, if that is not its patient; `Resource` where the reference does not
/// tell.
pub fn about(observation: &Resource) -> Option<&str> {
    let focus = observation.get("focus").map(|focus| {
        let first = focus.get(0).unwrap_or(focus);
        type_of(first.get("reference").and_then(Value::as_str))
    });
    focus.or_else(|| {
        let subject = observation.text_at("/subject/reference");
        let is_patient = matches!(
            subject.map(Reference::parse), Some(Reference::Resource { resource_type, .. }) if resource_type == "Patient"
        );
        (!is_patient).then(|| type_of(subject))
    })
}

fn type_of(reference: Option<&str>) -> &str {
    let name = reference.and_then(|text| text.split(['/', '?']).next());
    name.filter(|name| is_resource_type(name)).unwrap_or("Resource")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::form::STATUSES;
    use super::*;

    fn observation(more: Value) -> Resource {
        let mut json = json!({
            "resourceType": "Observation", "status": "final",
            "subject": {"reference": "Patient/057aa36e-b892-9964-75b9-ffb46b097e34"}
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Resource::parse(json).unwrap()
    }

    fn outcome(more: Value) -> Result<(), NotCounted> {
        counts(&observation(more))
    }

    #[test]
    fn every_status_of_r4_is_decided() {
        let counted = ["preliminary", "final", "amended", "corrected"];
        let taken_back = ["cancelled", "entered-in-error"];
        for status in STATUSES {
            let expected = match status {
                status if counted.contains(status) => Ok(()),
                status if taken_back.contains(status) => Err(NotCounted::TakenBack),
                _ => Err(NotCounted::NotStated),
            };
            assert_eq!(outcome(json!({"status": status})), expected, "{status}");
        }
        assert_eq!(counts(&observation(json!({})).without("status")), Err(NotCounted::NotStated));
    }

    #[test]
    fn what_is_about_something_else_does_not_count() {
        let not_the_patient = Err(NotCounted::NotThePatient);
        for (focus, kind) in [
            (json!([{"reference": "RelatedPerson/0696ac49-3128-87d3-7344-04510aa4f324"}]), "RelatedPerson"),
            (json!([{"reference": "Patient/0696ac49-3128-87d3-7344-04510aa4f324"}]), "Patient"),
            (json!([{"display": "the graft"}]), "Resource"),
        ] {
            assert_eq!(outcome(json!({"focus": focus})), not_the_patient, "{focus}");
            assert_eq!(about(&observation(json!({"focus": focus}))), Some(kind));
        }
        for (subject, kind) in [
            (json!({"reference": "Device/0696ac49-3128-87d3-7344-04510aa4f324"}), "Device"),
            (json!({"reference": "Group?identifier=urn:x|1"}), "Group"),
            (json!({"reference": "#it"}), "Resource"),
            (json!({"display": "somebody"}), "Resource"),
        ] {
            assert_eq!(outcome(json!({"subject": subject})), not_the_patient, "{subject}");
            assert_eq!(about(&observation(json!({"subject": subject}))), Some(kind));
        }
        assert_eq!(about(&observation(json!({}))), None);
    }

    #[test]
    fn what_nobody_understands_does_not_count() {
        let modified = json!([{"url": "urn:x", "valueBoolean": true}]);
        assert_eq!(outcome(json!({"modifierExtension": modified})), Err(NotCounted::NotUnderstood));
        let taken_back = json!({"modifierExtension": modified, "status": "cancelled"});
        assert_eq!(outcome(taken_back), Err(NotCounted::TakenBack));
    }
}
