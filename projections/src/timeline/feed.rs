//! `GET /v1/patients/{id}/feed`: what happens to a patient, as it becomes visible in the timeline.

use axum::extract::State;
use axum::response::Response;
use futures::future::BoxFuture;
use nexus_auth::Caller;
use nexus_auth::policy::Action;
use nexus_web::access::LongAccess;
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::Authenticated;
use nexus_web::problem::{Problem, ProblemBody};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::changes::{self, TimelineChange};
use super::{NAME, query};
use crate::query_api::feed::{FeedEvent, LastEventId, Out, Source, Stopping, Woken};
use crate::query_api::{After, PositionOnly, QueryApi};

/// Events that are read at a time.
const READ_MAX: i64 = 100;
/// Who has missed more events than this reads the timeline.
const MISSED_MAX: i64 = 1_000;

pub(super) fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(follow_patient))
}

/// Follow what happens to a patient.
///
/// Server-sent events: `ready` once the feed is open, `change` for each event from then on, and `end` with the reason when
/// the door ends the feed. Each `ready` and `change` has an id; a feed that is opened with it as `Last-Event-ID` goes on
/// behind it. What the caller may not see is left out, as in the timeline.
#[utoipa::path(
    get,
    path = "/v1/patients/{id}/feed",
    tag = "Patients",
    params(("id" = Uuid, Path, description = "The patient's id"), PositionOnly, After, LastEventId),
    responses(
        (status = 200, description = "The feed; the data of `change`", body = TimelineChange, content_type = "text/event-stream"),
        (status = 410, description = "Too much has happened since the Last-Event-ID.", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
#[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
async fn follow_patient(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(patient): Path<Uuid>,
    Query(params): Query<PositionOnly>,
    after: After,
    last: LastEventId,
    stopping: Stopping,
    recorded: LongAccess,
) -> Result<Response, Problem> {
    let after = after.and(params.position.as_deref())?;
    let scope = format!("feed/patients/{patient}");
    let last: Option<i64> = last.read(&api, &scope)?;
    api.access(&caller, Action::ReadTimeline, patient, &after).await?;
    let feed = api.feeds().enter(&caller, stopping)?;
    // Before the first look, so that nothing falls between the two.
    let woken = api.feeds().woken();
    api.wait(NAME, &after).await?;
    if !query::exists(&api, patient).await? || api.is_erased(patient).await? {
        return Err(Problem::not_found());
    }
    let position = match last {
        Some(position) if changes::exceeds(&api, patient, position, MISSED_MAX).await? => {
            return Err(Problem::feed_too_old());
        }
        Some(position) => position,
        None => changes::newest(&api, patient).await?,
    };
    let ready = FeedEvent::ready(api.cursor(&scope, &position));
    let source = Follow { api: api.clone(), caller, patient, scope, position, woken, recorded };
    Ok(feed.open(ready, source))
}

struct Follow {
    api: QueryApi,
    caller: Caller,
    patient: Uuid,
    scope: String,
    /// Up to here everything was told.
    position: i64,
    woken: Woken,
    recorded: LongAccess,
}

impl Source for Follow {
    fn look<'a>(&'a mut self, out: &'a Out) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            while self.tell(out).await? == READ_MAX {}
            Ok(())
        })
    }

    fn woken(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.woken.of(self.patient))
    }
}

impl Follow {
    /// Tells the next events, after asking anew whether the caller may see them; answers how many there were.
    async fn tell(&mut self, out: &Out) -> Result<i64, Problem> {
        let access = self.api.access(&self.caller, Action::ReadTimeline, self.patient, &After::nothing()).await?;
        if self.api.is_erased(self.patient).await? {
            return Err(Problem::not_found());
        }
        let rows = changes::after(&self.api, self.patient, self.position, READ_MAX).await?;
        let Some(newest) = rows.last().map(|row| row.position) else { return Ok(0) };
        let found = i64::try_from(rows.len()).unwrap_or(READ_MAX);
        let shown: Vec<_> = rows.into_iter().filter(|row| access.shows(&row.part())).collect();
        if !shown.is_empty() {
            let opened = self.recorded.portion(async {
                // Once more, so that this portion's record says by what right it was shown.
                access.authorize_record()?;
                changes::open(&self.api, shown).await
            });
            for (position, change) in opened.await? {
                out.send(FeedEvent::new("change", self.api.cursor(&self.scope, &position), &change)?).await?;
            }
        }
        self.position = newest;
        Ok(found)
    }
}
