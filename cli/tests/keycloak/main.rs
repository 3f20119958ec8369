//! A stack whose tokens Keycloak signs: a nurse signs in on its page in a real browser, with a second factor, and works
//! with both doors; services prove themselves with a key; Keycloak dies and rotates its keys, and nobody notices.
//!
//! Takes minutes and needs Chromium, so it runs when asked for:
//! `cargo test --release -p nexus-cli --test keycloak -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod browser;
mod realm;
#[path = "../end_to_end/stack.rs"]
#[expect(dead_code, reason = "the other test uses the rest")]
mod stack;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nexus_auth::testing::Holder;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use browser::Browser;
use realm::{Realm, SignIn};
use stack::{HOSPITAL, Stack};

/// For whatever is waited for.
pub const DEADLINE: Duration = Duration::from_secs(240);
const PASSWORD: &str = "correct horse battery";
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How many requests must succeed at least while Keycloak is away, and after each rotation of its keys.
const REQUESTS: usize = 300;
/// How many ask at a time.
const CALLERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs Chromium"]
async fn people_and_services_come_through_keycloak() {
    let stack = Stack::start(&["--idp=keycloak"]).await;
    let patient = register_a_patient(&stack).await;
    let realm = Realm::of(&stack).await;
    realm.add_person("anna", PASSWORD, "nurse", HOSPITAL).await;

    let (tokens, holder, secret) = sign_in_for_the_first_time(&realm).await;
    work_with_both_doors(&stack, &tokens, &holder, patient).await;
    refresh_once_and_never_twice(&realm, &tokens, &holder).await;
    sign_in_again(&realm, &secret).await;
    assert_eq!(realm.by_password_alone("anna", PASSWORD).await, 401, "there is no way around the second factor");

    survive_its_death(&stack, patient).await;
    survive_a_rotation(&stack, &Realm::of(&stack).await, patient).await;
    stack.down().await;
}

/// `nexus token` proves itself to Keycloak with a key; the registrar's token opens the write door.
async fn register_a_patient(stack: &Stack) -> Uuid {
    let body = patient_named("Example");
    let request = stack.http.post(format!("{}/v1/patients", stack.write_door())).json(&body);
    let request = request.bearer_auth(stack.token("registrar")).header("idempotency-key", Uuid::new_v4().to_string());
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 201);
    response.json::<Value>().await.unwrap()["id"].as_str().unwrap().parse().unwrap()
}

fn patient_named(family: &str) -> Value {
    json!({
        "identifiers": [{"type": "MR", "system": "urn:oid:2.16.840.1.113883.19.5", "value": "keycloak-1"}],
        "names": [{"family": family, "given": ["Ada"]}], "gender": "female", "birthDate": "1985-04-12",
    })
}

/// A password, then a second factor that must be set up before anything else. Answers its secret as well.
async fn sign_in_for_the_first_time(realm: &Realm) -> (Value, Holder, String) {
    let (browser, holder) = (Browser::start().await, Holder::generate());
    let sign_in = SignIn::begin(realm, Some(&holder));
    browser.go(&sign_in.url).await;
    browser.type_into("#username", "anna").await;
    browser.type_into("#password", "not the password").await;
    browser.click("#kc-login").await;
    browser.find("#input-error-username").await;
    browser.type_into("#username", "anna").await;
    browser.type_into("#password", PASSWORD).await;
    browser.click("#kc-login").await;
    browser.click("#mode-manual").await;
    let secret = browser.text("#kc-totp-secret-key").await.replace(' ', "");
    browser.type_into("#totp", &browser.totp(&secret, 0).await).await;
    browser.type_into("#userLabel", "of a test").await;
    browser.click("#saveTOTPBtn").await;
    let tokens = sign_in.finish(realm, &browser, Some(&holder)).await;
    assert_eq!(tokens["token_type"], "DPoP");
    (tokens, holder, secret)
}

/// With the second factor that is there now. The code of the next time step, because each is good once.
async fn sign_in_again(realm: &Realm, secret: &str) {
    let browser = Browser::start().await;
    let sign_in = SignIn::begin(realm, None);
    browser.go(&sign_in.url).await;
    browser.type_into("#username", "anna").await;
    browser.type_into("#password", PASSWORD).await;
    browser.click("#kc-login").await;
    browser.type_into("#otp", "000000").await;
    browser.click("#kc-login").await;
    browser.find("#input-error-otp").await;
    browser.type_into("#otp", &browser.totp(secret, 1).await).await;
    browser.click("#kc-login").await;
    let tokens = sign_in.finish(realm, &browser, None).await;
    assert_eq!(tokens["token_type"], "Bearer");
}

