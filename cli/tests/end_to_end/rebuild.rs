//! Every read model filled anew beside the one that is served, by the command that operators have, while others go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::stack::Stack;

/// How long commands are sent before the rebuild begins, to compare with.
const BEFORE: Duration = Duration::from_secs(30);
const COMMANDS_PER_SECOND: u32 = 500;
const QUERIES_PER_SECOND: u32 = 40;

/// Rebuilds all; each comes out equal and is switched to. Then the old ones go.
pub async fn comes_out_equal(stack: &Stack) {
    stack.wait_until_read_models_are_level().await;
    let printed = stack.nexus(&["projections", "rebuild", "all", "--json"]);
    let rebuilt = lines(&printed);
    assert_eq!(rebuilt.len(), nexus_projections::all_read_models().len());
    for it in &rebuilt {
        assert_eq!((&it["equal"], &it["switched"]), (&json!(true), &json!(true)), "{it}");
    }
    let versions: Value = serde_json::from_str(&stack.nexus(&["projections", "versions", "--json"])).unwrap();
    let kept: Vec<&Value> = versions.as_array().unwrap().iter().filter(|it| it["active"] == false).collect();
    assert_eq!(kept.len(), rebuilt.len(), "{versions}");
    for it in kept {
        let (name, version) = (it["readModel"].as_str().unwrap(), it["version"].to_string());
        stack.nexus(&["projections", "drop", name, "--version", &version]);
    }
    stack.ready_status().await;
}

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same under load, with figures: how long commands take with and without it. No query may fail.
pub async fn disturbs_nobody(stack: Arc<Stack>, patients: &[&str], share: &str) {
    stack.wait_until_read_models_are_level().await;
    let load = Load::start(stack.clone(), patients);
    tokio::time::sleep(BEFORE).await;
    let began = Instant::now();
    let rebuilding = stack.clone();
    let share = share.to_owned();
    let printed = tokio::task::spawn_blocking(move || {
        rebuilding.nexus(&["projections", "rebuild", "all", "--json", "--share", &share])
    });
    let printed = printed.await.unwrap();
    let ended = Instant::now();
    let Measured { commands, queries } = load.end().await;
    for it in lines(&printed) {
        let (name, seconds) = (it["readModel"].as_str().unwrap(), it["seconds"].as_f64().unwrap());
        println!("{name:<20} {:>8} events  {seconds:>6.1} s", it["events"].to_string());
        assert_eq!((&it["equal"], &it["switched"]), (&json!(true), &json!(true)), "{it}");
    }
    let failed = |answers: &[Answer]| answers.iter().filter(|it| !it.status.is_success()).count();
    let is_during = |it: &&Answer| it.at >= began && it.at < ended;
    let (during, before): (Vec<&Answer>, Vec<&Answer>) =
        commands.iter().filter(|it| it.at < ended).partition(is_during);
    let [p99_before, p99_during] = [&before, &during].map(|answers| quantile(answers, 0.99));
    println!(
        "commands: {} before ({:.0}/s, p50 {:.1} ms, p99 {p99_before:.1} ms), {} during ({:.0}/s, p50 {:.1} ms, p99 \
         {p99_during:.1} ms): p99 {:.2} times; {} failed",
        before.len(),
        before.len() as f64 / BEFORE.as_secs_f64(),
        quantile(&before, 0.5),
        during.len(),
        during.len() as f64 / (ended - began).as_secs_f64(),
        quantile(&during, 0.5),
        p99_during / p99_before,
        failed(&commands)
    );
    println!("queries: {}, of which {} failed", queries.len(), failed(&queries));
    assert_eq!((failed(&queries), failed(&commands)), (0, 0));
    assert!(queries.len() > 500, "too few to say anything");
}

struct Answer {
    at: Instant,
    took: Duration,
    status: StatusCode,
}

fn quantile(answers: &[&Answer], quantile: f64) -> f64 {
    let mut times: Vec<f64> = answers.iter().map(|it| it.took.as_secs_f64() * 1_000.0).collect();
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * quantile) as usize]
}

/// Clients that send at their own pace, whatever the answers do.
struct Load {
    stop: CancellationToken,
    commands: tokio::task::JoinHandle<Vec<Answer>>,
    queries: tokio::task::JoinHandle<Vec<Answer>>,
}

struct Measured {
    commands: Vec<Answer>,
    queries: Vec<Answer>,
}

impl Load {
    fn start(stack: Arc<Stack>, patients: &[&str]) -> Self {
        let stop = CancellationToken::new();
        let token: Arc<str> = stack.token("service").into();
        let patients: Arc<[String]> = patients.iter().map(|id| (*id).to_owned()).collect();
        let (write, read) = (stack.write_door(), stack.read_door());
        let observation = json!({
            "code": {"system": "http://loinc.org", "code": "8867-4"},
            "value": {"value": 72, "unit": "beats/minute", "code": "/min"},
        });
        let (http, ids, bearer) = (stack.http.clone(), patients.clone(), token.clone());
        let command = move |number: usize| {
            let patient = &ids[number % ids.len()];
            let request = http.post(format!("{write}/v1/patients/{patient}/observations"));
            request.bearer_auth(&bearer).header("Idempotency-Key", Uuid::new_v4().to_string()).json(&observation)
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
            http.get(format!("{read}{path}")).bearer_auth(&token)
        };
        let commands = tokio::spawn(paced(COMMANDS_PER_SECOND, command, stop.clone()));
        Self { commands, queries: tokio::spawn(paced(QUERIES_PER_SECOND, query, stop.clone())), stop }
    }

    async fn end(self) -> Measured {
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
