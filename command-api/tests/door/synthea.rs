//! The sample patients that come with the repository, if they are there.

use std::io::Read;
use std::path::PathBuf;

use serde_json::Value;

use crate::world::{World, statuses};

fn samples() -> Vec<PathBuf> {
    let folder = std::env::var_os("NEXUS_TEST_SAMPLES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../sample")), PathBuf::from);
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            match () {
                () if path.is_dir() => folders.push(path),
                () if name.ends_with(".json") || name.ends_with(".json.gz") => found.push(path),
                () => {}
            }
        }
    }
    // Directory bundles first: patients refer to them.
    let is_directory = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["hospital", "practitioner"].iter().any(|kind| name.contains(kind))
    };
    found.sort_by_key(|path| (!is_directory(path), path.clone()));
    found
}

fn read(path: &PathBuf) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("a sample can be read");
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).expect("a sample can be unpacked");
        return text;
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sample_patients_are_accepted_once() {
    let samples = samples();
    if samples.is_empty() {
        return;
    }
    let world = World::start().await;
    let service = world.service();
    let mut resources = 0;
    for path in &samples {
        let body = read(path);
        let entries = serde_json::from_slice::<Value>(&body).expect("JSON")["entry"].as_array().map_or(0, Vec::len);
        let started = std::time::Instant::now();
        let answer = service.post_fhir(body, &path.to_string_lossy()).await.expect(200);
        if std::env::var_os("NEXUS_TEST_TIMES").is_some() {
            eprintln!("{entries} entries in {:?}", started.elapsed());
        }
        assert_eq!(statuses(&answer), vec!["201 Created"; entries], "{}", path.display());
        resources += entries;
    }
    assert_eq!(world.events().await, i64::try_from(resources).expect("a count"));
    for (at, path) in samples.iter().enumerate() {
        let answer = service.post_fhir(read(path), &format!("again-{at}")).await.expect(200);
        assert!(statuses(&answer).iter().all(|status| status == "200 OK"), "{}", path.display());
    }
    assert_eq!(world.events().await, i64::try_from(resources).expect("a count"));
}
