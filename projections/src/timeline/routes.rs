//! `GET /v1/patients/{id}/timeline`.

use axum::Json;
use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::Authenticated;
use nexus_web::problem::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::query::{self, Direction, Key, TimelineEntry};
use super::{NAME, feed};
use crate::query_api::{After, QueryApi, page};

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(read_timeline)).merge(feed::router())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TimelineParams {
    /// Entries of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// The `next` or `previous` of another page.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// A page of a timeline, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TimelinePage {
    items: Vec<TimelineEntry>,
    /// The `cursor` of the page with what is older; null if there is nothing.
    next: Option<String>,
    /// The `cursor` of the page with what is newer; null if there is nothing.
    previous: Option<String>,
}

/// Read everything of a patient in clinical order.
///
/// Newest first, from any page in both directions. Each resource stands once, as it is now and where it belongs by its
/// clinical time. What was entered in error is left out; what nobody here understands says so in `qualifier`.
#[utoipa::path(
    get,
    path = "/v1/patients/{id}/timeline",
    tag = "Patients",
    params(("id" = Uuid, Path, description = "The patient's id"), TimelineParams, After),
    responses(
        (status = 200, description = "A page of the timeline", body = TimelinePage),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn read_timeline(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(patient): Path<Uuid>,
    Query(params): Query<TimelineParams>,
    after: After,
) -> Result<Json<TimelinePage>, Problem> {
    let after = after.and(params.position.as_deref())?;
    let access = api.access(&caller, Action::ReadTimeline, patient, &after).await?;
    let limit = page::limit(params.limit)?;
    let scope = format!("timeline/{patient}");
    let cursor: Option<(Direction, Key)> = api.cursor_key(&scope, params.cursor.as_deref())?;
    api.wait(NAME, &after).await?;
    if !query::exists(&api, patient).await? || api.is_erased(patient).await? {
        return Err(Problem::not_found());
    }
    let (direction, key) = cursor.map_or((Direction::Older, None), |(direction, key)| (direction, Some(key)));
    // Behind us lies the page that the cursor came from.
    let came_from_somewhere = key.is_some();
    let mut stretch = query::stretch(&api, &access, patient, direction, key, limit).await?;
    let (older, newer) = match direction {
        Direction::Older => (stretch.more, came_from_somewhere),
        Direction::Newer => (came_from_somewhere, stretch.more),
    };
    if direction == Direction::Newer {
        stretch.rows.reverse();
    }
    let cursor = |direction, key: Option<Key>| key.map(|key| api.cursor(&scope, &(direction, key)));
    let next = stretch.rows.last().filter(|_| older).map(query::Row::key);
    let previous = stretch.rows.first().filter(|_| newer).map(query::Row::key);
    Ok(Json(TimelinePage {
        next: cursor(Direction::Older, next),
        previous: cursor(Direction::Newer, previous),
        items: query::open(&api, patient, stretch.rows).await?,
    }))
}
