//! Series of measured values by code and time: vital signs, components included.
//!
//! What is not laboratory, imaging and the like: observations of the category `vital-signs`, and those without any
//! category, since a bedside device may not bother.
//!
//! - **Whose**: the patient's own. What has a focus, another subject, or a modifier extension is in no series; it is read as the
//!   resource it is, and stands in the timeline.
//! - **When**: as it was stated, with its precision, in the order of the first moment that it can mean. What states no time has
//!   none, and stands behind everything else.
//! - **How much**: the number in the letters that came, with its comparator. A unit is UCUM only where it says so; units in
//!   words and in other systems are shown as such. What is no number is shown as the FHIR element that it is.
//!
//! Texts may name somebody, so they are sealed; numbers, codes and times are not.

mod apply;
mod query;
mod routes;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub use routes::router;

/// The read model's name.
pub const NAME: &str = "vital_signs";

/// Measured values by patient, code and time.
pub struct VitalSigns;

#[async_trait]
impl ReadModel for VitalSigns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        4
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        matches!(aggregate_type, "Patient" | "Observation")
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let mut rows = 0;
        for table in ["measurements", "observations", "patients"] {
            let delete = format!("delete from {table} where patient = $1");
            rows += sqlx::query(&delete).bind(subject).execute(&mut *tx).await?.rows_affected();
        }
        Ok(rows)
    }
}

/// What the seal of a row is bound to.
fn context(observation: Uuid, component: i16, coding: i16) -> String {
    format!("vital_signs/measurements/{observation}/{component}/{coding}")
}

/// What is sealed of a row.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Private {
    /// The unit in words.
    unit_text: Option<String>,
    /// System and code of a unit that is not coded in UCUM.
    unit_coding: Option<UnitCoding>,
    /// What is no number: the FHIR element, unless it is too large for a list.
    result: Option<Value>,
}

/// A unit of another system than UCUM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UnitCoding {
    #[schema(example = "http://snomed.info/sct")]
    pub system: Option<String>,
    #[schema(example = "258682000")]
    pub code: String,
}
