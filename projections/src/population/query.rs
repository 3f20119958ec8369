//! Counting.

use std::collections::BTreeMap;

use nexus_web::problem::Problem;
use serde::Serialize;

use super::NAME;
use super::suppress::{self, Count};
use crate::query_api::{QueryApi, database_problem};

/// The age bands, youngest first; members without a birth date come last.
const BANDS: &[&str] = &["0-17", "18-39", "40-64", "65-79", "80+", "unknown"];

/// Patients of an age band.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgeBandCount {
    #[schema(example = "40-64")]
    pub age_band: String,
    /// Null if suppressed.
    pub patients: Option<i64>,
    /// Below the threshold, or it would give away another count that is.
    pub suppressed: bool,
}

/// Patients with a condition.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionCount {
    #[schema(example = "http://snomed.info/sct")]
    pub system: String,
    #[schema(example = "44054006")]
    pub code: String,
    /// Null if suppressed.
    pub patients: Option<i64>,
    pub suppressed: bool,
    pub age_bands: Vec<AgeBandCount>,
}

/// System and code.
pub(super) type Key = (String, String);

/// What is counted.
#[derive(Default)]
pub(super) struct Filter {
    pub system: Option<String>,
    pub code: Option<String>,
    pub status: Option<String>,
}

const CONDITIONS: &str = "
    with page as (
        select system, code from member_conditions join member_age_bands using (member)
        where not withdrawn and ($1::text is null or system = $1) and ($2::text is null or code = $2)
            and ($3::text is null or status = $3) and ($4::text is null or (system, code) > ($4, $5))
        group by system, code order by system, code limit $6
    )
    select system, code, age_band, count(distinct member) as patients
    from page join member_conditions using (system, code) join member_age_bands using (member)
    where not withdrawn and ($3::text is null or status = $3)
    group by system, code, age_band";

/// One more condition than the limit.
pub(super) async fn conditions(
    api: &QueryApi,
    filter: &Filter,
    after: Option<Key>,
    limit: i64,
) -> Result<Vec<ConditionCount>, Problem> {
    let (after_system, after_code) = after.unzip();
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(CONDITIONS)
        .bind(&filter.system)
        .bind(&filter.code)
        .bind(&filter.status)
        .bind(after_system)
        .bind(after_code)
        .bind(limit + 1)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)?;
    let mut conditions: BTreeMap<Key, BTreeMap<String, i64>> = BTreeMap::new();
    for (system, code, band, patients) in rows {
        conditions.entry((system, code)).or_default().insert(band, patients);
    }
    let told = conditions.into_iter().map(|((system, code), bands)| {
        let Count { patients, suppressed } = suppress::single(bands.values().sum(), api.small_cell());
        ConditionCount { system, code, patients, suppressed, age_bands: bands_of(&bands, api.small_cell()) }
    });
    Ok(told.collect())
}

/// Everybody, by age band.
pub(super) async fn age_bands(api: &QueryApi) -> Result<Vec<AgeBandCount>, Problem> {
    let rows: Vec<(String, i64)> = sqlx::query_as("select age_band, count(*) from member_age_bands group by age_band")
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)?;
    Ok(bands_of(&rows.into_iter().collect(), api.small_cell()))
}

fn bands_of(bands: &BTreeMap<String, i64>, small_cell: i64) -> Vec<AgeBandCount> {
    let counts: Vec<i64> = BANDS.iter().map(|band| bands.get(*band).copied().unwrap_or(0)).collect();
    let told = suppress::parts(&counts, small_cell);
    let band = |(band, count): (&&str, Count)| AgeBandCount {
        age_band: (*band).to_owned(),
        patients: count.patients,
        suppressed: count.suppressed,
    };
    BANDS.iter().zip(told).map(band).collect()
}
