//! A patient's resources as another system would export them: NDJSON, a file for each type, with literal references.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::sent::Sent;
use crate::stack::Stack;

/// Of the sample, one without Medications: a batch can't tell whose they are.
const PATIENT: &str = "347ceebf-0248-5a56-14f3-e1e8e8ffb73c";

/// Everything is taken the first time, found the second time, and counted once each time.
pub async fn are_taken_once_whatever_their_order(stack: &Stack, sent: &Sent) {
    let folder = tempfile::tempdir().unwrap();
    let count = json!(write(&sent.of_patient(PATIENT), folder.path()));
    let first = stack.import(folder.path()).await;
    assert_eq!(first["refused"], json!(0), "{first}");
    assert_eq!((&first["accepted"], &first["already_there"]), (&count, &json!(0)));
    let heads = stack.heads().await;
    let second = stack.import(folder.path()).await;
    assert_eq!(second["refused"], json!(0), "{second}");
    assert_eq!((&second["accepted"], &second["already_there"]), (&json!(0), &count));
    assert_eq!(heads, stack.heads().await, "the second import adds no event");
}

/// Writes the files and answers how many resources are in them. The patient becomes another one by new ids. What names
/// all the others, their Provenance, comes first in the first file: it can be taken only when it is sent again.
fn write(resources: &[&Value], folder: &Path) -> usize {
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for resource in resources {
        let kind = resource["resourceType"].as_str().unwrap();
        let file = files.entry(if kind == "Provenance" { "Patient" } else { kind }).or_default();
        let line = with_new_ids(resource, resources).to_string();
        file.insert(if kind == "Provenance" { 0 } else { file.len() }, line);
    }
    for (kind, lines) in &files {
        std::fs::write(folder.join(format!("{kind}.ndjson")), lines.join("\n\n")).unwrap();
    }
    files.values().map(Vec::len).sum()
}

fn with_new_ids(resource: &Value, all: &[&Value]) -> Value {
    let mut text = resource.to_string();
    for id in all.iter().map(|resource| resource["id"].as_str().unwrap()) {
        if text.contains(id) {
            text = text.replace(id, &Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()).to_string());
        }
    }
    serde_json::from_str(&text).unwrap()
}
