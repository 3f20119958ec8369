//! Early warning: a reactor that scores the latest vital signs of every inpatient by NEWS2 and orders alerts.
//!
//! An inpatient is somebody whose encounter is of class IMP, ACUTE or NONAC, and who is present. Each event is looked at as the
//! moment at which it was recorded knew things ([`bedside`]). A reading counts if all of the time at which it can have been
//! measured lies within the day before: of a date, an open period, or a time of writing nobody knows that, and what is older
//! counts no more, so the import of an old record alarms nobody. The latest counts, whenever it is recorded. When the risk has
//! changed, the write door is told, and decides what that means for the alert of the stay.
//!
//! **An alert moves by what is known.** What is about somebody or something else (a focus, another subject), about another time,
//! or not understood (a modifier extension) says nothing. An incomplete set of readings may raise and escalate, since what is
//! missing can only add; it eases or clears nothing, unless an observation was corrected or taken back. A bounded value (`>`)
//! counts where all that it can mean lies in one step of the chart, and only upwards; otherwise it is undecided: it raises
//! nothing, and while it is the latest of its kind nothing is eased. The order says which parts are undecided. A correction to
//! something that is undecided or not understood eases nothing either.
//!
//! Readings that grow old clear nothing by themselves: that nobody has measured is no good news. The end of the stay clears its
//! alert. NEWS2 is not for those under 16, who are left out, nor for pregnant women, whom no code here tells apart: their alerts
//! are for the ward to judge.

mod bedside;

use std::collections::BTreeMap;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use serde_json::json;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::reactor::orders::{self, Order};
use crate::read_model::{ApplyError, Event, ReadModel};
use bedside::{Bedside, Finding};

/// The reactor's name.
pub const NAME: &str = "early_warning";

/// Orders alerts about inpatients.
pub struct EarlyWarning;

#[async_trait]
impl ReadModel for EarlyWarning {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        2
    }

    fn schema_sql(&self) -> &'static str {
        crate::orders_sql!("../early_warning/schema.sql")
    }

    fn gives_orders(&self) -> bool {
        true
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        matches!(aggregate_type, "Patient" | "Encounter" | "Observation")
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], _: &Keyring) -> Result<(), ApplyError> {
        let before = read(tx, events).await?;
        let mut after = before.clone();
        let mut orders = Vec::new();
        for event in events {
            // By what was known before the batch: an old event may be several at one position.
            if before.get(&event.subject).is_some_and(|row| event.position <= row.position) {
                continue;
            }
            let row = after.entry(event.subject).or_default();
            let was = row.bedside.clone();
            let findings = row.bedside.see(event);
            if row.bedside != was {
                row.position = event.position;
            }
            orders.extend(findings.iter().map(|finding| (event, order(event, finding))));
        }
        after.retain(|patient, row| row.position > 0 && before.get(patient) != Some(row));
        write(tx, &after).await?;
        Ok(orders::place(tx, &orders).await?)
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let delete = sqlx::query("delete from bedsides where patient = $1").bind(subject);
        let rows = delete.execute(&mut *tx).await?.rows_affected();
        Ok(rows + orders::forget(tx, subject).await?)
    }
}

#[derive(Clone, Default, PartialEq)]
struct Row {
    /// Zero before the first event that says something. Events come in the order of their positions, so one at or below it
    /// is a repetition.
    position: i64,
    bedside: Bedside,
}

async fn read(tx: &mut PgConnection, events: &[Event]) -> Result<BTreeMap<Uuid, Row>, sqlx::Error> {
    let mut patients: Vec<Uuid> = events.iter().map(|event| event.subject).collect();
    patients.sort_unstable();
    patients.dedup();
    let rows: Vec<(Uuid, i64, Json<Bedside>)> =
        sqlx::query_as("select patient, position, state from bedsides where patient = any($1)")
            .bind(patients)
            .fetch_all(tx)
            .await?;
    Ok(rows.into_iter().map(|(patient, position, Json(bedside))| (patient, Row { position, bedside })).collect())
}

async fn write(tx: &mut PgConnection, rows: &BTreeMap<Uuid, Row>) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into bedsides (patient, position, state) select * from unnest($1::uuid[], $2::bigint[], $3::jsonb[])
         on conflict (patient) do update set position = excluded.position, state = excluded.state",
    )
    .bind(rows.keys().copied().collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.position).collect::<Vec<_>>())
    .bind(rows.values().map(|row| Json(&row.bedside)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

fn order(event: &Event, finding: &Finding) -> Order {
    let Finding { encounter, risk, score, undecided } = finding;
    Order {
        key: format!("{NAME}/{encounter}/{}-{}", event.partition, event.position),
        target: *encounter,
        due_at: None,
        path: format!("/v1/patients/{}/alerts", event.subject),
        body: json!({
            "encounter": encounter, "risk": risk.as_str(), "score": score, "undecided": undecided,
            "assessedAt": event.recorded_at
        }),
    }
}
