//! What was sent, as it has to come back: ids kept, references rewritten, digits and order as they were.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use futures::{StreamExt as _, stream};
use serde_json::{Map, Value};

use crate::stack::{Stack, home};

/// How many resources are read at a time.
const READERS: usize = 8;

pub struct Sent {
    resources: Vec<Value>,
}

impl Sent {
    /// The sample that the project ships.
    pub fn sample() -> Self {
        Self::folder(&home().join("sample"))
    }

    /// The bundles of a folder, compressed or not.
    pub fn folder(folder: &Path) -> Self {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let bundles: Vec<Value> = paths.filter_map(|path| bundle(&path)).collect();
        let entries: Vec<&Value> = bundles.iter().flat_map(|bundle| bundle["entry"].as_array().unwrap()).collect();
        let targets: HashMap<String, String> = entries.iter().flat_map(|entry| names(entry)).collect();
        let resources = entries.iter().map(|entry| rewritten(&entry["resource"], &targets)).collect();
        Self { resources }
    }

    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// The resources that are about a patient.
    pub fn of_patient(&self, id: &str) -> Vec<&Value> {
        self.resources.iter().filter(|resource| resource.to_string().contains(id)).collect()
    }

    /// A Patient by its id.
    pub fn patient(&self, id: &str) -> &Value {
        let is_it = |resource: &&Value| resource["resourceType"] == "Patient" && resource["id"] == id;
        self.resources.iter().find(is_it).expect("the patient was sent")
    }

    /// The ids of the patients.
    pub fn patients(&self) -> Vec<&str> {
        let patients = self.resources.iter().filter(|resource| resource["resourceType"] == "Patient");
        patients.map(|patient| patient["id"].as_str().unwrap()).collect()
    }

    /// The ids of the patients who have not died.
    pub fn living(&self) -> Vec<&str> {
        let has_died = |id: &&str| self.patient(id).get("deceasedDateTime").is_some();
        self.patients().into_iter().filter(|id| !has_died(id)).collect()
    }

    /// Reads every resource through the FHIR door and compares text with text.
    pub async fn is_read_back(&self, stack: &Stack) {
        let (door, token) = (stack.read_door(), stack.token("service"));
        let mut checks = stream::iter(&self.resources)
            .map(|resource| is_equal(stack, &door, &token, resource))
            .buffer_unordered(READERS);
        while checks.next().await.is_some() {}
    }
}

fn bundle(path: &Path) -> Option<Value> {
    let mut text = String::new();
    let mut file = std::fs::File::open(path).unwrap();
    match path.extension()?.to_str()? {
        "gz" => flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap(),
        "json" => file.read_to_string(&mut text).unwrap(),
        _ => return None,
    };
    Some(serde_json::from_str(&text).unwrap())
}

async fn is_equal(stack: &Stack, door: &str, token: &str, sent: &Value) {
    let place = format!("{}/{}", sent["resourceType"].as_str().unwrap(), sent["id"].as_str().unwrap());
    let answer = stack.http.get(format!("{door}/fhir/{place}")).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{place}");
    let Value::Object(mut read) = answer.json().await.unwrap() else { panic!("{place} is no object") };
    drop_server_meta(&mut read);
    assert_eq!(Value::Object(read).to_string(), sent.to_string(), "{place}");
}

/// The server adds a version and a time, and must have done so.
fn drop_server_meta(resource: &mut Map<String, Value>) {
    let meta = resource.get_mut("meta").and_then(Value::as_object_mut).expect("the server adds to meta");
    assert_eq!(meta.shift_remove("versionId"), Some(Value::from("1")));
    assert!(meta.shift_remove("lastUpdated").is_some());
    if meta.is_empty() {
        resource.shift_remove("meta");
    }
}

/// Everything that a reference can call an entry, and what it is called afterwards.
fn names(entry: &Value) -> Vec<(String, String)> {
    let resource = &entry["resource"];
    let kind = resource["resourceType"].as_str().unwrap();
    let place = format!("{kind}/{}", resource["id"].as_str().unwrap());
    let identifiers = resource["identifier"].as_array().into_iter().flatten();
    let conditional = identifiers.filter_map(|identifier| {
        let (system, value) = (identifier["system"].as_str()?, identifier["value"].as_str()?);
        Some(format!("{kind}?identifier={system}|{value}"))
    });
    let full_url = entry["fullUrl"].as_str().unwrap().to_owned();
    conditional.chain([full_url]).map(|name| (name, place.clone())).collect()
}

fn rewritten(value: &Value, targets: &HashMap<String, String>) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .iter()
                .map(|(name, child)| {
                    let target = child.as_str().filter(|_| name == "reference").and_then(|text| targets.get(text));
                    (name.clone(), target.map_or_else(|| rewritten(child, targets), |place| Value::from(place.clone())))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(|item| rewritten(item, targets)).collect()),
        other => other.clone(),
    }
}