async fn work_with_both_doors(stack: &Stack, tokens: &Value, holder: &Holder, patient: Uuid) {
    let token = tokens["access_token"].as_str().unwrap();
    let send = async |method: Method, url: String, scheme: &str, position: Option<&str>, body: Option<&Value>| {
        let proof = holder.proof(method.as_str(), url.split('?').next().unwrap(), token);
        let mut request = stack.http.request(method, &url).header("dpop", proof);
        request = request.header("authorization", format!("{scheme} {token}"));
        if let Some(position) = position {
            request = request.header("nexus-position", position);
        }
        if let Some(body) = body {
            request = request.json(body).header("idempotency-key", Uuid::new_v4().to_string());
        }
        request.send().await.unwrap()
    };
    // Where she works is a claim of her token: it makes her one of those who treat the patient.
    let encounter = json!({"organization": HOSPITAL,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}});
    let url = format!("{}/v1/patients/{patient}/encounters", stack.write_door());
    assert_eq!(send(Method::POST, url, "DPoP", None, Some(&encounter)).await.status(), 201);
    let observation = json!({
        "code": {"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"},
        "value": {"value": 72, "unit": "beats/minute", "code": "/min"},
    });
    let url = format!("{}/v1/patients/{patient}/observations", stack.write_door());
    let written = send(Method::POST, url, "DPoP", None, Some(&observation)).await;
    assert_eq!(written.status(), 201);
    let position = written.headers()["nexus-position"].to_str().unwrap();
    let url = format!("{}/v1/patients/{patient}/vital-signs?code=8867-4&limit=1", stack.read_door());
    let read = send(Method::GET, url.clone(), "DPoP", Some(position), None).await;
    assert_eq!(read.status(), 200);
    assert!(read.text().await.unwrap().contains("8867-4"));

    let downgraded = send(Method::GET, url, "Bearer", None, None).await;
    assert_eq!(rule(downgraded).await, "proof-missing", "without its proof the token is worth nothing");
    let id_token = tokens["id_token"].as_str().unwrap();
    let response = stack.http.get(format!("{}/v1/patients/{patient}", stack.read_door())).bearer_auth(id_token);
    assert_eq!(response.send().await.unwrap().status(), 401, "an id token opens no door");
}

async fn rule(response: Response) -> String {
    assert_eq!(response.status(), 401);
    response.json::<Value>().await.unwrap()["rule"].as_str().unwrap().to_owned()
}

async fn refresh_once_and_never_twice(realm: &Realm, tokens: &Value, holder: &Holder) {
    let token = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(realm.refresh(token, holder).await, 200);
    assert_eq!(realm.refresh(token, holder).await, 400, "a refresh token is good once");
}

/// Known tokens and new ones, at both doors, while the process dies, is dead, and until it is back.
async fn survive_its_death(stack: &Stack, patient: Uuid) {
    let tokens = Tokens { read: stack.token("nurse"), write: stack.token("registrar") };
    under_load(stack, &tokens, patient, async {
        let pid = stack.pids().await["keycloak"];
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        let started = Instant::now();
        while stack.pids().await["keycloak"] == pid {
            assert!(started.elapsed() < DEADLINE);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    })
    .await;
    let again = Tokens { read: stack.token("nurse"), write: stack.token("registrar") };
    under_load(stack, &again, patient, async {}).await;
}

/// Tokens of the old key and of the new one, at both doors, while the key is replaced and afterwards.
async fn survive_a_rotation(stack: &Stack, realm: &Realm, patient: Uuid) {
    let before = Tokens { read: stack.token("nurse"), write: stack.token("registrar") };
    under_load(stack, &before, patient, realm.add_signing_key()).await;
    let after = Tokens { read: stack.token("nurse"), write: stack.token("registrar") };
    assert_ne!(realm::key_id(&before.read), realm::key_id(&after.read), "another key signs now");
    under_load(stack, &after, patient, async {}).await;
    under_load(stack, &before, patient, async {}).await;
}

/// Of somebody who may look up a patient, and of somebody who may register one.
struct Tokens {
    read: String,
    write: String,
}

/// Callers ask both doors all the while, [`REQUESTS`] times at least. Not one request may fail.
async fn under_load(stack: &Stack, tokens: &Tokens, patient: Uuid, work: impl Future<Output = ()>) {
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let caller = async || {
        while !(over.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) >= REQUESTS) {
            let read = stack.http.get(format!("{}/v1/patients/{patient}", stack.read_door())).bearer_auth(&tokens.read);
            assert_eq!(stack.send(read).await.status(), 200);
            let mut body = patient_named("Load");
            body["identifiers"][0]["value"] = Uuid::new_v4().to_string().into();
            let write = stack.http.post(format!("{}/v1/patients", stack.write_door())).bearer_auth(&tokens.write);
            let write = write.header("idempotency-key", Uuid::new_v4().to_string()).json(&body);
            assert_eq!(stack.send(write).await.status(), 201);
            answered.fetch_add(2, Ordering::Relaxed);
        }
    };
    let callers = futures::future::join_all((0..CALLERS).map(|_| caller()));
    let work = async {
        work.await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(callers, work);
}
