//! Commands and queries at a pace of their own, and how long they take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::stack::Stack;

const COMMANDS_PER_SECOND: u32 = 500;
const QUERIES_PER_SECOND: u32 = 40;
/// The first requests of each patient find nothing in any cache: they count for nothing.
const WARM_UP: Duration = Duration::from_secs(15);

/// What became of a request.
pub struct Answer {
    at: Instant,
    took: Duration,
    status: StatusCode,
}

/// The answers to requests that were due in this time.
pub fn between(answers: &[Answer], from: Instant, until: Instant) -> Vec<&Answer> {
    answers.iter().filter(|it| it.at >= from && it.at < until).collect()
}

/// How many answers there were of each status that is no success.
pub fn failed(answers: &[Answer]) -> BTreeMap<StatusCode, usize> {
    let mut failed = BTreeMap::new();
    for Answer { status, .. } in answers.iter().filter(|it| !it.status.is_success()) {
        *failed.entry(*status).or_default() += 1;
    }
    failed
}

/// How many answers in how long, and how long they took.
pub fn said(when: &str, answers: &[&Answer], within: Duration) -> String {
    let [p50, p99] = [0.5, 0.99].map(|it| quantile(answers, it));
    let rate = answers.len() as f64 / within.as_secs_f64();
    format!("commands {when}: {} ({rate:.0}/s), p50 {p50:.1} ms, p99 {p99:.1} ms", answers.len())
}

/// In milliseconds.
pub fn quantile(answers: &[&Answer], quantile: f64) -> f64 {
    let mut times: Vec<f64> = answers.iter().map(|it| it.took.as_secs_f64() * 1_000.0).collect();
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * quantile) as usize]
}

/// Clients that send at their own pace, whatever the answers do.
pub struct Load {
    stop: CancellationToken,
    commands: tokio::task::JoinHandle<Vec<Answer>>,
    queries: tokio::task::JoinHandle<Vec<Answer>>,
}

pub struct Measured {
    pub commands: Vec<Answer>,
    pub queries: Vec<Answer>,
}

impl Load {
    /// Of living patients, who come to where the demo accounts work.
    pub async fn start(stack: Arc<Stack>, patients: &[&str]) -> Self {
        stack.take_into_care(patients).await;
        stack.wait_until_read_models_are_level().await;
        let stop = CancellationToken::new();
        let [service, nurse] = ["service", "nurse"].map(|role| stack.token(role));
        let patients: Arc<[String]> = patients.iter().map(|id| (*id).to_owned()).collect();
        let (write, read) = (stack.write_door(), stack.read_door());
        let observation = json!({
            "code": {"system": "http://loinc.org", "code": "8867-4"},
            "value": {"value": 72, "unit": "beats/minute", "code": "/min"},
        });
        let (http, ids) = (stack.http.clone(), patients.clone());
        let command = move |number: usize| {
            let patient = &ids[number % ids.len()];
            let request = http.post(format!("{write}/v1/patients/{patient}/observations"));
            request.bearer_auth(&service).header("Idempotency-Key", Uuid::new_v4().to_string()).json(&observation)
        };
        let http = stack.http.clone();
        let query = move |number: usize| {
            let patient = &patients[number % patients.len()];
            let path = match number % 4 {
                0 => format!("/v1/patients/{patient}/timeline"),
                1 => format!("/v1/patients/{patient}/chart"),
                2 => format!("/v1/patients/{patient}/vital-signs?code=8867-4"),
                _ => format!("/fhir/Patient/{patient}"),
            };
            http.get(format!("{read}{path}")).bearer_auth(&nurse)
        };
        let commands = tokio::spawn(paced(COMMANDS_PER_SECOND, command, stop.clone()));
        let queries = tokio::spawn(paced(QUERIES_PER_SECOND, query, stop.clone()));
        tokio::time::sleep(WARM_UP).await;
        Self { commands, queries, stop }
    }

    pub async fn end(self) -> Measured {
        self.stop.cancel();
        Measured { commands: self.commands.await.unwrap(), queries: self.queries.await.unwrap() }
    }
}

/// Times count from when a request was due, so that whoever waits for another's answer is not left out.
async fn paced(
    per_second: u32,
    request: impl Fn(usize) -> reqwest::RequestBuilder,
    stop: CancellationToken,
) -> Vec<Answer> {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut under_way = tokio::task::JoinSet::new();
    let started = Instant::now();
    for number in 0.. {
        let due = started + Duration::from_secs(1) / per_second * number;
        if stop.run_until_cancelled(tokio::time::sleep_until(due.into())).await.is_none() {
            break;
        }
        let (request, answers) = (request(number as usize), answers.clone());
        under_way.spawn(async move {
            let status = request.send().await.map_or(StatusCode::BAD_GATEWAY, |answer| answer.status());
            answers.lock().await.push(Answer { at: due, took: due.elapsed(), status });
        });
    }
    under_way.join_all().await;
    Arc::into_inner(answers).unwrap().into_inner()
}
