//! What decides about one caller and one patient, in one round trip.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use nexus_auth::Caller;
use nexus_auth::policy::Relation;
use nexus_domain::access::ConsentRule;
use nexus_web::problem::Problem;
use sqlx::FromRow;
use uuid::Uuid;

use super::{NAME, consent_context};
use crate::query_api::{QueryApi, Sealed, database_problem};

/// What is known of a caller and a patient.
#[derive(Debug, Default)]
pub struct Grants {
    pub relation: Relation,
    /// The caller has broken the glass, and the time for it is not over.
    pub emergency: bool,
    pub consents: Vec<ConsentRule>,
}

#[derive(FromRow)]
struct Row {
    relation: i16,
    emergency: bool,
    consents: Vec<Uuid>,
    sealed: Vec<Vec<u8>>,
}

const OF_PATIENT: &str = "
    select
        (select coalesce(max(case when $2 = any(practitioners) then 2 when $3 = any(organizations) then 1 else 0 end),
                0)::smallint
            from care where patient = $1 and counts_from <= $4 and counts_until > $4) as relation,
        exists (select from emergencies
            where patient = $1 and practitioner = $2 and opened_at <= $4 and ends_at > $4) as emergency,
        coalesce(array_agg(consent order by consent), '{}') as consents,
        coalesce(array_agg(sealed order by consent), '{}') as sealed
    from consents where patient = $1 and active";

/// Those among patients whom the caller or their organization cares for.
const RELATED: &str = "
    select distinct patient from care
    where patient = any($1) and counts_from <= $4 and counts_until > $4
        and ($2 = any(practitioners) or $3 = any(organizations))";

impl Grants {
    /// Reads what is known now. Nothing is kept between requests: a withdrawn consent is gone with the row.
    pub async fn read(api: &QueryApi, caller: &Caller, patient: Uuid, now: DateTime<Utc>) -> Result<Self, Problem> {
        let row: Row = sqlx::query_as(OF_PATIENT)
            .bind(patient)
            .bind(caller.practitioner())
            .bind(caller.organization())
            .bind(now)
            .fetch_one(&api.pool(NAME))
            .await
            .map_err(database_problem)?;
        let sealed = row.consents.into_iter().zip(row.sealed);
        let sealed = sealed.map(|(id, bytes)| Sealed { subject: patient, context: consent_context(id), bytes });
        let consents: Vec<Option<Option<ConsentRule>>> = api.open(sealed.collect()).await?;
        let relation = match row.relation {
            2 => Relation::Own,
            1 => Relation::Organization,
            _ => Relation::None,
        };
        Ok(Self { relation, emergency: row.emergency, consents: consents.into_iter().flatten().flatten().collect() })
    }
}

/// Those among patients whom the caller or their organization cares for.
pub async fn related(
    api: &QueryApi,
    caller: &Caller,
    patients: &[Uuid],
    now: DateTime<Utc>,
) -> Result<HashSet<Uuid>, Problem> {
    let related: Vec<Uuid> = sqlx::query_scalar(RELATED)
        .bind(patients)
        .bind(caller.practitioner())
        .bind(caller.organization())
        .bind(now)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)?;
    Ok(related.into_iter().collect())
}
