//! `GET /v1/read-models/feed`: how far each read model is, whenever that changes.

use axum::extract::State;
use axum::response::Response;
use futures::future::BoxFuture;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_web::extract::Query;
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::QueryApi;
use super::feed::{FeedEvent, LastEventId, Out, Paced, Source, Stopping, digest};
use super::health::{NoParams, ReadModelLag, lags};
use super::page::Page;

const SCOPE: &str = "feed/read-models";

pub(super) fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(follow_read_models))
}

/// Follow how far each read model is.
///
/// Server-sent events: `ready` once the feed is open, then `lag` with the same list as `GET /v1/read-models`, at once and
/// whenever it changes, a few times a second at most; `end` with the reason when the door ends the feed.
#[utoipa::path(
    get,
    path = "/v1/read-models/feed",
    tag = "Operations",
    params(LastEventId),
    responses(
        (status = 200, description = "The feed; the data of `lag`", body = Page<ReadModelLag>, content_type = "text/event-stream"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn follow_read_models(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(NoParams {}): Query<NoParams>,
    last: LastEventId,
    stopping: Stopping,
) -> Result<Response, Problem> {
    authorize(&caller, Action::ReadOperations, &ResourceContext::none())?;
    let told: Option<String> = last.read(&api, SCOPE)?;
    let feed = api.feeds().enter(&caller, stopping)?;
    let ready = FeedEvent::ready(api.cursor(SCOPE, &told.as_deref().unwrap_or_default()));
    let source = FollowLag { paced: api.paced(), api: api.clone(), told };
    Ok(feed.open(ready, source))
}

struct FollowLag {
    api: QueryApi,
    paced: Paced,
    /// The digest of what was told last.
    told: Option<String>,
}

impl Source for FollowLag {
    fn look<'a>(&'a mut self, out: &'a Out) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(self.tell(out))
    }

    fn woken(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.paced.woken())
    }
}

impl FollowLag {
    async fn tell(&mut self, out: &Out) -> Result<(), Problem> {
        let page = lags(&self.api).await?;
        let now = digest(&page);
        if self.told.as_ref() == Some(&now) {
            return Ok(());
        }
        out.send(FeedEvent::new("lag", self.api.cursor(SCOPE, &now), &page)?).await?;
        self.told = Some(now);
        Ok(())
    }
}
