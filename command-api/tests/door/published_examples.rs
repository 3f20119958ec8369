//! The examples that HL7 publishes with FHIR R4 (<https://hl7.org/fhir/R4/downloads.html>), all of them
//! together. Every kind of refusal is decided, and counted here.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use crate::world::{World, bundle, errors, post_bundle};

/// What is refused, and how many of each. `docs/what-is-kept.md` explains the rules; what is unresolved refers to examples
/// that HL7 does not publish, or to some that are refused; and one file is no resource.
const REFUSED: &[(&str, usize)] = &[
    ("no-patient", 37),
    ("patient-in-directory", 4),
    ("several-patients", 2),
    ("unresolved-reference", 140),
    ("unsupported-type", 59),
    ("wrong-type", 1),
];
/// How many of the examples are taken.
const TAKEN: usize = 383;

/// One resource a line.
fn examples() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/corpus/hl7-r4-examples.ndjson.gz");
    let file = std::fs::File::open(path).expect("the examples are in the repository");
    let mut lines = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut lines).expect("gzip");
    lines.lines().map(|line| serde_json::from_str(line).expect("a resource")).collect()
}

fn entry(resource: &Value) -> Value {
    json!({"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}})
}

/// The places of the entries that a problem finds fault with, and the first rule that each broke.
fn faulty(problem: &Value) -> BTreeMap<usize, String> {
    let mut found = BTreeMap::new();
    for (pointer, rule) in errors(problem) {
        let index = pointer.split('/').nth(2).and_then(|index| index.parse().ok()).expect("the place of an entry");
        found.entry(index).or_insert(rule);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_refusal_is_decided() {
    let world = World::start().await;
    let service = world.service();
    let mut open = examples();
    let mut counted = BTreeMap::<String, usize>::new();
    // They refer to each other in circles, so they come together; what is refused is left out, and the rest comes again.
    loop {
        let entries: Vec<Value> = open.iter().map(entry).collect();
        let answer = post_bundle(&service, &bundle("transaction", &entries)).await;
        if answer.status == 200 {
            break;
        }
        let faulty = faulty(&answer.json());
        assert!(!faulty.is_empty(), "{}", answer.text);
        for (index, rule) in faulty.into_iter().rev() {
            let resource = open.remove(index);
            if std::env::var_os("NEXUS_TEST_EXAMPLES").is_some() {
                eprintln!("{rule} {} {}", resource["resourceType"], resource["id"]);
            }
            *counted.entry(rule).or_default() += 1;
        }
    }
    let expected = REFUSED.iter().map(|(rule, count)| ((*rule).to_owned(), *count)).collect();
    assert_eq!((counted, open.len()), (expected, TAKEN));
}
