//! `GET /v1/wards/{location}/feed`: what changes in a ward, from the read models that know something of it.
//!
//! Each kind of news is a method of [`FollowWard`] with a member of [`Told`] that says what of it was told last; a further
//! kind is one more of both.

use axum::extract::State;
use axum::response::Response;
use futures::future::BoxFuture;
use nexus_auth::Caller;
use nexus_auth::policy::{Action, Circumstances, Decision, ResourceContext, decide};
use nexus_web::access::LongAccess;
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::feed::{FeedEvent, LastEventId, Out, Paced, Source, Stopping, digest};
use super::page;
use super::{After, LIST_LIMIT_MAX, PositionOnly, QueryApi};
use crate::ward_alerts::{self, Of, StandingAlert};
use crate::ward_census::{self, CensusEntry};

pub(super) fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(follow_ward))
}

/// The patients of a ward, or the alerts that stand there.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WardState<T> {
    items: Vec<T>,
    /// Whether there are more, which stand in the list only.
    more: bool,
}

/// What a ward's feed tells.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum WardNews {
    Census(WardState<CensusEntry>),
    Alerts(WardState<StandingAlert>),
}

/// Follow who is in a ward, and who has to be looked after.
///
/// Server-sent events: `ready` once the feed is open, then `census` with all the patients of the ward and `alerts` with all
/// alerts that stand there, each at once and whenever it changes; `end` with the reason when the door ends the feed. A feed
/// that is opened with the id of a `census` or `alerts` as `Last-Event-ID` tells nothing until the ward is another than it
/// was then. A token whose scopes do not cover alerts is told the census alone.
#[utoipa::path(
    get,
    path = "/v1/wards/{location}/feed",
    tag = "Wards",
    params(("location" = Uuid, Path, description = "The id of the Location"), PositionOnly, After, LastEventId),
    responses(
        (status = 200, description = "The feed; the data of `census` and of `alerts`", body = WardNews, content_type = "text/event-stream"),
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
    let feed = api.feeds().enter(&caller, stopping)?;
    for read_model in [ward_census::NAME, ward_alerts::NAME] {
        api.wait(read_model, &after).await?;
    }
    let ready = FeedEvent::ready(api.cursor(&scope, &told));
    let paced = api.paced();
    let source = FollowWard { api: api.clone(), caller, location, scope, told, paced, recorded };
    Ok(feed.open(ready, source))
}

/// What was told last, of each kind of news; the id of an event.
#[derive(Default, Serialize, Deserialize)]
struct Told {
    /// The digest of the census.
    census: Option<String>,
    /// The digest of the alerts.
    alerts: Option<String>,
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
        Box::pin(async move {
            // First of all who needs somebody.
            self.tell_alerts(out).await?;
            self.tell_census(out).await
        })
    }

    fn woken(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.paced.woken())
    }
}

impl FollowWard {
    async fn tell_alerts(&mut self, out: &Out) -> Result<(), Problem> {
        // Looked at without a record of it: a token that may not see them asks for none.
        let seen = decide(&self.caller, Action::ReadAlerts, &ResourceContext::none(), &Circumstances::default());
        if seen != Decision::Allow {
            return Ok(());
        }
        let limit = LIST_LIMIT_MAX.into();
        let mut rows = ward_alerts::standing(&self.api, Of::Ward(self.location), None, limit).await?;
        let more = page::cut(&mut rows, limit);
        let now = digest(&(rows.iter().map(ward_alerts::Row::state).collect::<Vec<_>>(), more));
        if self.told.alerts.as_ref() == Some(&now) {
            return Ok(());
        }
        let items = self.shown(Action::ReadAlerts, ward_alerts::open(&self.api, rows)).await?;
        self.told.alerts = Some(now);
        self.tell(out, "alerts", WardNews::Alerts(WardState { items, more })).await
    }

    async fn tell_census(&mut self, out: &Out) -> Result<(), Problem> {
        let limit = LIST_LIMIT_MAX.into();
        let mut rows = ward_census::of_ward(&self.api, self.location, None, limit).await?;
        let more = page::cut(&mut rows, limit);
        let now = digest(&(rows.iter().map(ward_census::Row::state).collect::<Vec<_>>(), more));
        if self.told.census.as_ref() == Some(&now) {
            return Ok(());
        }
        let items = self.shown(Action::ReadCensus, ward_census::open(&self.api, rows)).await?;
        self.told.census = Some(now);
        self.tell(out, "census", WardNews::Census(WardState { items, more })).await
    }

    /// Opens a portion once its record is durable, and asks once more by what right.
    async fn shown<T>(&self, action: Action, opening: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let opened = self.recorded.portion(async {
            authorize(&self.caller, action, &ResourceContext::none())?;
            opening.await
        });
        opened.await
    }

    async fn tell(&self, out: &Out, name: &'static str, news: WardNews) -> Result<(), Problem> {
        out.send(FeedEvent::new(name, self.api.cursor(&self.scope, &self.told), &news)?).await
    }
}
