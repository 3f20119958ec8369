//! Where a patient could still be, store by store.

use std::time::Duration;

use anyhow::Result;
use nexus_event_store::kafka::KafkaArgs;
use nexus_event_store::{ERASED, KeyError, Keyring, SealedEvent, envelope, event_id, kafka as topic};
use nexus_projections::population::{condition_of, member_of};
use sqlx::PgPool;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::verify_erasure::Check;

/// How long Kafka may say nothing.
const KAFKA_PATIENCE: Duration = Duration::from_secs(30);
/// How many records may wait to be looked at.
const RECORDS_WAITING_MAX: usize = 256;
/// What an erasure leaves behind on purpose: how much was dropped, by id.
const KEPT_TABLE: &str = "projection.forgotten";

/// An erased subject and everything that was about it, by id.
pub struct Erased {
    pub subject: Uuid,
    pub event_id: Uuid,
    pub partition: i32,
    pub position: i64,
    /// Aggregates of the subject, itself among them.
    pub ids: Vec<Uuid>,
}

impl Erased {
    /// What the log says of it, if it erased the subject.
    pub async fn find(log: &PgPool, subject: Uuid) -> Result<Option<Self>> {
        let found: Option<(i32, i64, String, String, i64)> = sqlx::query_as(
            "select partition, position, aggregate_type, aggregate_id, sequence from events
             where subject = $1 and event_type = $2",
        )
        .bind(subject)
        .bind(ERASED)
        .fetch_optional(log)
        .await?;
        let Some((partition, position, aggregate_type, aggregate_id, sequence)) = found else { return Ok(None) };
        let ids = sqlx::query_scalar("select distinct aggregate_id::uuid from events where subject = $1")
            .bind(subject)
            .fetch_all(log)
            .await?;
        let event_id = event_id(&aggregate_type, aggregate_id.parse()?, sequence);
        Ok(Some(Self { subject, event_id, partition, position, ids }))
    }

    fn texts(&self) -> Vec<String> {
        self.ids.iter().map(Uuid::to_string).collect()
    }
}

/// Nothing follows the event, and nothing stands beside the events.
pub async fn log(log: &PgPool, erased: &Erased) -> Result<Vec<Check>> {
    let count = |statement: &'static str| sqlx::query_scalar::<_, i64>(statement);
    let after = count("select count(*) from events where subject = $1 and position > $2")
        .bind(erased.subject)
        .bind(erased.position)
        .fetch_one(log)
        .await?;
    let snapshots = count("select count(*) from snapshots where aggregate_id = any ($1)")
        .bind(erased.texts())
        .fetch_one(log)
        .await?;
    let claims =
        count("select count(*) from claims where holder_id = any ($1)").bind(&erased.ids).fetch_one(log).await?;
    Ok(vec![
        none("nexus_log", "no event of the patient follows the one that erases it", after),
        none("nexus_log", "no snapshot is kept", snapshots),
        none("nexus_log", "no claim is held", claims),
    ])
}

/// The keys are destroyed, and what is written down of that is as it was written, and about this event.
pub async fn keys(keys: &PgPool, keyring: &Keyring, erased: &Erased) -> Result<Vec<Check>> {
    let (rows, left): (i64, i64) = sqlx::query_as(
        "select count(*), count(*) filter (where state <> 'erased' or wrapped is not null)
         from subject_keys where subject = $1",
    )
    .bind(erased.subject)
    .fetch_one(keys)
    .await?;
    let refusal = keyring.key(erased.subject).await.err();
    let recorded = keyring.erasure(erased.subject).await?;
    let agrees = recorded.as_ref().is_some_and(|(record, as_written)| {
        *as_written
            && (record.event_id, record.partition, record.position)
                == (erased.event_id, erased.partition, erased.position)
    });
    let fingerprints = recorded.map_or(0, |(record, _)| record.fingerprints.len());
    let check = |what: &str, ok, found| Check { store: "nexus_keys", what: what.to_owned(), ok, found };
    Ok(vec![
        check("every key is destroyed", rows > 0 && left == 0, format!("{left} left of {rows}")),
        check("nobody is given a key", refusal == Some(KeyError::Erased), format!("{refusal:?}")),
        check("the erasure is recorded and unchanged", agrees, format!("{fingerprints} fingerprints")),
    ])
}

