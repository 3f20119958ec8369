//! The examples that HL7 publishes with FHIR R4 (<https://hl7.org/fhir/R4/downloads.html>), brought in as an import brings
//! them in: what is refused for being too early is sent again. Every kind of refusal is decided, and counted here.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, bundle, post_bundle};

/// What is refused in the end, and how many of each. The rules are explained in `docs/what-is-kept.md`.
const REFUSED: &[(&str, usize)] = &[];
/// How many of the examples are taken.
const TAKEN: usize = 0;

const BLOCK: usize = 512;

/// The JSON resources of a gzipped tar archive.
fn examples() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/corpus/hl7-r4-examples.tar.gz");
    let file = std::fs::File::open(path).expect("the examples are in the repository");
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut tar).expect("an archive");
    let (mut found, mut at) = (Vec::new(), 0);
    while tar.get(at..at + BLOCK).is_some_and(|header| header[0] != 0) {
        let header = &tar[at..at + BLOCK];
        let digits: String =
            header[124..135].iter().map(|byte| char::from(*byte)).filter(char::is_ascii_digit).collect();
        let size = usize::from_str_radix(&digits, 8).expect("a size");
        let resource = serde_json::from_slice::<Value>(&tar[at + BLOCK..at + BLOCK + size]);
        found.extend(resource.ok().filter(|resource| resource.get("resourceType").is_some()));
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
    found
}

fn entry(resource: &Value) -> Value {
    json!({"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}})
}

/// The rule that an entry broke, if it was refused.
fn rule(response: &Value) -> Option<String> {
    let issue = response["response"].get("outcome")?["issue"].get(0)?;
    issue["details"]["coding"][0]["code"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_refusal_is_decided() {
    let world = World::start().await;
    let service = world.service();
    let all = examples();
    // Patients before what is theirs; ids of the same type twice are one source's versions of one thing.
    let (mut open, others): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|resource| resource["resourceType"] == "Patient");
    open.extend(others);
    let (mut taken, mut refused) = (0, Vec::new());
    loop {
        let entries: Vec<Value> = open.iter().map(entry).collect();
        let answer =
            service.post_fhir(bundle("batch", &entries).to_string(), &Uuid::new_v4().to_string()).await.expect(200);
        let responses = answer.json()["entry"].as_array().cloned().unwrap();
        let before = open.len();
        refused.clear();
        let mut left = Vec::new();
        for (resource, response) in open.into_iter().zip(responses) {
            match rule(&response) {
                None => taken += 1,
                Some(rule) => {
                    refused.push((rule, format!("{}/{}", resource["resourceType"], resource["id"]), response));
                    left.push(resource);
                }
            }
        }
        open = left;
        if open.len() == before {
            break;
        }
    }
    let mut counted = BTreeMap::new();
    for (rule, name, response) in &refused {
        if std::env::var_os("NEXUS_TEST_EXAMPLES").is_some() {
            eprintln!("{rule} {name} {}", response["response"]["outcome"]["issue"][0]["expression"]);
        }
        *counted.entry(rule.as_str()).or_insert(0_usize) += 1;
    }
    assert_eq!((counted.into_iter().collect::<Vec<_>>(), taken), (REFUSED.to_vec(), TAKEN));
}
