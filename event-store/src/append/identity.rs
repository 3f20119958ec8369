//! Is this the store we knew? A store restored from a backup, or failed over to a replica that was behind, has lost
//! its newest events. It must not give their positions away again while Kafka still has them.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgConnection;

use crate::error::Error;
use crate::kafka::{self, KafkaArgs};

/// How long Kafka may say nothing while it is asked where its partitions end.
const TAILS_PATIENCE: Duration = Duration::from_secs(5);

/// What was last compared with Kafka, and how far this process itself has seen each partition go.
#[derive(Default)]
pub(super) struct Known {
    identity: Option<String>,
    heads: HashMap<i32, i64>,
}

/// Whether positions may be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the store compared before.
    Same,
    /// It may be another one than before, and has all that Kafka has.
    Level,
    KafkaIsAhead,
}

impl Known {
    /// Remembers a position that the store reported as committed.
    pub(super) fn saw(&mut self, positions: &[(i32, i64)]) {
        for (partition, position) in positions {
            let head = self.heads.entry(*partition).or_default();
            *head = (*head).max(*position);
        }
    }

    /// Compares the store behind a new connection with Kafka, unless it is plainly the one compared before: the same
    /// system and timeline, and no head behind what this process has seen (a copied-back data folder keeps both).
    pub(super) async fn compare(
        &mut self,
        connection: &mut PgConnection,
        kafka: &KafkaArgs,
        topic: &str,
    ) -> Result<Verdict, Error> {
        let identity = read_identity(connection).await?;
        let heads = read_heads(connection).await?;
        let went_back = heads.iter().any(|(partition, head)| self.heads.get(partition).is_some_and(|seen| seen > head));
        if self.identity.as_ref() == Some(&identity) && !went_back {
            return Ok(Verdict::Same);
        }
        self.identity = None;
        let partitions = i32::try_from(heads.len()).unwrap_or(i32::MAX);
        // Tails first, heads after: whatever others append and publish meanwhile, a healthy store is never behind.
        let tails = kafka::tail_positions(kafka, topic, partitions, TAILS_PATIENCE).await?;
        let heads = read_heads(connection).await?;
        for (partition, head) in &heads {
            let tail = usize::try_from(*partition).ok().and_then(|at| tails.get(at).copied().flatten()).unwrap_or(0);
            if tail > *head {
                tracing::error!(
                    partition,
                    head,
                    tail,
                    "Kafka holds events that the store has lost; appends wait for them"
                );
                return Ok(Verdict::KafkaIsAhead);
            }
        }
        self.heads = heads.into_iter().collect();
        self.identity = Some(identity);
        Ok(Verdict::Level)
    }
}

/// The control file's timeline is that of the last checkpoint; the name of the WAL file in use is never behind.
async fn read_identity(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(
        "select system_identifier::text || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
         from pg_control_system()",
    )
    .fetch_one(connection)
    .await
}

async fn read_heads(connection: &mut PgConnection) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    sqlx::query_as("select partition, position from heads order by partition").fetch_all(connection).await
}
