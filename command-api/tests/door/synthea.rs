//! The sample patients that come with the repository, if they are there.

use std::io::Read;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::world::{World, statuses};

/// How many resources change from one night to the next; `NEXUS_TEST_CHANGES` says otherwise.
const CHANGES_DEFAULT: usize = 60;
/// Which ones, and nothing else in these tests is left to chance.
const SEED: u64 = 0x5eed_0f12;

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

/// Numbers that look random and are the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below the bound")
    }
}

/// The places of resources that this many dice chose: file and entry, none of them twice. A conditional create does not
/// say what stands, so that nothing changes by it.
fn choose(bundles: &[Value], count: usize) -> Vec<(usize, usize)> {
    let entries = |bundle: &Value| bundle["entry"].as_array().cloned().unwrap_or_default();
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (file, bundle) in bundles.iter().enumerate() {
        let known = |entry: &Value| entry["request"]["ifNoneExist"].is_null() && entry["resource"]["id"].is_string();
        let found = entries(bundle).into_iter().enumerate().filter(|(_, entry)| known(entry));
        places.extend(found.map(|(index, _)| (file, index)));
    }
    let mut dice = Dice(SEED);
    assert!(places.len() >= count, "there are only {} resources", places.len());
    (0..count).map(|_| places.swap_remove(dice.below(places.len()))).collect()
}

/// Another value, and the hour of the change.
fn change(resource: &mut Value, night: usize) {
    resource["meta"]["lastUpdated"] = json!(format!("2031-07-{:02}T03:04:05.678Z", night + 1));
    match resource["resourceType"].as_str().expect("a type") {
        "Patient" => resource["maritalStatus"] = json!({"text": format!("as of night {night}")}),
        "Observation" if resource["valueQuantity"].is_object() => {
            // One digit more.
            let value = resource["valueQuantity"]["value"].to_string();
            let more = if value.contains('.') { format!("{value}{night}") } else { format!("{value}.{night}") };
            resource["valueQuantity"]["value"] = serde_json::from_str(&more).expect("a number");
        }
        _ => resource["language"] = json!(format!("de-{}", ["AT", "CH"][night % 2])),
    }
}

/// `NEXUS_TEST_SAMPLES=FOLDER NEXUS_TEST_CHANGES=500` does it with another set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_set_that_comes_again_exactly_what_has_changed_arrives() {
    let samples = samples();
    if samples.is_empty() {
        return;
    }
    let count = std::env::var("NEXUS_TEST_CHANGES")
        .map_or(CHANGES_DEFAULT, |count| count.parse().expect("a number of changes"));
    let world = World::start().await;
    let service = world.service();
    let mut bundles: Vec<Value> =
        samples.iter().map(|path| serde_json::from_slice(&read(path)).expect("JSON")).collect();
    let mut events = 0;
    for night in 0..4 {
        // The last night brings nothing new.
        let changed = if (1..3).contains(&night) { choose(&bundles, count) } else { Vec::new() };
        for (file, entry) in &changed {
            change(&mut bundles[*file]["entry"][*entry]["resource"], night);
        }
        let mut updated = 0;
        for (file, bundle) in bundles.iter().enumerate() {
            let answer = service.post_fhir(bundle.to_string(), &format!("night-{night}-{file}")).await.expect(200);
            updated += answer.text.matches("\"code\":\"updated\"").count();
        }
        let stored = world.events().await - events;
        events += stored;
        if night > 0 {
            assert_eq!((stored, updated), (i64::try_from(changed.len()).expect("a count"), changed.len()), "{night}");
        }
    }
}
