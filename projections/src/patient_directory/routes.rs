//! `GET /v1/patients` and `GET /v1/patients/{id}`.

use axum::Json;
use axum::extract::State;
use nexus_auth::Role;
use nexus_auth::policy::{Action, Circumstances, Decision, ResourceContext, decide};
use nexus_domain::fhir::{FhirDateTime, Precision};
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::NAME;
use super::query::{self, Found, Search, WORDS_MAX};
use super::rank::Match;
use super::summary::{PatientDetail, PatientSummary};
use crate::query_api::{After, PositionOnly, QueryApi, page};

const NAME_BYTES_MAX: usize = 1_000;
/// In how many ways a number with bars in it is read.
const READINGS_MAX: usize = 8;

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(search_patients)).routes(routes!(read_patient))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SearchParams {
    /// A medical record number, with its system before a bar (`system|number`) or alone. A bar that is part of the number
    /// may be written as it is or, as in FHIR, as `\|`.
    #[param(example = "http://hospital.smarthealthit.org|057aa36e-b892-9964-75b9-ffb46b097e34")]
    mrn: Option<String>,
    /// Any identifier with its system: `system|value`.
    identifier: Option<String>,
    /// A name or several, in any order; each may hold one typo or be spelled as it sounds.
    #[param(example = "Cormier")]
    name: Option<String>,
    /// The day of birth.
    #[param(example = "1959-07-30")]
    birth_date: Option<String>,
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// A page of a search.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct PatientPage {
    items: Vec<PatientSummary>,
    /// The `cursor` of the next page; null at the end of the list.
    next: Option<String>,
    /// More patients may fit than a search compares, and not all of them are in this list. Asking for more, such as the
    /// birth date, narrows it down.
    truncated: bool,
}

/// Find patients by number, name or birth date.
///
/// What is given must all fit. Names forgive one typo each and other spellings of the same sound; the best fit is first.
/// Of patients whom neither the caller nor their organization cares for, a search shows only what it takes to tell people
/// apart (`limited`). A search compares some hundred candidates; `truncated` says when there were more.
#[utoipa::path(
    get,
    path = "/v1/patients",
    tag = "Patients",
    params(SearchParams, After),
    responses(
        (status = 200, description = "Those who fit, best first", body = PatientPage),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn search_patients(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<SearchParams>,
    after: After,
) -> Result<Json<PatientPage>, Problem> {
    authorize(&caller, Action::SearchPatients, &ResourceContext::none())?;
    let limit = page::limit(params.limit)?;
    let search = read_search(&params)?;
    let last: Option<(u64, Uuid)> = api.cursor_key(SCOPE, params.cursor.as_deref())?;
    api.wait(NAME, &after.and(params.position.as_deref())?).await?;
    let Found { mut matches, truncated } = query::search(&api, &search).await?;
    if let Some((score, id)) = last {
        let score = f64::from_bits(score);
        matches.retain(|it| score.total_cmp(&it.score).then(it.id.cmp(&id)).is_gt());
    }
    let more = page::cut(&mut matches, limit);
    let next = matches.last().filter(|_| more).map(|last| api.cursor(SCOPE, &(last.score.to_bits(), last.id)));
    let ids: Vec<_> = matches.iter().map(|it| it.id).collect();
    let known = api.known_to(&caller, &ids).await?;
    let summary = |it: &Match| {
        let summary = PatientSummary::of(it.id, &it.patient, Some(it.score));
        if known.contains(&it.id) { summary } else { summary.limited() }
    };
    Ok(Json(PatientPage { items: matches.iter().map(summary).collect(), next, truncated }))
}

const SCOPE: &str = "patients";

/// Read what the directory knows of a patient.
///
/// Without a care relationship only what it takes to tell people apart (`limited`).
#[utoipa::path(
    get,
    path = "/v1/patients/{id}",
    tag = "Patients",
    params(("id" = Uuid, Path, description = "The patient's id"), After, PositionOnly),
    responses(
        (status = 200, description = "The patient", body = PatientDetail),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn read_patient(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(id): Path<Uuid>,
    Query(params): Query<PositionOnly>,
    after: After,
) -> Result<Json<PatientDetail>, Problem> {
    let after = after.and(params.position.as_deref())?;
    let context = ResourceContext::of_subject(id);
    // Whoever may open the chart sees all of this; whoever may find the patient sees what it takes to tell people apart.
    let chart = api.look(&caller, Action::ReadChart, id, &after).await?;
    let may_find = decide(&caller, Action::SearchPatients, &context, &Circumstances::default()) == Decision::Allow;
    let whole = caller.has(Role::Registrar) || chart.is_open();
    if may_find && !chart.is_open() {
        authorize(&caller, Action::SearchPatients, &context)?;
    } else {
        chart.authorize_record()?;
    }
    api.wait(NAME, &after).await?;
    let found = query::find(&api, id).await?.ok_or_else(Problem::not_found)?;
    Ok(Json(if whole { found } else { found.limited() }))
}

fn read_search(params: &SearchParams) -> Result<Search, Problem> {
    let search = Search {
        mrn: params.mrn.as_deref().map_or(Ok(Vec::new()), read_mrn)?,
        identifier: params.identifier.as_deref().map_or(Ok(Vec::new()), read_identifier)?,
        birth_date: params.birth_date.as_deref().map(read_birth_date).transpose()?,
        words: params.name.as_deref().map_or(Ok(Vec::new()), read_name)?,
    };
    let nothing =
        search.mrn.is_empty() && search.identifier.is_empty() && search.birth_date.is_none() && search.words.is_empty();
    if nothing {
        return Err(Problem::invalid_parameter("name", "Give at least one of mrn, identifier, name and birthDate."));
    }
    Ok(search)
}

fn read_mrn(text: &str) -> Result<Vec<(Option<String>, String)>, Problem> {
    let alone = [text.to_owned(), unescaped(text)].map(|number| (None, number.trim().to_owned()));
    let with_system = readings(text).into_iter().map(|(system, value)| (Some(system), value));
    let numbers = distinct(with_system.chain(alone).filter(|(_, value)| !value.is_empty()));
    // `system|` alone asks for nothing, though as a number it could be read.
    if numbers.is_empty() || text.trim_end().ends_with('|') && !text.trim_end().ends_with("\\|") {
        return Err(Problem::invalid_parameter("mrn", "A number, or system|number, is expected."));
    }
    Ok(numbers)
}

fn read_identifier(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let identifiers = distinct(readings(text).into_iter().filter(|(_, value)| !value.is_empty()));
    if identifiers.is_empty() {
        return Err(Problem::invalid_parameter("identifier", "system|value is expected."));
    }
    Ok(identifiers)
}

/// System and value, in every way in which the text may mean them: either may have bars and backslashes of its own, written
/// as they are, or escaped as FHIR's search has it (<https://hl7.org/fhir/R4/search.html#escaping>).
fn readings(text: &str) -> Vec<(String, String)> {
    let trimmed = |(system, value): (&str, &str)| (system.trim().to_owned(), value.trim().to_owned());
    let plain = text.match_indices('|').filter_map(|(at, _)| text.split_at_checked(at));
    let plain = plain.map(|(system, value)| trimmed((system, value.strip_prefix('|').unwrap_or(value))));
    let escaped = first_bar(text).and_then(|at| text.split_at_checked(at));
    let escaped = escaped.map(|(system, value)| {
        let value = value.strip_prefix('|').unwrap_or(value);
        trimmed((&unescaped(system), &unescaped(value)))
    });
    escaped.into_iter().chain(plain).take(READINGS_MAX).collect()
}

/// Where the first bar stands that is not escaped.
fn first_bar(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let is_bar = letter == '|' && !escaped;
        escaped = letter == '\\' && !escaped;
        is_bar.then_some(at)
    })
}

