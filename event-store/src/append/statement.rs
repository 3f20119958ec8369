//! The one statement of an append: commands turned into arrays, rows turned into outcomes.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::Outcome;
use super::prepare::Prepared;
use crate::position::Receipt;

const APPEND: &str = "select * from append_batch(
    $1, $2, $3, $4::jsonb[], $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
    $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36)";

/// What the function said about one command.
pub(super) enum Answer {
    Settled(Outcome),
    /// A stream that the command leans on lives in this partition, whose head was not locked: ask again with it.
    Unlocked {
        partition: i32,
    },
    /// A subject that it is about was erased.
    Erased {
        subject: Uuid,
    },
}

/// Sends one batch. The answers are in the order of the commands.
pub(super) async fn send(connection: &mut PgConnection, batch: &[&Prepared]) -> Result<Vec<Answer>, sqlx::Error> {
    // All rows are fetched: only after the last one has the server reported that the transaction is committed.
    let rows = bind(&Arrays::of(batch)).fetch_all(connection).await?;
    let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
    for row in &rows {
        let at = usize::try_from(row.try_get::<i32, _>("command")? - 1).unwrap_or(usize::MAX);
        let (Some(slot), Some(command)) = (answers.get_mut(at), batch.get(at)) else {
            return Err(sqlx::Error::Protocol("an outcome of a command that was not sent".into()));
        };
        *slot = Some(read_answer(row, command)?);
    }
    let missing = || sqlx::Error::Protocol("a command without an outcome".into());
    answers.into_iter().map(|answer| answer.ok_or_else(missing)).collect()
}

fn read_answer(row: &PgRow, command: &Prepared) -> Result<Answer, sqlx::Error> {
    let outcome = match row.try_get::<&str, _>("status")? {
        "appended" => Outcome::Appended(read_receipt(row)?),
        "duplicate" => Outcome::Duplicate {
            same_request: row.try_get("same_request")?,
            receipt: read_receipt(row)?,
            response: row.try_get("response")?,
        },
        "conflict" => {
            Outcome::Conflict { aggregate_type: row.try_get("of_type")?, aggregate_id_or_subject: read_id(row)? }
        }
        "taken" => {
            let index = usize::try_from(row.try_get::<i32, _>("element")?).unwrap_or(usize::MAX);
            let take = command.takes.get(index).ok_or_else(|| sqlx::Error::Protocol("an unknown claim".into()))?;
            Outcome::ClaimTaken {
                kind: take.kind.clone(),
                index,
                holder_type: row.try_get("of_type")?,
                holder_id: read_id(row)?,
            }
        }
        "erased" => return Ok(Answer::Erased { subject: read_id(row)? }),
        "unlocked" => return Ok(Answer::Unlocked { partition: row.try_get("element")? }),
        _ => return Err(sqlx::Error::Protocol("an outcome that this version does not know".into())),
    };
    Ok(Answer::Settled(outcome))
}

/// A row with `partitions`, `positions` and `recorded_at` as a receipt.
pub(crate) fn read_receipt(row: &PgRow) -> Result<Receipt, sqlx::Error> {
    let partitions: Vec<i32> = row.try_get("partitions")?;
    let positions: Vec<i64> = row.try_get("positions")?;
    let recorded_at = row.try_get("recorded_at")?;
    Ok(Receipt { positions: partitions.into_iter().zip(positions).collect(), recorded_at })
}

fn read_id(row: &PgRow) -> Result<Uuid, sqlx::Error> {
    let text: &str = row.try_get("of_id")?;
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// The arrays of `append_batch`, named as its parameters are.
#[derive(Default)]
struct Arrays<'a> {
    lock_partitions: Vec<i32>,
    c_key: Vec<Option<&'a [u8]>>,
    c_fingerprint: Vec<&'a [u8]>,
    c_response: Vec<&'a str>,
    c_recorded_at: Vec<DateTime<Utc>>,
    c_traceparent: Vec<Option<&'a str>>,
    s_command: Vec<i32>,
    s_type: Vec<&'a str>,
    s_id: Vec<&'a str>,
    s_sequence: Vec<i64>,
    u_command: Vec<i32>,
    u_type: Vec<&'a str>,
    u_subject: Vec<Uuid>,
    u_position: Vec<i64>,
    t_command: Vec<i32>,
    t_index: Vec<i32>,
    t_claim: Vec<&'a [u8]>,
    t_kind: Vec<&'a str>,
    t_holder_type: Vec<&'a str>,
    t_holder_id: Vec<Uuid>,
    t_partition: Vec<i32>,
    t_moved: Vec<bool>,
    r_command: Vec<i32>,
    r_claim: Vec<&'a [u8]>,
    r_holder_type: Vec<&'a str>,
    r_holder_id: Vec<Uuid>,
    e_command: Vec<i32>,
    e_partition: Vec<i32>,
    e_type: Vec<&'a str>,
    e_id: Vec<&'a str>,
    e_sequence: Vec<i64>,
    e_subject: Vec<Uuid>,
    e_event_type: Vec<&'a str>,
    e_event_version: Vec<&'a str>,
    e_key_id: Vec<Uuid>,
    e_sealed: Vec<&'a [u8]>,
}

