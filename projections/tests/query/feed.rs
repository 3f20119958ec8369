//! Live feeds: what arrives, what goes on after a break, and what ends them.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use nexus_auth::Role;
use nexus_testkit::eventually;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

use crate::access_log::AccessWorld;
use crate::chart::condition;
use crate::own_write::Pipeline;
use crate::world::{World, patient, reference};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// These feeds look often, so that tests of what they look for are quick.
const QUICK: &[&str] = &["--feed-recheck-ms", "20"];

/// The client's end of a feed.
pub struct Client {
    body: BodyDataStream,
    text: String,
    /// The id of the last event that had one.
    pub last_id: String,
}

/// An event as it came.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub name: String,
    pub data: Value,
}

impl Client {
    /// Opens a feed; anything but 200 fails the test.
    pub async fn open(door: &Router, token: &str, path: &str, last_id: Option<&str>) -> Self {
        Self::of(ask(door, token, path, last_id).await).await
    }

    async fn of(response: axum::response::Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut client =
            Self { body: response.into_body().into_data_stream(), text: String::new(), last_id: String::new() };
        assert_eq!(client.next().await.expect("an event").name, "ready");
        client
    }

    /// The next event; nothing at the end of the feed. Heartbeats are passed over.
    pub async fn next(&mut self) -> Option<Told> {
        // Of the whole: heartbeats are no answer.
        tokio::time::timeout(PATIENCE, self.next_event()).await.expect("the feed says nothing")
    }