/// The text without the backslashes before what FHIR's search escapes.
fn unescaped(text: &str) -> String {
    let mut letters = text.chars().peekable();
    let mut plain = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        match letters.peek() {
            Some('|' | '\\' | ',' | '$') if letter == '\\' => plain.extend(letters.next()),
            _ => plain.push(letter),
        }
    }
    plain
}

/// Each of them once, in order.
fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut distinct, item| {
        if !distinct.contains(&item) {
            distinct.push(item);
        }
        distinct
    })
}

fn read_birth_date(text: &str) -> Result<String, Problem> {
    let date = FhirDateTime::parse(text).filter(|date| date.precision <= Precision::Day);
    date.map(|_| text.to_owned()).ok_or_else(|| Problem::invalid_parameter("birthDate", "A date such as 1959-07-30."))
}

fn read_name(text: &str) -> Result<Vec<String>, Problem> {
    if text.len() > NAME_BYTES_MAX {
        return Err(Problem::invalid_parameter("name", format!("At most {NAME_BYTES_MAX} bytes.")));
    }
    let words = query::search_words(text);
    match words.len() {
        1..=WORDS_MAX => Ok(words),
        _ => Err(Problem::invalid_parameter("name", format!("From 1 to {WORDS_MAX} names."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_bars_is_read_in_every_way_that_it_may_mean() {
        let pairs = |text: &str| {
            let found = readings(text);
            found.iter().map(|(system, value)| format!("{system} + {value}")).collect::<Vec<_>>()
        };
        assert_eq!(pairs("urn:a|17"), ["urn:a + 17", "urn:a + 17"]);
        assert_eq!(pairs("urn:a|1|7"), ["urn:a + 1|7", "urn:a + 1|7", "urn:a|1 + 7"]);
        assert_eq!(pairs("urn:a|1\\|7").first().map(String::as_str), Some("urn:a + 1|7"));
        assert_eq!(pairs("urn:a|x\\y"), ["urn:a + x\\y", "urn:a + x\\y"]);
        assert_eq!(pairs("urn:a|x\\\\y"), ["urn:a + x\\y", "urn:a + x\\\\y"]);
        assert!(readings("17").is_empty());
        let alone = read_mrn("1|7").unwrap();
        assert!(alone.contains(&(None, "1|7".to_owned())) && alone.contains(&(Some("1".to_owned()), "7".to_owned())));
        assert!(read_mrn(" ").is_err() && read_mrn("urn:a|").is_err() && read_identifier("17").is_err());
        assert!(readings(&"|".repeat(500)).len() <= READINGS_MAX);
    }
}
