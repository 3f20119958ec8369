//! The shipped sample patients, with the references that the write door would have resolved.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use nexus_domain::fhir::{Reference, Resource, rewrite_references};
use serde_json::Value;

/// Every resource of the sample, the directory first.
pub fn resources() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "gz"));
    // hospitals and practitioners; the patients' files have a digit in their names.
    files.sort_by_key(|file| file.to_string_lossy().rsplit('/').next().unwrap().contains(|c: char| c.is_ascii_digit()));
    let mut resources: Vec<Resource> = files.iter().flat_map(|file| entries(file)).collect();
    assert!(resources.len() > 1_000, "the sample is there");
    let references = known(&resources);
    for resource in &mut resources {
        rewrite_references(resource, &mut |text| references.get(text).cloned());
    }
    resources.into_iter().map(Resource::into_json).collect()
}

fn entries(file: &Path) -> Vec<Resource> {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let entries = bundle["entry"].as_array().unwrap();
    entries.iter().map(|entry| Resource::parse(entry["resource"].clone()).unwrap()).collect()
}

/// What each reference that may occur stands for.
fn known(resources: &[Resource]) -> HashMap<String, String> {
    let mut known = HashMap::new();
    for resource in resources {
        let target = format!("{}/{}", resource.resource_type(), resource.id().unwrap());
        known.insert(format!("urn:uuid:{}", resource.id().unwrap()), target.clone());
        for identifier in resource.items("identifier") {
            let part = |name: &str| identifier[name].as_str().unwrap_or_default();
            let conditional = format!("{}?identifier={}|{}", resource.resource_type(), part("system"), part("value"));
            if matches!(Reference::parse(&conditional), Reference::Conditional { .. }) {
                known.insert(conditional, target.clone());
            }
        }
    }
    known
}