/// No row of any table has the id of the patient, of anything about them, or a hash that they went by.
pub async fn read_models(read: &PgPool, keyring: &Keyring, erased: &Erased) -> Result<Vec<Check>> {
    let mut hashes: Vec<Vec<u8>> = erased.ids.iter().map(|id| condition_of(keyring, *id)).collect();
    hashes.push(member_of(keyring, erased.subject));
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "select format('%I.%I', table_schema, table_name), format('%I', column_name), udt_name::text
         from information_schema.columns join information_schema.tables using (table_schema, table_name)
         where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')
         and udt_name in ('uuid', '_uuid', 'text', 'bytea') order by 1, 2",
    )
    .fetch_all(read)
    .await?;
    let (mut found, mut searched) = (Vec::new(), 0);
    for (table, column, kind) in columns.iter().filter(|(table, ..)| table != KEPT_TABLE) {
        let condition = match kind.as_str() {
            "uuid" => format!("{column} = any ($1)"),
            "_uuid" => format!("{column} && $1"),
            "text" => format!("{column} = any ($2)"),
            _ => format!("{column} = any ($3)"),
        };
        let unused = "and ($1::uuid[] is null or $2::text[] is null or $3::bytea[] is null) is not null";
        let rows: i64 = sqlx::query_scalar(&format!("select count(*) from {table} where {condition} {unused}"))
            .bind(&erased.ids)
            .bind(erased.texts())
            .bind(&hashes)
            .fetch_one(read)
            .await?;
        searched += 1;
        if rows > 0 {
            found.push(format!("{rows} in {table}.{column}"));
        }
    }
    let what = "no row of a read model, parked events included, is about the patient".to_owned();
    let ok = found.is_empty() && searched > 0;
    let found = if ok { format!("{searched} columns searched") } else { found.join(", ") };
    Ok(vec![Check { store: "nexus_read", what, ok, found }])
}

/// Kafka keeps its records. None of the patient's can be opened, and none follows the one that erases.
pub async fn kafka(kafka: impl Into<KafkaArgs>, topic_name: &str, keyring: &Keyring, erased: &Erased) -> Result<Check> {
    let (events, mut records) = mpsc::channel::<SealedEvent>(RECORDS_WAITING_MAX);
    let reading = topic::read_partition(kafka, topic_name, erased.partition, 0, KAFKA_PATIENCE, events);
    let key = keyring.key(erased.subject).await.ok();
    let looking = async {
        let (mut seen, mut wrong) = (0, 0);
        while let Some(record) = records.recv().await {
            if record.header.subject == erased.subject {
                let opens = key.as_ref().is_some_and(|key| envelope::open_event(key, &record).is_ok());
                seen += 1;
                wrong += usize::from(opens || record.position > erased.position);
            }
        }
        (seen, wrong)
    };
    let (read, (seen, wrong)) = tokio::join!(reading, looking);
    read?;
    let what = "no record of the patient can be opened, and none follows the event that erases".to_owned();
    Ok(Check { store: "kafka", what, ok: wrong == 0, found: format!("{wrong} of {seen}") })
}

/// The receipt is signed by this installation and speaks of this erasure.
pub fn receipt(keyring: &Keyring, erased: &Erased, jws: &str) -> Check {
    let said = keyring.verify_receipt(jws);
    let ok = said.as_ref().is_some_and(|said| {
        said["subject"] == erased.subject.to_string()
            && said["eventId"] == erased.event_id.to_string()
            && said["position"] == erased.position
            && said["complete"] == true
    });
    let found = if said.is_some() { "the signature holds" } else { "the signature does not hold" };
    Check {
        store: "receipt",
        what: "it is ours, complete, and about this erasure".to_owned(),
        ok,
        found: found.to_owned(),
    }
}

fn none(store: &'static str, what: &str, found: i64) -> Check {
    Check { store, what: what.to_owned(), ok: found == 0, found: found.to_string() }
}

#[cfg(test)]
#[path = "erasure_checks_tests.rs"]
mod tests;
