//! Patients are erased while others are worked on: nothing of them is found anywhere, nobody else changes, and an old backup
//! of the key store does not bring them back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use futures::TryStreamExt;
use serde_json::{Value, json};
use sqlx::{Executor as _, PgPool};

use crate::canary::{contains, files_below, flush_write_ahead_log};
use crate::sent::Sent;
use crate::stack::Stack;
use crate::{DEADLINE, rows};

/// Observations that the load has to get in meanwhile.
const LOAD_AT_LEAST: usize = 100;
/// How many record observations at a time.
const NURSES: usize = 4;
/// Shorter texts of an identity may be anywhere by chance.
const NEEDLE_BYTES_MIN: usize = 9;
const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

/// Erases `gone` while `worked_on` is worked on.
pub async fn leaves_nothing_and_nobody_else_notices(stack: &Stack, sent: &Sent, gone: &[&str], worked_on: &str) {
    let needles = needles(sent, gone);
    assert!(needles.len() >= 3 * gone.len(), "too little to search for: {}", needles.len());
    stack.take_into_care(&[worked_on]).await;
    stack.wait_until_read_models_are_level().await;
    let (read, keys) = (stack.database("nexus_read").await, stack.database("nexus_keys").await);
    keys.execute("create table backup as select * from subject_keys").await.unwrap();
    let ids: HashSet<String> = gone.iter().flat_map(|id| ids_about(sent, id)).chain([worked_on.to_owned()]).collect();
    let before = untouched_rows(&read, &ids).await;

    let (stop, observed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let nurses = (0..NURSES).map(|_| work_on(stack, worked_on, &stop, &observed));
    let load = futures::future::join_all(nurses);
    let erasing = async {
        for id in gone {
            erase(stack, id).await;
        }
        let started = Instant::now();
        while observed.load(Ordering::Relaxed) < LOAD_AT_LEAST {
            assert!(started.elapsed() < DEADLINE, "the load does not get in");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (_, ()) = tokio::join!(load, erasing);
    stack.wait_until_read_models_are_level().await;

    assert_eq!(before, untouched_rows(&read, &ids).await, "others stay row for row");
    for id in gone {
        let answer = get(stack, "nurse", &format!("/v1/patients/{id}/chart")).await;
        // As of an id that nobody has: nobody treats them.
        assert_eq!(answer.status(), 403);
        verify(stack, id).await;
    }
    nothing_is_found(stack, &needles).await;
    rows::are_those_of_an_undisturbed_fold(stack).await;

    // Keys that were made since the backup stay: the access log takes another each minute, and what it seals with one that is
    // lost is lost for good. That is not what is tried here.
    let restore = "set session_replication_role = replica; delete from erasures;
        delete from subject_keys where subject in (select subject from backup);
        insert into subject_keys select * from backup; drop table backup; set session_replication_role = default";
    keys.execute(restore).await.unwrap();
    let pids = stack.pids().await;
    stack.kill("command-api", pids["command-api"]).await;
    stack.pids().await;
    for id in gone {
        verify(stack, id).await;
    }
}

/// Everything that was sent about a patient.
fn ids_about(sent: &Sent, patient: &str) -> Vec<String> {
    sent.of_patient(patient).iter().map(|resource| resource["id"].as_str().unwrap().to_owned()).collect()
}

/// Texts by which somebody could be known, and nobody else of the sample: identifiers, telephone, street.
fn needles(sent: &Sent, gone: &[&str]) -> BTreeSet<String> {
    let of = |id: &str| sent.patient(id);
    let texts = |patient: &Value| -> HashSet<String> {
        let part = |list: &str, name: &str| -> Vec<String> {
            let items = patient[list].as_array().into_iter().flatten();
            items.filter_map(|item| Some(item[name].as_str()?.to_owned())).collect()
        };
        let lines = patient["address"].as_array().into_iter().flatten().flat_map(|it| it["line"].as_array()).flatten();
        let lines = lines.filter_map(|line| Some(line.as_str()?.to_owned()));
        part("identifier", "value").into_iter().chain(part("telecom", "value")).chain(lines).collect()
    };
    let others: HashSet<String> =
        sent.patients().iter().filter(|id| !gone.contains(id)).flat_map(|id| texts(of(id))).collect();
    let found = gone.iter().flat_map(|id| texts(of(id)));
    // The id itself stays: it is opaque, and the receipt needs it.
    found
        .filter(|text| text.len() >= NEEDLE_BYTES_MIN && !others.contains(text) && !gone.contains(&text.as_str()))
        .collect()
}

async fn erase(stack: &Stack, id: &str) {
    let why = json!({"reason": "The patient asks for it."});
    let asked = post(stack, "registrar", &format!("/v1/patients/{id}/erasure"), &why).await;
    assert_eq!(asked.status(), 200, "{}", asked.text().await.unwrap());
    let approved = post(stack, "auditor", &format!("/v1/patients/{id}/erasure/approve"), &json!({})).await;
    assert_eq!(approved.status(), 200, "{}", approved.text().await.unwrap());
}

/// Waits for the complete receipt and has it checked against every store.
async fn verify(stack: &Stack, id: &str) {
    let started = Instant::now();
    let body: Value = loop {
        let body: Value = get(stack, "auditor", &format!("/v1/patients/{id}/erasure")).await.json().await.unwrap();
        if body["state"] == "erased" {
            break body;
        }
        assert!(started.elapsed() < DEADLINE, "not erased everywhere: {body}");
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), body["jws"].as_str().unwrap()).unwrap();
    let printed = stack.nexus(&["keys", "verify-erasure", id, "--receipt", file.path().to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["erased"], true, "{report}");
}

/// Records observations of a patient until told to stop.
async fn work_on(stack: &Stack, patient: &str, stop: &AtomicBool, observed: &AtomicUsize) {
    let token = stack.token("nurse");
    let url = format!("{}/v1/patients/{patient}/observations", stack.write_door());
    let body = json!({"code": {"system": "http://loinc.org", "code": "8867-4"},
        "value": {"value": 71, "unit": "beats/minute", "code": "/min"}});
    while !stop.load(Ordering::Relaxed) {
        let answer = stack.send(stack.http.post(&url).bearer_auth(&token).json(&body)).await;
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        observed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A hash of every row, sealed bytes included, that has none of these ids; by table. The statistics of the population and the
/// access log go on while others work.
async fn untouched_rows(read: &PgPool, ids: &HashSet<String>) -> BTreeMap<String, BTreeSet<u64>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname ~ '_v[0-9]+$' and schemaname !~ '^(population|access_log)_v'",
    )
    .fetch_all(read)
    .await
    .unwrap();
    let is_about = |row: &str| row.split(|c: char| !c.is_ascii_hexdigit() && c != '-').any(|word| ids.contains(word));
    let mut all = BTreeMap::new();
    for table in tables {
        let statement = format!("select to_jsonb(t)::text from {table} t");
        let mut rows = sqlx::query_scalar::<_, String>(&statement).fetch(read);
        let mut kept = BTreeSet::new();
        while let Some(row) = rows.try_next().await.unwrap() {
            if !is_about(&row) {
                let mut hasher = DefaultHasher::new();
                row.hash(&mut hasher);
                kept.insert(hasher.finish());
            }
        }
        all.insert(table, kept);
    }
    assert!(all.values().filter(|rows| !rows.is_empty()).count() >= 8, "there are rows to compare");
    all
}

/// No file of Postgres, Kafka or a log has a text of them. The write-ahead log is cut off and begun anew first.
async fn nothing_is_found(stack: &Stack, needles: &BTreeSet<String>) {
    let log = stack.database("nexus_log").await;
    log.execute("select pg_switch_wal()").await.unwrap();
    flush_write_ahead_log(stack).await;
    let files = files_below(&stack.folder);
    for place in ["pg_wal", "nexus.events.v1-", "logs"] {
        assert!(files.iter().any(|path| path.to_string_lossy().contains(place)), "{place} is searched");
    }
    for path in files {
        // Files come and go while the servers run.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        for needle in needles {
            assert!(!contains(&bytes, needle.as_bytes()), "a text of an erased patient is in {}", path.display());
        }
    }
}

async fn get(stack: &Stack, role: &str, path: &str) -> reqwest::Response {
    let url = format!("{}{path}", stack.read_door());
    stack.http.get(url).bearer_auth(stack.token(role)).send().await.unwrap()
}

async fn post(stack: &Stack, role: &str, path: &str, body: &Value) -> reqwest::Response {
    let url = format!("{}{path}", stack.write_door());
    stack.http.post(url).bearer_auth(stack.token(role)).json(body).send().await.unwrap()
}
