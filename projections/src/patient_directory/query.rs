//! Candidates by their hashes, and one patient by id.

use nexus_domain::fhir::Resource;
use nexus_web::problem::Problem;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::blind::{self, Kind};
use super::rank::{self, Match};
use super::summary::PatientDetail;
use super::{NAME, context, names};
use crate::query_api::{QueryApi, Sealed, database_problem};

/// Words of a name that a search looks at.
pub(super) const WORDS_MAX: usize = 24;
/// Candidates that fit to the letter, and candidates that nearly fit: so many are opened and compared.
const EXACT_MAX: i64 = 300;
const NEAR_MAX: i64 = 300;

/// What is asked for. All of it must fit.
#[derive(Default)]
pub(super) struct Search {
    /// Medical record numbers with or without a system, of which one must fit: a bar may be part of a number.
    pub mrn: Vec<(Option<String>, String)>,
    /// Systems and values, of which one must fit.
    pub identifier: Vec<(String, String)>,
    pub birth_date: Option<String>,
    /// Words of the name, folded.
    pub words: Vec<String>,
}

impl Search {
    /// The hashes of which one must be there, for each number that is asked for.
    fn number_keys(&self, api: &QueryApi) -> Vec<Vec<i64>> {
        let key = |kind, value: &str| blind::key(api.keyring(), kind, value);
        let mrn = self.mrn.iter().map(|mrn| match mrn {
            (Some(system), value) => key(Kind::Mrn, &format!("{system}|{value}")),
            (None, value) => key(Kind::MrnValue, value),
        });
        let identifier = self.identifier.iter();
        let identifier = identifier.map(|(system, value)| key(Kind::Identifier, &format!("{system}|{value}")));
        [mrn.collect(), identifier.collect()].into_iter().filter(|keys: &Vec<i64>| !keys.is_empty()).collect()
    }

    /// Whether an opened patient really is what was asked for, and how well: two values may share a hash.
    fn score(&self, patient: &Resource) -> Option<f64> {
        let identifiers = || patient.items("identifier").iter();
        let is = |(system, value): (&str, &str), asked_system: Option<&str>, asked: &str| {
            value == asked && asked_system.is_none_or(|asked| asked == system)
        };
        let mut numbers =
            identifiers().filter(|identifier| blind::is_mrn(identifier)).filter_map(blind::identifier_parts);
        let asked = |it| self.mrn.iter().any(|(system, value)| is(it, system.as_deref(), value));
        let mrn = self.mrn.is_empty() || numbers.any(asked);
        let asked = |it| self.identifier.iter().any(|(system, value)| is(it, Some(system), value));
        let identifier = self.identifier.is_empty() || identifiers().filter_map(blind::identifier_parts).any(asked);
        let born = self.birth_date.as_deref().is_none_or(|date| patient.text("birthDate") == Some(date));
        if !(mrn && identifier && born) {
            return None;
        }
        if self.words.is_empty() { Some(1.0) } else { rank::score(&self.words, patient) }
    }
}

/// Those who fit, best first.
pub(super) struct Found {
    pub matches: Vec<Match>,
    /// There are more candidates than a search compares, so not everybody who fits may be among the matches.
    pub truncated: bool,
}

/// Everybody who fits, within the bounds on candidates.
pub(super) async fn search(api: &QueryApi, search: &Search) -> Result<Found, Problem> {
    let rows = candidates(api, search).await.map_err(database_problem)?;
    let truncated = rows.iter().any(|(_, _, more)| *more);
    let ids: Vec<_> = rows.iter().map(|(patient, _, _)| *patient).collect();
    let sealed =
        rows.into_iter().map(|(patient, bytes, _)| Sealed { subject: patient, context: context(patient), bytes });
    let opened: Vec<Option<Resource>> = api.open(sealed.collect()).await?;
    let scored = ids.into_iter().zip(opened).filter_map(|(id, patient)| {
        let patient = patient?;
        search.score(&patient).map(|score| Match { id, patient, score })
    });
    let mut matches: Vec<_> = scored.collect();
    matches.sort_unstable_by(rank::order);
    Ok(Found { matches, truncated })
}

/// Two bounded looks into the index: names to the letter, and names nearly so. The first keeps a common near miss from
/// crowding out the name itself, the second leaves out what the first finds. Each reads one more than it may keep, and
/// with every row comes whether there was one. Ids decide who is kept, so that all pages are cut from the same list.
async fn candidates(api: &QueryApi, search: &Search) -> Result<Vec<(Uuid, Vec<u8>, bool)>, sqlx::Error> {
    let born = search.birth_date.iter().map(|date| blind::key(api.keyring(), Kind::BirthDate, date));
    let words = search.words.iter().map(|word| blind::key(api.keyring(), Kind::Name, word));
    let exact: Vec<i64> = words.chain(born.clone()).collect();
    let mut sql = QueryBuilder::new("with exact as materialized (select patient from patients where not withdrawn");
    push_numbers(&mut sql, search.number_keys(api));
    if !exact.is_empty() {
        sql.push(" and keys @> ").push_bind(exact.clone());
    }
    sql.push(" order by patient limit ").push_bind(EXACT_MAX + 1);
    sql.push("), near as materialized (select patient from patients where not withdrawn");
    push_numbers(&mut sql, search.number_keys(api));
    if search.words.is_empty() {
        sql.push(" and false");
    } else {
        sql.push(" and not keys @> ").push_bind(exact);
    }
    for date in born {
        sql.push(" and keys @> ").push_bind(vec![date]);
    }
    for word in &search.words {
        sql.push(" and keys && ").push_bind(blind::near_keys(api.keyring(), word));
    }
    sql.push(" order by patient limit ").push_bind(NEAR_MAX + 1);
    sql.push("), found as ((select patient from exact order by patient limit ").push_bind(EXACT_MAX);
    sql.push(") union all (select patient from near order by patient limit ").push_bind(NEAR_MAX);
    sql.push(")) select patient, sealed, (select count(*) from exact) > ").push_bind(EXACT_MAX);
    sql.push(" or (select count(*) from near) > ").push_bind(NEAR_MAX);
    sql.push(" from patients join found using (patient)");
    QueryBuilder::<Postgres>::build_query_as(&mut sql).fetch_all(&api.pool(NAME)).await
}

fn push_numbers(sql: &mut QueryBuilder<'_, Postgres>, numbers: Vec<Vec<i64>>) {
    for readings in numbers {
        sql.push(" and keys && ").push_bind(readings);
    }
}

/// What the directory knows of one patient.
pub(super) async fn find(api: &QueryApi, patient: Uuid) -> Result<Option<PatientDetail>, Problem> {
    let row: Option<(i64, bool, Vec<u8>)> =
        sqlx::query_as("select sequence, withdrawn, sealed from patients where patient = $1")
            .bind(patient)
            .fetch_optional(&api.pool(NAME))
            .await
            .map_err(database_problem)?;
    let Some((sequence, withdrawn, bytes)) = row else { return Ok(None) };
    let sealed = Sealed { subject: patient, context: context(patient), bytes };
    let opened: Option<Resource> = api.open(vec![sealed]).await?.pop().flatten();
    Ok(opened.map(|resource| PatientDetail::of(patient, sequence, withdrawn, &resource)))
}

/// The words of a name that a search goes by.
pub(super) fn search_words(name: &str) -> Vec<String> {
    names::words(name)
}
