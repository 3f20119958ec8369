//! The clients: each a session that writes, amends and reads, and repeats with the same key what it does not know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::history::{Action, Operation, Outcome, Place, Version};
use super::random::Random;

/// Longer than a busy stack takes, shorter than a pause: what is not answered then is not known.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a read waits for the write it is to show: so long that an answer still comes in time.
const READ_WAIT_MS: u64 = 3_000;
const RETRY_PAUSE_MS: (u64, u64) = (50, 400);
/// How many of its patients and observations a client goes on with.
const REMEMBERED: usize = 16;
/// How often a client gives up on what was definitely not done, in a hundred.
const GIVE_UP_PERCENT: u64 = 30;

/// What all clients share.
pub struct World {
    pub http: Client,
    pub token: String,
    pub write_doors: Vec<String>,
    pub read_doors: Vec<String>,
    pub started: Instant,
    /// The clients finish what they have begun, and begin no more.
    pub ending: AtomicBool,
    /// Nothing is repeated any more.
    pub over: AtomicBool,
    pub done: AtomicU64,
    pub history: Mutex<Vec<Operation>>,
    /// Numbers that somebody has claimed, to be claimed again.
    pub claimed: Mutex<Vec<String>>,
}

/// What one try was told.
enum Told {
    Outcome(Outcome),
    /// Nothing was done this time.
    NotNow(String),
    Unknown,
}

/// What a client knows of a resource that it wrote.
#[derive(Clone)]
struct Known {
    resource_type: &'static str,
    id: Uuid,
    /// What it has written last: what a read with the position has to show.
    written: i64,
    /// What it has read: no later read may show less.
    seen: i64,
    position: String,
}

/// One session.
pub struct Session {
    world: Arc<World>,
    number: usize,
    random: Random,
    patients: Vec<Known>,
    observations: Vec<Known>,
}

/// A request to be sent until its outcome is known.
struct Request {
    action: Action,
    path: String,
    body: Option<Value>,
    if_match: Option<i64>,
    position: Option<String>,
    mrn: Option<String>,
    read: Option<Known>,
}

impl Session {
    pub fn new(world: Arc<World>, number: usize, seed: u64) -> Self {
        let random = Random::new(seed.wrapping_add(1_000 + u64::try_from(number).unwrap_or_default()));
        Self { world, number, random, patients: Vec::new(), observations: Vec::new() }
    }

    /// One operation after the other, no more often than once in `interval`.
    pub async fn run(mut self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.world.ending.load(Ordering::Relaxed) {
            ticks.tick().await;
            let request = self.next_request();
            self.perform(request).await;
        }
    }

    fn next_request(&mut self) -> Request {
        let choice = self.random.between(0, 99);
        let patient = self.random.pick(&self.patients).cloned();
        let observation = self.random.pick(&self.observations).cloned();
        match (choice, patient, observation) {
            (0..=7, _, _) | (_, None, _) => self.register(),
            (8, Some(patient), _) => admit(&patient),
            (9..=44, Some(patient), _) | (_, Some(patient), None) => self.record(&patient),
            (45..=69, _, Some(observation)) => self.amend(&observation),
            (70..=84, _, Some(known)) => read(Action::ReadOwn, known),
            (_, _, Some(known)) => read(Action::Read, known),
        }
    }

    fn register(&mut self) -> Request {
        let fresh = format!("C{}-{:016x}", self.number, self.random.next());
        let mut claimed = self.world.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the youngest, so that some claims meet while both are under way.
        let recent = claimed.len().saturating_sub(8);
        let taken = self.random.pick(&claimed[recent..]).cloned().filter(|_| self.random.percent(25));
        let action = if taken.is_some() { Action::RegisterDuplicate } else { Action::Register };
        let mrn = taken.unwrap_or_else(|| {
            claimed.push(fresh.clone());
            fresh
        });
        let body = json!({
            "identifiers": [{ "type": "MR", "system": "urn:oid:2.16.840.1.113883.19.5", "value": mrn }],
            "names": [{ "family": "Example", "given": ["Chaos"] }],
            "gender": "other",
            "birthDate": "1985-04-12",
        });
        Request { mrn: Some(mrn), ..write(action, "/v1/patients".to_owned(), body) }
    }

