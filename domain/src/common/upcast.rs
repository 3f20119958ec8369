//! Upcasting steps that more than one aggregate needs.

use cqrs_es::persist::{EventUpcaster, SemanticVersionEventUpcaster};
use serde_json::{Value, json};

/// From the time before history could carry notes: an event of an older version has none.
pub(crate) fn without_notes_before(event_type: &str, version: &str) -> Box<dyn EventUpcaster> {
    let variant = event_type.rsplit('.').next().unwrap_or_default().to_owned();
    let add = move |mut payload: Value| {
        if let Some(Value::Object(event)) = payload.get_mut(&variant) {
            event.entry("notes").or_insert_with(|| json!([]));
        }
        payload
    };
    Box::new(SemanticVersionEventUpcaster::new(event_type, version, Box::new(add)))
}
