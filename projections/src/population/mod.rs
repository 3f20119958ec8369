//! How many patients have which condition, and how old they are. There is no identity in it: members go by a keyed hash,
//! and counts that are too small to hide in are not told.

mod apply;
mod query;
mod routes;
mod suppress;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub use routes::router;

/// The read model's name.
pub const NAME: &str = "population";

/// Patients to be counted.
pub struct Population;

#[async_trait]
impl ReadModel for Population {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        3
    }

    fn published(&self) -> &'static [&'static str] {
        &["patients_by_age_band", "patients_by_condition", "patients_by_condition_and_age_band"]
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        matches!(aggregate_type, "Patient" | "Condition" | "Consent")
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    /// Members without a name are removed too: what was erased is not counted any more.
    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, keyring: &Keyring) -> Result<u64, ApplyError> {
        let member = member_of(keyring, subject);
        let mut forgotten = 0;
        for table in ["member_conditions", "member_exclusions", "members"] {
            let delete = format!("delete from {table} where member = $1");
            forgotten += sqlx::query(&delete).bind(&member).execute(&mut *tx).await?.rows_affected();
        }
        Ok(forgotten)
    }
}

/// The hash that a patient goes by.
pub fn member_of(keyring: &Keyring, patient: Uuid) -> Vec<u8> {
    pseudonym(keyring, "member", patient)
}

/// The hash that a condition goes by.
pub fn condition_of(keyring: &Keyring, condition: Uuid) -> Vec<u8> {
    pseudonym(keyring, "condition", condition)
}

/// An id that leads back to nobody without the key: 128 bits of a keyed hash.
fn pseudonym(keyring: &Keyring, kind: &str, id: Uuid) -> Vec<u8> {
    const BYTES: usize = 16;
    keyring.blind(&format!("population/{kind}"), &id.to_string())[..BYTES].to_vec()
}