    fn record(&mut self, patient: &Known) -> Request {
        let body = self.observation();
        write(Action::Record, format!("/v1/patients/{}/observations", patient.id), body)
    }

    fn amend(&mut self, observation: &Known) -> Request {
        let path = format!("/v1/observations/{}/amend", observation.id);
        let body = self.observation();
        if self.random.percent(50) {
            return write(Action::Amend, path, body);
        }
        // Sometimes an old version, which has to be refused.
        let is_stale = observation.written > 1 && self.random.percent(20);
        let version = observation.written - i64::from(is_stale);
        Request { if_match: Some(version), ..write(Action::AmendIfMatch, path, body) }
    }

    fn observation(&mut self) -> Value {
        json!({
            "code": { "system": "http://loinc.org", "code": "8867-4", "display": "Heart rate" },
            "category": "vital-signs",
            "value": { "value": self.random.between(40, 180), "unit": "beats/minute", "code": "/min" },
            // No two say the same: an amendment that changes nothing would have no event.
            "note": format!("{:016x}", self.random.next()),
        })
    }

    /// Sends it until its outcome is known, and remembers it.
    async fn perform(&mut self, request: Request) {
        let key = Uuid::new_v4().to_string();
        let started_ms = self.world.now_ms();
        let (mut tries, mut unknown) = (0, 0);
        let outcome = loop {
            tries += 1;
            match self.attempt(&request, &key).await {
                Told::Outcome(outcome) => break outcome,
                Told::NotNow(problem) if unknown == 0 && self.gives_up(&request) => break Outcome::Refused { problem },
                Told::NotNow(_) => {}
                Told::Unknown if request.read.is_some() => {
                    break Outcome::Refused { problem: "no-answer".to_owned() };
                }
                Told::Unknown => unknown += 1,
            }
            if self.world.over.load(Ordering::Relaxed) {
                break Outcome::Unknown;
            }
            let pause = self.random.between(RETRY_PAUSE_MS.0, RETRY_PAUSE_MS.1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        };
        let at_least = request.read.as_ref().map(|known| match request.action {
            Action::ReadOwn => known.seen.max(known.written),
            _ => known.seen,
        });
        self.learn(&outcome);
        let ended_ms = self.world.now_ms();
        let (client, action, mrn) = (self.number, request.action, request.mrn);
        self.world.record(Operation { client, action, started_ms, ended_ms, tries, unknown, mrn, at_least, outcome });
    }

    /// A read says the same later; a write that was definitely not done may stay so.
    fn gives_up(&mut self, request: &Request) -> bool {
        request.read.is_some() || self.random.percent(GIVE_UP_PERCENT) || self.world.over.load(Ordering::Relaxed)
    }

    async fn attempt(&mut self, request: &Request, key: &str) -> Told {
        let doors = if request.read.is_some() { &self.world.read_doors } else { &self.world.write_doors };
        let Some(door) = self.random.pick(doors) else { return Told::Unknown };
        let sent = self.world.build(request, door, key).send().await;
        match sent {
            Ok(response) => understand(request, response).await,
            Err(_) => Told::Unknown,
        }
    }

    fn learn(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted { version, place } => {
                let (resource_type, list) = match version.resource_type.as_str() {
                    "Patient" => ("Patient", &mut self.patients),
                    "Observation" => ("Observation", &mut self.observations),
                    _ => return,
                };
                let before = list.iter().position(|known| known.id == version.id).map(|index| list.remove(index));
                if list.len() == REMEMBERED {
                    list.remove(0);
                }
                list.push(Known {
                    resource_type,
                    id: version.id,
                    written: version.sequence,
                    seen: before.map_or(0, |known| known.seen),
                    position: format!("{}-{}", place.partition, place.position),
                });
            }
            Outcome::Seen { version } => {
                if let Some(known) = self.observations.iter_mut().find(|known| known.id == version.id) {
                    known.seen = known.seen.max(version.sequence);
                }
            }
            _ => {}
        }
    }
}