    async fn next_event(&mut self) -> Option<Told> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                match self.read(&frame) {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let chunk = self.body.next().await?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// The raw text until the end of a comment.
    async fn heartbeat(&mut self) {
        while !self.text.contains(": heartbeat\n\n") {
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("the feed says nothing").unwrap();
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    fn read(&mut self, frame: &str) -> Option<Told> {
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let Some(id) = field("id") {
            id.clone_into(&mut self.last_id);
        }
        Some(Told { name: field("event")?.to_owned(), data: serde_json::from_str(field("data")?).unwrap() })
    }

    /// The codes of the next changes, in the order in which they come.
    async fn codes(&mut self, count: usize) -> Vec<String> {
        let mut codes = Vec::new();
        while codes.len() < count {
            let told = self.next().await.expect("the feed goes on");
            assert_eq!(told.name, "change");
            codes.push(told.data["code"].as_str().unwrap_or("-").to_owned());
        }
        codes
    }

    /// The reason by which the feed ends, which must be the next thing that it says.
    async fn end(&mut self) -> String {
        let told = self.next().await.expect("a reason");
        assert_eq!(told.name, "end");
        assert_eq!(self.next().await, None);
        told.data["reason"].as_str().unwrap().to_owned()
    }
}

async fn ask(door: &Router, token: &str, path: &str, last_id: Option<&str>) -> axum::response::Response {
    let mut request = Request::get(path).header("authorization", format!("Bearer {token}"));
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    door.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn problem(door: &Router, token: &str, path: &str, last_id: Option<&str>) -> (u16, String) {
    let response = ask(door, token, path, last_id).await;
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    (status, body["type"].as_str().unwrap().trim_start_matches("/problems/").to_owned())
}

fn path_of(patient: Uuid) -> String {
    format!("/v1/patients/{patient}/feed")
}

struct Ward {
    world: World,
    door: Router,
    stop: CancellationToken,
    id: Uuid,
    nurse: String,
}

impl Ward {
    async fn new(settings: &[&str]) -> Self {
        let (world, id, stop) = (World::new().await, Uuid::new_v4(), CancellationToken::new());
        world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
        let door = world.another_door(settings, &stop).await;
        let nurse = world.issuer.token(Role::Nurse);
        Self { world, door, stop, id, nurse }
    }

    async fn open(&self, last_id: Option<&str>) -> Client {
        Client::open(&self.door, &self.nurse, &path_of(self.id), last_id).await
    }

    /// The same as soon as there is a place.
    async fn open_when_free(&self, last_id: Option<&str>) -> Client {
        eventually("a place is free", PATIENCE, async || {
            let response = ask(&self.door, &self.nurse, &path_of(self.id), last_id).await;
            (response.status() == StatusCode::OK).then_some(())?;
            Some(Client::of(response).await)
        })
        .await
    }

    async fn record(&self, codes: impl IntoIterator<Item = usize>) {
        let condition = |code: usize| condition(Uuid::new_v4(), self.id, &code.to_string(), "active", "2020-01-01");
        self.world.record_only(codes.into_iter().map(condition)).await;
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Nothing but the notification of the checkpoint can wake this feed within the time that the test allows.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_once_the_timeline_has_it() {
    let world = World::new().await;
    let door = world.another_door(&["--feed-recheck-ms", "60000"], &CancellationToken::new()).await;
    let pipeline = Pipeline::start(&world).await;
    let id = Uuid::new_v4();
    let token = pipeline.append(id, "Patient", "Registered", patient(id, "Cormier", "Chi", "1959-07-30")).await;
    world.take_into_care(id).await;
    let nurse = world.issuer.token(Role::Nurse);
    let path = format!("{}?position={token}", path_of(id));
    let mut client = eventually("the feed opens", PATIENCE, async || {
        let response = ask(&door, &nurse, &path, None).await;
        (response.status() == StatusCode::OK).then_some(())?;
        Some(Client::of(response).await)
    })
    .await;
    for round in 0..20 {
        let resource = condition(Uuid::new_v4(), id, &round.to_string(), "active", "2020-01-01");
        let token = pipeline.append(id, "Condition", "Recorded", resource.clone()).await;
        let told = tokio::time::timeout(Duration::from_secs(20), client.next()).await.expect("it is woken").unwrap();
        assert_eq!(told.name, "change");
        assert_eq!((&told.data["id"], &told.data["position"]), (&resource["id"], &json!(token)));
        assert_eq!(told.data["title"], format!("display of {round}"));
        assert_eq!((&told.data["event"], &told.data["status"]), (&json!("Recorded"), &json!("active")));
    }
    pipeline.stop().await;
}

#[tokio::test]
async fn a_feed_goes_on_where_it_was_without_loss_or_repetition() {
    let ward = Ward::new(QUICK).await;
    // The first id counts even before anything has happened.
    let client = ward.open(None).await;
    let beginning = client.last_id.clone();
    drop(client);
    ward.record(0..3).await;
    let mut client = ward.open(Some(&beginning)).await;
    assert_eq!(client.codes(2).await, numbers(0..2));
    let middle = client.last_id.clone();
    drop(client);
    ward.record(3..150).await;
    // Another process, as far as the client can tell.
    let restarted = ward.world.another_door(QUICK, &ward.stop).await;
    let mut client = Client::open(&restarted, &ward.nurse, &path_of(ward.id), Some(&middle)).await;
    assert_eq!(client.codes(148).await, numbers(2..150));
    // Every event of a resource is told, not only what became of it.
    let resource = condition(Uuid::new_v4(), ward.id, "last", "active", "2020-01-01");
    let first = ward.world.recorded(resource.clone()).await;
    let amended = ward.world.event("Amended", resource, json!({"notes": []})).await;
    ward.world.apply(&[first, amended]).await;
    let told = [client.next().await.unwrap(), client.next().await.unwrap()];
    assert_eq!(told.map(|told| told.data["event"].clone()), [json!("Recorded"), json!("Amended")]);
}

#[tokio::test]
async fn an_id_of_another_feed_or_from_long_ago_is_refused() {
    let ward = Ward::new(QUICK).await;
    let other = Uuid::new_v4();
    ward.world.record([patient(other, "Cormier", "Lea", "1984-01-02")]).await;
    let client = ward.open(None).await;
    let asked = |id: Uuid, last: String| {
        let ward = &ward;
        async move { problem(&ward.door, &ward.nurse, &path_of(id), Some(&last)).await }
    };
    assert_eq!(asked(other, client.last_id.clone()).await, (400, "invalid-parameter".to_owned()));
    assert_eq!(asked(ward.id, "1042".to_owned()).await, (400, "invalid-parameter".to_owned()));
    ward.record(0..1_000).await;
    drop(ward.open(Some(&client.last_id)).await);
    ward.record(1_000..1_001).await;
    assert_eq!(asked(ward.id, client.last_id.clone()).await, (410, "feed-too-old".to_owned()));
}

#[tokio::test]
async fn a_feed_ends_with_the_care_for_the_patient() {
    let ward = Ward::new(QUICK).await;
    let mut client = ward.open(None).await;
    sqlx::query("update access_grants_v2.care set counts_until = now() where patient = $1")
        .bind(ward.id)
        .execute(&ward.world.read)
        .await
        .unwrap();
    ward.record(0..1).await;
    assert_eq!(client.end().await, "access-ended");
    assert_eq!(problem(&ward.door, &ward.nurse, &path_of(ward.id), None).await.0, 403);
}

#[tokio::test]
async fn a_feed_ends_with_a_consent_that_keeps_the_caller_out() {
    let ward = Ward::new(QUICK).await;
    let mut client = ward.open(None).await;
    ward.world.record_only([crate::access::consent(ward.id, json!({"type": "deny"}))]).await;
    assert_eq!(client.end().await, "access-ended");
}

#[tokio::test]
async fn what_the_caller_may_not_see_is_left_out() {
    let ward = Ward::new(QUICK).await;
    let mut client = ward.open(None).await;
    let hidden = condition(Uuid::new_v4(), ward.id, "hidden", "active", "2020-01-01");
    let shown = condition(Uuid::new_v4(), ward.id, "shown", "active", "2020-01-01");
    ward.world.record_only([crate::access::labelled(hidden, "R"), shown]).await;
    assert_eq!(client.codes(1).await, ["shown"]);
}

#[tokio::test]
async fn a_feed_ends_with_the_erasure_of_the_patient() {
    let ward = Ward::new(QUICK).await;
    let mut client = ward.open(None).await;
    sqlx::query("update subject_keys set state = 'erased', wrapped = null where subject = $1")
        .bind(ward.id)
        .execute(&ward.world.keys)
        .await
        .unwrap();
    ward.world.keyring.forget(ward.id);
    assert_eq!(client.end().await, "access-ended");
    assert_eq!(problem(&ward.door, &ward.nurse, &path_of(ward.id), None).await, (404, "not-found".to_owned()));
}

#[tokio::test]
async fn a_feed_ends_with_its_token_and_with_its_process() {
    let ward = Ward::new(QUICK).await;
    let mut claims = ward.world.issuer.claims("auditor", &[Role::Auditor], None);
    claims["exp"] = json!(claims["iat"].as_i64().unwrap() + 2);
    let mut brief = Client::open(&ward.door, &ward.world.issuer.mint(&claims), &path_of(ward.id), None).await;
    let mut client = ward.open(None).await;
    assert_eq!(brief.end().await, "token-expired");
    ward.stop.cancel();
    assert_eq!(client.end().await, "stopping");
}

#[tokio::test]
async fn feeds_are_bounded_per_caller_and_in_all() {
    let ward = Ward::new(&["--feed-recheck-ms", "20", "--feeds-per-caller", "2", "--feeds-max", "3"]).await;
    let (first, _second) = (ward.open(None).await, ward.open(None).await);
    let refused = (429, "too-many-feeds".to_owned());
    assert_eq!(problem(&ward.door, &ward.nurse, &path_of(ward.id), None).await, refused);
    let auditor = ward.world.issuer.token(Role::Auditor);
    let _third = Client::open(&ward.door, &auditor, &path_of(ward.id), None).await;
    let own = ward.world.issuer.patient_token(ward.id);
    assert_eq!(problem(&ward.door, &own, &path_of(ward.id), None).await, refused);
    drop(first);
    eventually("a place is free", PATIENCE, async || {
        (ask(&ward.door, &own, &path_of(ward.id), None).await.status() == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_loses_the_feed_and_goes_on_later() {
    let ward = Ward::new(&["--feed-recheck-ms", "20", "--feed-stall-ms", "50", "--feeds-per-caller", "1"]).await;
    let mut slow = ward.open(None).await;
    ward.record(0..300).await;
    // Its place is free although it has never gone away.
    let mut other = ward.open_when_free(None).await;
    ward.record(300..301).await;
    assert_eq!(other.codes(1).await, ["300"]);
    drop(other);
    // It finds what was waiting for it, and then the end; the rest comes when it asks again.
    let mut codes = Vec::new();
    while let Some(told) = slow.next().await {
        codes.push(told.data["code"].as_str().unwrap().to_owned());
    }
    assert!((1..300).contains(&codes.len()), "{} were held for it", codes.len());
    let mut again = ward.open_when_free(Some(&slow.last_id)).await;
    codes.extend(again.codes(301 - codes.len()).await);
    assert_eq!(codes, numbers(0..301));
}

#[tokio::test]
async fn a_feed_says_that_it_lives() {
    let ward = Ward::new(&["--feed-heartbeat-ms", "20"]).await;
    ward.open(None).await.heartbeat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_and_each_portion_of_it_is_in_the_access_log() {
    let access = AccessWorld::new().await;
    let (world, id) = (&access.world, Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let mut client = Client::open(&world.door, &world.issuer.token(Role::Nurse), &path_of(id), None).await;
    access.completed(1).await;
    for round in 0..2 {
        world.record_only([condition(Uuid::new_v4(), id, &round.to_string(), "active", "2020-01-01")]).await;
        assert_eq!(client.codes(1).await, [round.to_string()]);
        // What was told was recorded before.
        access.completed(2 + round).await;
    }
    let items = access.others(&format!("/v1/patients/{id}/accesses")).await;
    assert_eq!(items.len(), 3);
    for item in items {
        assert_eq!((&item["actor"], &item["route"]), (&json!("test-nurse"), &json!("/v1/patients/{id}/feed")));
        assert_eq!((&item["actions"], &item["outcome"]), (&json!(["ReadTimeline"]), &json!("success")));
    }
    access.end().await;
}

fn stay(id: Uuid, patient: Uuid, status: &str, ward: Uuid) -> Value {
    json!({"resourceType": "Encounter", "id": id, "status": status, "subject": reference("Patient", patient),
        "class": {"code": "IMP"}, "location": [{"location": reference("Location", ward)}]})
}

fn flag(id: Uuid, patient: Uuid, encounter: Uuid, risk: &str) -> Value {
    json!({"resourceType": "Flag", "id": id, "status": if risk == "low" { "inactive" } else { "active" },
        "subject": reference("Patient", patient), "encounter": reference("Encounter", encounter),
        "code": {"coding": [{"system": "urn:nexushealth:early-warning-risk", "code": risk},
            {"system": "urn:nexushealth:news2-score", "code": "7"}]}})
}

/// The family names in what is told of a ward, which must be of this kind.
#[track_caller]
fn families(told: &Told, kind: &str) -> Vec<String> {
    assert_eq!(told.name, kind);
    let items = told.data["items"].as_array().unwrap().iter();
    items.map(|item| item["person"]["name"][0]["family"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_ward_is_told_whenever_it_is_another_one() {
    let ward = Ward::new(QUICK).await;
    let (location, other, encounter) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let path = format!("/v1/wards/{location}/feed");
    let mut client = Client::open(&ward.door, &ward.nurse, &path, None).await;
    assert!(families(&client.next().await.unwrap(), "alerts").is_empty());
    assert!(families(&client.next().await.unwrap(), "census").is_empty());
    ward.world.record_only([stay(encounter, ward.id, "in-progress", location)]).await;
    assert_eq!(families(&client.next().await.unwrap(), "census"), ["Cormier"]);
    // What is as it was told is not told again.
    let mut again = Client::open(&ward.door, &ward.nurse, &path, Some(&client.last_id)).await;
    let more = json!({"location": other, "at": "2026-11-24T12:00:00Z"});
    let moved = ward.world.event("Transferred", stay(encounter, ward.id, "in-progress", other), more).await;
    ward.world.apply(&[moved]).await;
    assert!(families(&again.next().await.unwrap(), "census").is_empty());
    assert!(families(&client.next().await.unwrap(), "census").is_empty());
}

#[tokio::test]
async fn a_ward_is_told_who_has_to_be_looked_after() {
    let ward = Ward::new(QUICK).await;
    let (location, encounter, alert) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let path = format!("/v1/wards/{location}/feed");
    ward.world.record_only([stay(encounter, ward.id, "in-progress", location)]).await;
    let mut client = Client::open(&ward.door, &ward.nurse, &path, None).await;
    assert!(families(&client.next().await.unwrap(), "alerts").is_empty());
    assert_eq!(families(&client.next().await.unwrap(), "census"), ["Cormier"]);
    let assess = async |event: &str, risk: &str| {
        let event =
            ward.world.event_of("Alert", event, flag(alert, ward.id, encounter, risk), json!({"notes": []})).await;
        ward.world.apply(&[event]).await;
    };
    let risks = |told: &Told| {
        assert_eq!(told.name, "alerts");
        let items = told.data["items"].as_array().unwrap().iter();
        items.map(|item| item["risk"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assess("Raised", "medium").await;
    let told = client.next().await.unwrap();
    assert_eq!((risks(&told), families(&told, "alerts")), (vec!["medium".to_owned()], vec!["Cormier".to_owned()]));
    // Neither is told again after a break; what changed meanwhile is.
    let last = client.last_id.clone();
    assess("Escalated", "high").await;
    assert_eq!(risks(&client.next().await.unwrap()), ["high"]);
    let mut again = Client::open(&ward.door, &ward.nurse, &path, Some(&last)).await;
    assert_eq!(risks(&again.next().await.unwrap()), ["high"]);
    assess("Cleared", "low").await;
    assert!(risks(&client.next().await.unwrap()).is_empty());
    assert!(risks(&again.next().await.unwrap()).is_empty());
}

/// An app that was given the census is told the census, and no alert.
#[tokio::test]
async fn a_token_whose_scopes_do_not_cover_alerts_is_told_none() {
    let ward = Ward::new(QUICK).await;
    let (location, encounter) = (Uuid::new_v4(), Uuid::new_v4());
    let mut claims = ward.world.issuer.claims("nurse", &[Role::Nurse], None);
    claims["scope"] = json!("user/Encounter.rs");
    let app = ward.world.issuer.mint(&claims);
    let mut client = Client::open(&ward.door, &app, &format!("/v1/wards/{location}/feed"), None).await;
    assert!(families(&client.next().await.unwrap(), "census").is_empty());
    let started = ward.world.recorded(stay(encounter, ward.id, "in-progress", location)).await;
    let raised = flag(Uuid::new_v4(), ward.id, encounter, "high");
    let raised = ward.world.event_of("Alert", "Raised", raised, json!({"notes": []})).await;
    ward.world.apply(&[started, raised]).await;
    assert_eq!(families(&client.next().await.unwrap(), "census"), ["Cormier"]);
    ward.stop.cancel();
    assert_eq!(client.end().await, "stopping");
}

#[tokio::test]
async fn operators_follow_the_lag() {
    let ward = Ward::new(QUICK).await;
    let operator = ward.world.issuer.token(Role::Operator);
    let mut client = Client::open(&ward.door, &operator, "/v1/read-models/feed", None).await;
    assert_eq!(client.next().await.unwrap().data["items"], json!([]));
    sqlx::raw_sql(
        "insert into projection.checkpoints (read_model, version, partition, epoch, owner, position)
         select read_model, active_version, 3, 1, 'test', 40 from projection.versions where read_model = 'timeline';
         insert into projection.heads (log, partition, position) values ('events', 3, 42)",
    )
    .execute(&ward.world.read)
    .await
    .unwrap();
    let told = client.next().await.unwrap();
    assert_eq!((&told.data["items"][0]["readModel"], &told.data["items"][0]["lag"]), (&json!("timeline"), &json!(2)));
    let mut again = Client::open(&ward.door, &operator, "/v1/read-models/feed", Some(&client.last_id)).await;
    sqlx::raw_sql("update projection.checkpoints set position = 42").execute(&ward.world.read).await.unwrap();
    assert_eq!(again.next().await.unwrap().data["items"][0]["lag"], 0);
}