impl<'a> Arrays<'a> {
    fn of(batch: &[&'a Prepared]) -> Self {
        let mut arrays = Self::default();
        for (number, command) in (1..).zip(batch) {
            arrays.add_command(command);
            arrays.add_expectations(number, command);
            arrays.add_claims(number, command);
            arrays.add_events(number, command);
        }
        arrays.lock_partitions.sort_unstable();
        arrays.lock_partitions.dedup();
        arrays
    }

    fn add_command(&mut self, command: &'a Prepared) {
        self.lock_partitions.extend(&command.lock);
        self.c_key.push(command.key.as_ref().map(<[u8; 32]>::as_slice));
        self.c_fingerprint.push(&command.fingerprint);
        self.c_response.push(&command.response);
        self.c_recorded_at.push(command.recorded_at);
        self.c_traceparent.push(command.traceparent.as_deref());
    }

    fn add_expectations(&mut self, number: i32, command: &'a Prepared) {
        for (aggregate_type, aggregate_id, sequence) in &command.streams {
            self.s_command.push(number);
            self.s_type.push(aggregate_type);
            self.s_id.push(aggregate_id);
            self.s_sequence.push(*sequence);
        }
        for (aggregate_type, subject, position) in &command.tails {
            self.u_command.push(number);
            self.u_type.push(aggregate_type);
            self.u_subject.push(*subject);
            self.u_position.push(*position);
        }
    }

    fn add_claims(&mut self, number: i32, command: &'a Prepared) {
        for (index, take) in (0..).zip(&command.takes) {
            self.t_command.push(number);
            self.t_index.push(index);
            self.t_claim.push(&take.claim);
            self.t_kind.push(&take.kind);
            self.t_holder_type.push(&take.holder_type);
            self.t_holder_id.push(take.holder_id);
            self.t_partition.push(take.partition);
            self.t_moved.push(take.moved);
        }
        for release in &command.releases {
            self.r_command.push(number);
            self.r_claim.push(&release.claim);
            self.r_holder_type.push(&release.holder_type);
            self.r_holder_id.push(release.holder_id);
        }
    }

    fn add_events(&mut self, number: i32, command: &'a Prepared) {
        for event in &command.events {
            self.e_command.push(number);
            self.e_partition.push(event.partition);
            self.e_type.push(&event.header.aggregate_type);
            self.e_id.push(&event.aggregate_id);
            self.e_sequence.push(event.header.sequence);
            self.e_subject.push(event.header.subject);
            self.e_event_type.push(&event.header.event_type);
            self.e_event_version.push(&event.header.event_version);
            self.e_key_id.push(event.header.key_id);
            self.e_sealed.push(&event.sealed);
        }
    }
}

fn bind<'q>(arrays: &'q Arrays<'_>) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(APPEND)
        .bind(&arrays.lock_partitions)
        .bind(&arrays.c_key)
        .bind(&arrays.c_fingerprint)
        .bind(&arrays.c_response)
        .bind(&arrays.c_recorded_at)
        .bind(&arrays.c_traceparent)
        .bind(&arrays.s_command)
        .bind(&arrays.s_type)
        .bind(&arrays.s_id)
        .bind(&arrays.s_sequence)
        .bind(&arrays.u_command)
        .bind(&arrays.u_type)
        .bind(&arrays.u_subject)
        .bind(&arrays.u_position)
        .bind(&arrays.t_command)
        .bind(&arrays.t_index)
        .bind(&arrays.t_claim)
        .bind(&arrays.t_kind)
        .bind(&arrays.t_holder_type)
        .bind(&arrays.t_holder_id)
        .bind(&arrays.t_partition)
        .bind(&arrays.t_moved)
        .bind(&arrays.r_command)
        .bind(&arrays.r_claim)
        .bind(&arrays.r_holder_type)
        .bind(&arrays.r_holder_id)
        .bind(&arrays.e_command)
        .bind(&arrays.e_partition)
        .bind(&arrays.e_type)
        .bind(&arrays.e_id)
        .bind(&arrays.e_sequence)
        .bind(&arrays.e_subject)
        .bind(&arrays.e_event_type)
        .bind(&arrays.e_event_version)
        .bind(&arrays.e_key_id)
        .bind(&arrays.e_sealed)
}