impl World {
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn record(&self, operation: Operation) {
        if operation.is_ok() {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    fn build(&self, request: &Request, door: &str, key: &str) -> RequestBuilder {
        let url = format!("{door}{}", request.path);
        let mut builder = match &request.body {
            Some(body) => self.http.post(url).header("idempotency-key", key).json(body),
            None => self.http.get(url),
        };
        builder = builder.bearer_auth(&self.token).timeout(ATTEMPT_TIMEOUT);
        if let Some(version) = request.if_match {
            builder = builder.header("if-match", format!("\"{version}\""));
        }
        if let Some(position) = &request.position {
            builder = builder.header("nexus-position", position).header("nexus-wait-ms", READ_WAIT_MS);
        }
        builder
    }
}

fn write(action: Action, path: String, body: Value) -> Request {
    Request { action, path, body: Some(body), if_match: None, position: None, mrn: None, read: None }
}

fn admit(patient: &Known) -> Request {
    let class = json!({ "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP" });
    write(Action::Admit, format!("/v1/patients/{}/encounters", patient.id), json!({ "class": class }))
}

fn read(action: Action, known: Known) -> Request {
    let path = format!("/fhir/{}/{}", known.resource_type, known.id);
    let position = (action == Action::ReadOwn).then(|| known.position.clone());
    Request { action, path, body: None, if_match: None, position, mrn: None, read: Some(known) }
}

async fn understand(request: &Request, response: Response) -> Told {
    let status = response.status();
    let position = response.headers().get("nexus-position").and_then(|it| it.to_str().ok()).map(str::to_owned);
    // An answer that was cut off says nothing.
    let Ok(body) = response.bytes().await else { return Told::Unknown };
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return Told::Unknown };
    match (status, &request.read) {
        (StatusCode::OK | StatusCode::CREATED, None) => accepted(&body, position.as_deref()),
        (StatusCode::OK, Some(known)) => seen(&body, known),
        (StatusCode::NOT_FOUND, Some(known)) => {
            Told::Outcome(Outcome::Absent { resource_type: known.resource_type.to_owned(), id: known.id })
        }
        _ => problem(status, &body),
    }
}

fn accepted(body: &Value, position: Option<&str>) -> Told {
    let read = || {
        let version = Version {
            resource_type: body["type"].as_str()?.to_owned(),
            id: body["id"].as_str()?.parse().ok()?,
            sequence: body["sequence"].as_i64()?,
        };
        let Some(position) = position else {
            return Some(Outcome::Refused { problem: "nothing-to-store".to_owned() });
        };
        Some(Outcome::Accepted { version, place: Place::parse(position)? })
    };
    read().map_or(Told::Unknown, Told::Outcome)
}

fn seen(body: &Value, known: &Known) -> Told {
    let sequence = body["meta"]["versionId"].as_str().and_then(|text| text.parse().ok());
    let Some(sequence) = sequence else { return Told::Unknown };
    let resource_type = known.resource_type.to_owned();
    Told::Outcome(Outcome::Seen { version: Version { resource_type, id: known.id, sequence } })
}

/// What a problem says about whether something was done; see `docs/problems`.
fn problem(status: StatusCode, body: &Value) -> Told {
    let Some(name) = body["type"].as_str().and_then(|text| text.rsplit('/').next()) else { return Told::Unknown };
    match (status.as_u16(), name) {
        // The first try is still at work.
        (_, "idempotency-in-flight") | (500 | 504, "internal" | "outcome-unknown") => Told::Unknown,
        (401 | 429 | 503, _) | (504, "read-model-behind") => Told::NotNow(name.to_owned()),
        (400..=499, _) => Told::Outcome(Outcome::Refused { problem: name.to_owned() }),
        _ => Told::Unknown,
    }
}

/// How often each problem was the end of it.
pub fn refusals(history: &[Operation]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for operation in history {
        if let Outcome::Refused { problem } = &operation.outcome {
            *counts.entry(problem.clone()).or_default() += 1;
        }
    }
    counts
}
