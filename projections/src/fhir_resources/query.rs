//! One resource by type and id.

use chrono::{DateTime, Utc};
use nexus_domain::access::{Marks, lenders};
use nexus_domain::fhir::Resource;
use nexus_web::problem::Problem;
use sqlx::FromRow;
use uuid::Uuid;

use super::{NAME, context};
use crate::query_api::{QueryApi, Sealed, database_problem};

/// A row, still sealed.
#[derive(FromRow)]
pub(super) struct Found {
    pub subject: Uuid,
    pub sequence: i64,
    pub recorded_at: DateTime<Utc>,
    retracted: bool,
    sealed: Vec<u8>,
}

const BY_TYPE_AND_ID: &str =
    "select subject, sequence, recorded_at, retracted, sealed from resources where resource_type = $1 and id = $2";

pub(super) async fn find(api: &QueryApi, resource_type: &str, id: Uuid) -> Result<Option<Found>, Problem> {
    sqlx::query_as(BY_TYPE_AND_ID)
        .bind(resource_type)
        .bind(id)
        .fetch_optional(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Opens what was found; nothing if it was taken back or its subject was erased.
pub(super) async fn open(
    api: &QueryApi,
    resource_type: &str,
    id: Uuid,
    found: Found,
) -> Result<Option<Resource>, Problem> {
    if found.retracted {
        return Ok(None);
    }
    let sealed = Sealed { subject: found.subject, context: context(resource_type, id), bytes: found.sealed };
    Ok(api.open(vec![sealed]).await?.pop().flatten())
}

/// By what consents and labels may mean a resource, with what it gets from others. Those are looked at and not shown, so
/// the access log hears of none of them.
pub(super) async fn marks(api: &QueryApi, resource: &Resource) -> Result<Marks, Problem> {
    let mut marks = Marks::of(resource);
    for (kind, id) in lenders(resource) {
        let lender = match find(api, kind, id).await? {
            Some(found) => {
                let sealed = Sealed { subject: found.subject, context: context(kind, id), bytes: found.sealed };
                api.open_of_no_patient::<Resource>(vec![sealed]).await?.pop().flatten()
            }
            None => None,
        };
        marks.lend(lender.map_or_else(Marks::unknown, |lender| Marks::of(&lender)));
    }
    Ok(marks)
}
