//! The list of FHIR's modifier elements, from the definitions that HL7 publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const LIST: &str = "domain/src/fhir/modifiers/r4.txt";
const DEFINITIONS: [&str; 2] = ["profiles-resources.json", "profiles-types.json"];
const RELEASE: &str = "4.0.1";

type Paths = BTreeMap<String, BTreeSet<String>>;

/// Writes the list anew; answers the file and how many elements it has.
pub fn write(root: &Path, definitions: &Path) -> Result<(PathBuf, usize)> {
    let mut paths = Paths::new();
    for name in DEFINITIONS {
        let file = definitions.join(name);
        let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
        collect(&serde_json::from_str(&text)?, &mut paths);
    }
    ensure!(paths.contains_key("Observation"), "these are not the definitions of R4 ({RELEASE})");
    let line = |(kind, paths): (&String, &BTreeSet<String>)| {
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        format!("{kind} {}\n", paths.join(" "))
    };
    let list = root.join(LIST);
    fs::write(&list, paths.iter().map(line).collect::<String>())?;
    Ok((list, paths.values().map(BTreeSet::len).sum()))
}

/// Base definitions only: a profile changes the meaning of nothing else.
fn collect(bundle: &Value, paths: &mut Paths) {
    let definitions = items(bundle, "entry").iter().map(|entry| &entry["resource"]).filter(|definition| {
        definition["resourceType"] == "StructureDefinition"
            && definition["derivation"] != "constraint"
            && definition["fhirVersion"] == RELEASE
    });
    let elements = definitions.flat_map(|definition| items(&definition["snapshot"], "element"));
    for element in elements.filter(|element| element["isModifier"] == true) {
        if let Some((kind, path)) = element["path"].as_str().and_then(|path| path.split_once('.')) {
            paths.entry(kind.to_owned()).or_default().insert(path.to_owned());
        }
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}
