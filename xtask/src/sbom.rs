//! What the programs are made of: a bill of materials in the form of CycloneDX 1.5
//! (<https://cyclonedx.org/docs/1.5/json/>), from what cargo itself resolved and locked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The crates whose programs are shipped.
const SHIPPED: [&str; 5] = ["nexus-cli", "nexus-command-api", "nexus-event-store", "nexus-issuer", "nexus-projections"];
/// Where the bill is written, below the checkout.
const FILE: &str = "target/sbom.cdx.json";

/// Writes the bill and says where, and how many components it names.
pub fn write(root: &Path) -> Result<(PathBuf, usize)> {
    let metadata = metadata(root)?;
    let checksums = checksums(&std::fs::read_to_string(root.join("Cargo.lock"))?);
    let bill = bill(&metadata, &checksums)?;
    let file = root.join(FILE);
    std::fs::create_dir_all(file.with_file_name(""))?;
    std::fs::write(&file, serde_json::to_vec_pretty(&bill)?)?;
    Ok((file, array(&bill["components"]).len()))
}

fn metadata(root: &Path) -> Result<Value> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.current_dir(root).output().context("`cargo` is not installed")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn bill(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> =
        array(&metadata["packages"]).iter().map(|package| (text(&package["id"]), package)).collect();
    let uses: BTreeMap<&str, BTreeSet<&str>> =
        array(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), shipped_uses(node))).collect();
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> =
        packages.iter().filter(|(_, it)| SHIPPED.contains(&text(&it["name"]))).map(|it| *it.0).collect();
    ensure!(open.len() == SHIPPED.len(), "a crate of {SHIPPED:?} is not in the workspace");
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(uses.get(id).into_iter().flatten());
        }
    }
    let reference = |id: &str| packages.get(id).map(|package| purl(package));
    let components = reached.iter().filter_map(|id| packages.get(id)).map(|package| component(package, checksums));
    let dependencies = reached.iter().map(|id| {
        let on: Vec<_> = uses.get(id).into_iter().flatten().filter_map(|id| reference(id)).collect();
        json!({"ref": reference(id), "dependsOn": on})
    });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "nexushealth", "version": env!("CARGO_PKG_VERSION")}},
        "components": components.collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

/// What a crate needs to be built and to run; what only its tests need is not shipped.
fn shipped_uses(node: &Value) -> BTreeSet<&str> {
    let is_shipped = |dependency: &&Value| array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
    array(&node["deps"]).iter().filter(is_shipped).map(|dependency| text(&dependency["pkg"])).collect()
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(&package["name"]), text(&package["version"]));
    let mut component = json!({"type": "library", "bom-ref": purl(package), "name": name, "version": version});
    if package["source"].is_string() {
        component["purl"] = purl(package).into();
    }
    if let Some(license) = package["license"].as_str() {
        // Older crates separate choices by a slash, which SPDX does not know.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

/// The package URL (<https://github.com/package-url/purl-spec>).
fn purl(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
}

/// Name and version → SHA-256 of the crate's archive, as `Cargo.lock` holds it.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|quoted| quoted.trim_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").filter_map(|package| {
        Some(((value(package, "name")?, value(package, "version")?), value(package, "checksum")?))
    });
    packages.collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_shipped_is_listed_with_its_hash() {
        let package = |name: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": "registry"});
        let uses = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let mut packages: Vec<_> = SHIPPED.iter().map(|name| package(name)).collect();
        packages.extend([package("used"), package("tested-with")]);
        let deps = [uses("used", Value::Null), uses("tested-with", json!("dev"))];
        let metadata = json!({"packages": packages, "resolve": {"nodes": [{"id": SHIPPED[0], "deps": deps}]}});
        let lock = "[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nchecksum = \"ab12\"\n";
        let bill = bill(&metadata, &checksums(lock)).unwrap();
        let listed = array(&bill["components"]).iter().find(|it| it["name"] == "used").unwrap();
        assert_eq!(listed["hashes"][0]["content"], "ab12");
        assert_eq!(listed["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(array(&bill["components"]).len(), SHIPPED.len() + 1);
    }
}
