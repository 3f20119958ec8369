//! Read models compared row for row: with another fold of the same log, and with another installation.

use std::sync::Arc;

use nexus_event_store::{Keyring, LogReader, MasterKey};
use nexus_projections::engine::{
    Engine, EngineConfig, GroupProtocol, Hashes, Limits, migrate, row_hashes, row_hashes_with,
};
use nexus_projections::{ReadModel, read_models, schema_of};
use sqlx::PgPool;

use crate::stack::Stack;

/// The database that the log is folded into once more.
const AGAIN: &str = "nexus_read_again";

/// Where two installations differ although the same was sent to both, and what is compared there instead.
const INSTEAD: [(&str, &str, &str); 12] = [
    // When this installation's log took the event.
    ("patient_directory_v2.patients", "recorded_at", "null"),
    ("fhir_resources_v1.resources", "recorded_at", "null"),
    ("timeline_v5.entries", "recorded_at", "null"),
    // The same time again, for what has no clinical time of its own.
    ("timeline_v5.entries", "occurred_at", "nullif(occurred_at, recorded_at)"),
    ("timeline_v5.changes", "recorded_at", "null"),
    ("timeline_v5.changes", "occurred_at", "nullif(occurred_at, recorded_at)"),
    // Where this log's events stand among those of other patients.
    ("timeline_v5.changes", "position", "null"),
    ("early_warning_v2.bedsides", "position", "null"),
    // Hashes under a secret that each installation makes for itself; of a patient's there are as many.
    ("patient_directory_v2.patients", "keys", "cardinality(keys)"),
    ("population_v3.members", "member", "null"),
    ("population_v3.member_conditions", "member", "null"),
    ("population_v3.member_conditions", "condition", "null"),
];

/// What can be compared between installations. No read model is empty, so that there is something to compare.
pub async fn of_any_installation(stack: &Stack) -> Hashes {
    let rows = hashes(&stack.database("nexus_read").await, &INSTEAD).await;
    // Synthea makes no appointments and no consents, and breaks no glass. Whoever was ill in its past alarms nobody.
    let without = [
        "appointment_follow_up_v2.",
        "ward_alerts_v2.alerts",
        "appointments_v2.",
        "access_grants_v2.consents",
        "access_grants_v2.emergencies",
        "population_v3.member_exclusions",
    ];
    let expected = |table: &str| !without.iter().any(|prefix| table.starts_with(prefix));
    let empty = rows.iter().filter(|(table, (count, _))| *count == 0 && expected(table));
    assert_eq!(empty.count(), 0, "a read model is empty: {rows:?}");
    rows
}

/// Folds the stack's log from position 1 on into a fresh database, in peace and with the stack's own keys. Then nothing
/// may differ: no time, no keyed hash.
pub async fn are_those_of_an_undisturbed_fold(stack: &Stack) {
    let served = hashes(&stack.database("nexus_read").await, &[]).await;
    sqlx::query(&format!("create database {AGAIN}")).execute(&stack.database("postgres").await).await.unwrap();
    let again = stack.database(AGAIN).await;
    migrate(&again).await.unwrap();
    let engine = Engine::start(&config(stack, &again).await, read_models());
    stack.wait_until_level(&again).await;
    engine.stop().await;
    assert_same(&hashes(&again, &[]).await, &served);
}

pub async fn config(stack: &Stack, read: &PgPool) -> EngineConfig {
    let master = MasterKey::from_file(stack.folder.join("secrets/master.key")).unwrap();
    EngineConfig {
        kafka: stack.kafka(),
        topic: "nexus.events.v1".to_owned(),
        group_prefix: "again.".to_owned(),
        group_protocol: GroupProtocol::default(),
        group_instance: None,
        read_database: Arc::unwrap_or_clone(read.connect_options()),
        log: LogReader::new(stack.database("nexus_log").await),
        keyring: Keyring::connect(stack.database("nexus_keys").await, master).await.unwrap(),
        owner: "end-to-end".to_owned(),
        limits: Limits::default(),
    }
}

/// The rows of one read model.
pub async fn of_one(read: &PgPool, model: &dyn ReadModel) -> Hashes {
    row_hashes(read, &schema_of(model.name(), model.version())).await.unwrap()
}

async fn hashes(read: &PgPool, instead: &[(&str, &str, &'static str)]) -> Hashes {
    let mut all = Hashes::new();
    let mut met = 0;
    for model in read_models() {
        let schema = schema_of(model.name(), model.version());
        let place = |table: &str, column: &str| {
            let found = instead.iter().find(|it| (it.0, it.1) == (format!("{schema}.{table}").as_str(), column));
            met += usize::from(found.is_some());
            found.map(|(_, _, expression)| *expression)
        };
        let tables = row_hashes_with(read, &schema, place).await.unwrap();
        all.extend(tables.into_iter().map(|(table, rows)| (format!("{schema}.{table}"), rows)));
    }
    assert_eq!(met, instead.len(), "a column of the list is not there any more");
    all
}

pub fn assert_same(expected: &Hashes, found: &Hashes) {
    let differing: Vec<_> = expected.iter().filter(|(table, rows)| found.get(*table) != Some(rows)).collect();
    assert!(differing.is_empty() && expected.len() == found.len(), "{differing:?} became {found:?}");
}
