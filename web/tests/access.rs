//! What the pipeline tells an access recorder: before the handler, after it, and when there is no after.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, http::Request, routing::get};
use futures::{FutureExt, future::BoxFuture};
use nexus_auth::{
    Role,
    policy::{Action, Circumstances, Decision, Relation, ResourceContext},
    testing::TestIssuer,
};
use nexus_web::{
    access::{self, AccessRecorder, Completion, NotRecorded, OpenAccess, Opening, Outcome},
    extract::Path,
    pipeline::{Authenticated, Pipeline, authorize_in},
    problem::Problem,
};
use tower::ServiceExt;
use uuid::Uuid;

/// Writes down what it is told; refuses to open while it is full.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    is_full: bool,
    opened: Vec<Opening>,
    completed: Vec<(Uuid, Completion)>,
}

struct Page(Uuid, Book);

impl AccessRecorder for Book {
    fn open(&self, opening: Opening) -> BoxFuture<'_, Result<Box<dyn OpenAccess>, NotRecorded>> {
        async move {
            let mut pages = self.0.lock().unwrap();
            if pages.is_full {
                return Err(NotRecorded);
            }
            let page = Page(opening.id, self.clone());
            pages.opened.push(opening);
            Ok(Box::new(page) as Box<dyn OpenAccess>)
        }
        .boxed()
    }

    fn record(&self, opening: Opening, completion: Completion) {
        let mut pages = self.0.lock().unwrap();
        pages.completed.push((opening.id, completion));
        pages.opened.push(opening);
    }
}

impl OpenAccess for Page {
    fn complete(self: Box<Self>, completion: Completion) {
        self.1.0.lock().unwrap().completed.push((self.0, completion));
    }
}

async fn read_chart(Authenticated(caller): Authenticated, Path(id): Path<Uuid>) -> Result<&'static str, Problem> {
    let in_care = Circumstances { relation: Relation::Own, ..Circumstances::default() };
    authorize_in(&caller, Action::ReadChart, &ResourceContext::of_subject(id), &in_care)?;
    access::note_patients([id]);
    Ok("chart")
}

struct Door {
    issuer: TestIssuer,
    book: Book,
    every: Router,
    exceptions: Router,
}

impl Door {
    async fn new() -> Self {
        let (issuer, book) = (TestIssuer::start().await, Book::default());
        let routes = || {
            Router::new()
                .route("/charts/{id}", get(read_chart).post(read_chart))
                .route("/endless", get(async || std::future::pending::<()>().await))
                .route("/panic", get(async || -> &'static str { panic!("on purpose") }))
                .route("/watched", get(async || "up"))
        };
        let pipeline = Pipeline::new(issuer.verifier().await);
        let every = pipeline.clone().recording_accesses(Arc::new(book.clone()), &["/watched"]);
        let exceptions = pipeline.recording_exceptions(Arc::new(book.clone()));
        Self {
            issuer,
            every: every.wrap(routes(), Router::new()),
            exceptions: exceptions.wrap(routes(), Router::new()),
            book,
        }
    }

    async fn ask(&self, router: &Router, role: Role, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get(path).header("authorization", format!("Bearer {}", self.issuer.token(role)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    fn last(&self) -> (Opening, Completion) {
        let pages = self.book.0.lock().unwrap();
        assert_eq!(pages.opened.len(), pages.completed.len(), "each is completed once");
        let (id, completion) = pages.completed.last().unwrap().clone();
        (pages.opened.iter().find(|opening| opening.id == id).unwrap().clone(), completion)
    }

    fn count(&self) -> usize {
        self.book.0.lock().unwrap().opened.len()
    }
}

#[tokio::test]
async fn a_request_is_opened_before_and_completed_after() {
    let (door, id) = (Door::new().await, Uuid::new_v4());
    assert_eq!(door.ask(&door.every, Role::Nurse, &format!("/charts/{id}?depth=2"), &[]).await, 200);
    let (opening, completion) = door.last();
    assert_eq!((opening.caller.id(), opening.route.as_str(), opening.target), ("test-nurse", "/charts/{id}", Some(id)));
    assert_eq!(opening.purpose, "TREAT");
    assert_eq!((completion.outcome, completion.status), (Outcome::Success, Some(200)));
    assert_eq!(completion.noted.decisions, [(Action::ReadChart, Some(id), Decision::Allow)]);
    assert_eq!(Vec::from_iter(completion.noted.patients), [id]);
    assert_eq!(completion.parameters, ["depth"]);

    assert_eq!(door.ask(&door.every, Role::Analyst, &format!("/charts/{id}?smith=2"), &[]).await, 403);
    let (_, completion) = door.last();
    assert_eq!((completion.outcome, completion.parameters.len()), (Outcome::Refused, 0), "a refused text is not kept");
    assert!(completion.noted.is_denial());

    assert_eq!(door.ask(&door.every, Role::Nurse, "/panic", &[]).await, 500);
    assert_eq!(door.last().1.outcome, Outcome::Interrupted);
    assert_eq!(door.count(), 3);
    assert_eq!(door.ask(&door.every, Role::Nurse, "/watched", &[]).await, 200);
    assert_eq!(door.count(), 3, "some routes are left out");
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_an_interrupted_record() {
    let door = Door::new().await;
    let opened = async {
        while door.count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = opened => {}
        _ = door.ask(&door.every, Role::Nurse, "/endless", &[]) => panic!("it has no end"),
    }
    assert_eq!(door.last().1.outcome, Outcome::Interrupted);
}

#[tokio::test]
async fn no_record_no_access() {
    let (door, id) = (Door::new().await, Uuid::new_v4());
    door.book.0.lock().unwrap().is_full = true;
    assert_eq!(door.ask(&door.every, Role::Nurse, &format!("/charts/{id}"), &[]).await, 503);
    assert_eq!(door.ask(&door.every, Role::Nurse, "/watched", &[]).await, 200);
    assert_eq!(door.count(), 0);
}

#[tokio::test]
async fn the_purpose_is_one_of_a_list() {
    let (door, id) = (Door::new().await, Uuid::new_v4());
    let path = format!("/charts/{id}");
    assert_eq!(door.ask(&door.every, Role::Nurse, &path, &[("nexus-purpose", "ETREAT")]).await, 200);
    assert_eq!(door.last().0.purpose, "ETREAT");
    assert_eq!(door.ask(&door.every, Role::Nurse, &path, &[("nexus-purpose", "curiosity")]).await, 400);
    assert_eq!(door.count(), 1);
}

#[tokio::test]
async fn where_events_are_the_record_only_refusals_are_recorded() {
    let (door, id) = (Door::new().await, Uuid::new_v4());
    let path = format!("/charts/{id}");
    assert_eq!(door.ask(&door.exceptions, Role::Nurse, &path, &[]).await, 200);
    assert_eq!(door.count(), 0);
    assert_eq!(door.ask(&door.exceptions, Role::Analyst, &path, &[]).await, 403);
    assert_eq!((door.count(), door.last().1.status), (1, Some(403)));
}
