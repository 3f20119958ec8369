//! `GET /v1/wards/{location}/feed`: what changes in a ward.
//!
//! Each kind of news is a method of [`FollowWard`] with a member of [`Told`] that says what of it was told last; a further
//! kind is one more of both.

use axum::extract::State;
use axum::response::Response;
use futures::future::BoxFuture;
use nexus_auth::Caller;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_web::access::LongAccess;
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::NAME;
use super::query::{self, CensusEntry, Row};
use crate::query_api::feed::{Feed, FeedEvent, LastEventId, Out, Paced, Source, Stopping, digest};
use crate::query_api::page;
use crate::query_api::{After, LIST_LIMIT_MAX, PositionOnly, QueryApi};

pub(super) fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(follow_ward))
}

/// The patients of a ward.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WardState {
    items: Vec<CensusEntry>,
    /// Whether there are more, which stand in the census only.
    more: bool,
}

/// Follow who is in a ward.
///
/// Server-sent events: `ready` once the feed is open, then `census` with all the patients of the ward, at once and
/// whenever that changes; `end` with the reason when the door ends the feed. A feed that is opened with the id of a `census`
/// as `Last-Event-ID` tells nothing until the ward is another than it was then.
#[utoipa::path(
    get,
    path = "/v1/wards/{location}/feed",
    tag = "Wards",
    params(("location" = Uuid, Path, description = "The id of the Location"), PositionOnly, After, LastEventId),
    responses(
        (status = 200, description = "The feed; the data of `census`", body = WardState, content_type = "text/event-stream"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
#[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
async fn follow_ward(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(location): Path<Uuid>,
    Query(params): Query<PositionOnly>,
    after: After,
    last: LastEventId,
    stopping: Stopping,
    recorded: LongAccess,
) -> Result<Response, Problem> {
    authorize(&caller, Action::ReadCensus, &ResourceContext::none())?;
    let after = after.and(params.position.as_deref())?;
    let scope = format!("feed/wards/{location}");
    let told = last.read::<Told>(&api, &scope)?.unwrap_or_default();
    let place = api.feeds().enter(&caller)?;
    api.wait(NAME, &after).await?;
    let ready = FeedEvent::ready(api.cursor(&scope, &told));
    let paced = api.paced();
    let source = FollowWard { api: api.clone(), caller: caller.clone(), location, scope, told, paced, recorded };
    Ok(Feed { caller, place, stopping, settings: api.feeds().settings() }.open(ready, source))
}

/// What was told last, of each kind of news; the id of an event.
#[derive(Default, Serialize, Deserialize)]
struct Told {
    /// The digest of the census.
    census: Option<String>,
}

struct FollowWard {
    api: QueryApi,
    caller: Caller,
    location: Uuid,
    scope: String,
    told: Told,
    paced: Paced,
    recorded: LongAccess,
}

impl Source for FollowWard {
    fn look<'a>(&'a mut self, out: &'a Out) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(self.tell_census(out))
    }

    fn woken(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.paced.woken())
    }
}

impl FollowWard {
    async fn tell_census(&mut self, out: &Out) -> Result<(), Problem> {
        let limit = LIST_LIMIT_MAX.into();
        let mut rows = query::of_ward(&self.api, self.location, None, limit).await?;
        let more = page::cut(&mut rows, limit);
        let now = digest(&(rows.iter().map(Row::state).collect::<Vec<_>>(), more));
        if self.told.census.as_ref() == Some(&now) {
            return Ok(());
        }
        let opened = self.recorded.portion(async {
            authorize(&self.caller, Action::ReadCensus, &ResourceContext::none())?;
            query::open(&self.api, rows).await
        });
        let state = WardState { items: opened.await?, more };
        self.told.census = Some(now);
        out.send(FeedEvent::new("census", self.api.cursor(&self.scope, &self.told), &state)?).await
    }
}
