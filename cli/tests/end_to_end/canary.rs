//! A patient whose every word is marked is sent through everything; then all files are searched for the marks.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::stack::Stack;

/// Words that nothing else contains: family and given name, record number, street, telephone, free text, a search.
const MARKS: [&str; 7] =
    ["Quixwhelk", "Zanthippina", "MRN-QX-4711-9", "Fjordblick Passage", "+49-555-0199-42", "Whelkitis", "Quixwhelc"];

pub async fn nothing_of_a_patient_is_found(stack: &Stack) {
    leave_marks(stack).await;
    stack.wait_until_read_models_are_level().await;
    flush_write_ahead_log(stack).await;
    let files = files_below(&stack.folder);
    assert!(files.iter().any(|path| path.to_string_lossy().contains("pg_wal")), "the write-ahead log is searched");
    assert!(files.iter().any(|path| path.to_string_lossy().contains("nexus.events.v1-")), "the topic is searched");
    for path in files {
        // Files come and go while the servers run.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        assert_unmarked(&bytes, &path.display().to_string());
    }
    for port in 0..5 {
        let url = format!("https://127.0.0.1:{}/metrics", stack.port_base + port);
        let metrics = stack.client(Some("admin")).get(&url).send().await.unwrap();
        assert!(metrics.status().is_success(), "{url}");
        assert_unmarked(&metrics.bytes().await.unwrap(), &url);
    }
}

/// A registration, an observation with free text, a search, and requests that are refused with marks in every place.
async fn leave_marks(stack: &Stack) {
    let (registrar, physician) = (stack.token("registrar"), stack.token("physician"));
    let (write, read) = (stack.write_door(), stack.read_door());
    let body = json!({
        "identifiers": [{"system": "http://hospital.example/mrn", "value": MARKS[2], "type": "MR"}],
        "names": [{"family": MARKS[0], "given": [MARKS[1]]}],
        "birthDate": "1971-03-04",
        "gender": "female",
        "addresses": [{"line": [MARKS[3]], "city": "Bergen"}],
        "telecoms": [{"system": "phone", "value": MARKS[4]}]
    });
    let post = |path: String, token: &str, body: &Value| {
        stack.http.post(format!("{write}{path}")).bearer_auth(token).json(body).send()
    };
    let registered = post("/v1/patients".to_owned(), &registrar, &body).await.unwrap();
    assert_eq!(registered.status(), 201);
    let position = registered.headers()["nexus-position"].clone();
    let registered: Value = registered.json().await.unwrap();
    let id = registered["id"].as_str().unwrap();

    // The demo physician works for this hospital of the sample; an encounter there makes the patient theirs to treat.
    let encounter = json!({
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "organization": "d0894f6b-78d7-338d-82ad-b63de4d40014"
    });
    let started = post(format!("/v1/patients/{id}/encounters"), &physician, &encounter).await.unwrap();
    assert_eq!(started.status(), 201, "{}", started.text().await.unwrap());
    let condition = json!({"code": {"system": "http://snomed.info/sct", "code": "38341003", "display": MARKS[5]}});
    let recorded = post(format!("/v1/patients/{id}/conditions"), &physician, &condition).await.unwrap();
    assert_eq!(recorded.status(), 201, "{}", recorded.text().await.unwrap());

    let search = stack.http.get(format!("{read}/v1/patients")).query(&[("name", MARKS[6])]);
    let found = search.bearer_auth(&registrar).header("Nexus-Position", position).send().await.unwrap();
    assert_eq!(found.status(), 200);
    let found: Value = found.json().await.unwrap();
    assert_eq!(found["items"][0]["id"].as_str(), Some(id), "a name with a typo finds the patient");

    assert_eq!(post("/v1/patients".to_owned(), &registrar, &body).await.unwrap().status(), 409);
    let nonsense = json!({MARKS[0]: MARKS[1], "name": MARKS[2], "birthDate": MARKS[3]});
    let refused = post("/v1/patients".to_owned(), &registrar, &nonsense).await.unwrap();
    assert!(refused.status().is_client_error());
    assert_unmarked(&refused.bytes().await.unwrap(), "a problem");
    let lost = post(format!("/v1/{}", MARKS[0]), &registrar, &json!({})).await.unwrap();
    assert_eq!(lost.status(), 404);
    let forged = post("/v1/patients".to_owned(), MARKS[0], &body).await.unwrap();
    assert_eq!(forged.status(), 401);
}

pub async fn flush_write_ahead_log(stack: &Stack) {
    let log = stack.database("nexus_log").await;
    sqlx::query("checkpoint").execute(&log).await.unwrap();
}

fn assert_unmarked(bytes: &[u8], place: &str) {
    for mark in MARKS {
        let found = contains(bytes, mark.as_bytes()) || contains(bytes, mark.to_lowercase().as_bytes());
        assert!(!found, "`{mark}` is found in {place}");
    }
}

pub fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::find(bytes, mark).is_some()
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() && !path.is_symlink() { files_below(&path) } else { vec![path] }).collect()
}
