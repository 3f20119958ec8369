//! The built-in issuer over HTTP, and its files.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use nexus_auth::{
    Role,
    issuer::{Client, ClientsFile, Issuer, IssuerConfig, KeyError, SigningKeys, secret_hash},
    testing::{SECRET, TestIssuer},
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

async fn post(issuer: &TestIssuer, form: &[(&str, &str)], basic: Option<(&str, &str)>) -> Response {
    let mut request = reqwest::Client::new().post(format!("{}/token", issuer.url())).form(form);
    if let Some((id, secret)) = basic {
        request = request.basic_auth(id, Some(secret));
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn both_ways_to_prove_who_you_are_give_a_token_that_verifies() {
    let issuer = TestIssuer::start().await;
    let verifier = issuer.verifier().await;
    let grant = ("grant_type", "client_credentials");
    let by_form = post(&issuer, &[grant, ("client_id", "nurse"), ("client_secret", SECRET)], None).await;
    let by_basic = post(&issuer, &[grant], Some(("nurse", SECRET))).await;
    for response in [by_form, by_basic] {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"].as_i64(), Some(3600));
        let caller = verifier.verify(body["access_token"].as_str().unwrap()).await.unwrap();
        assert!(caller.has(Role::Nurse));
        assert_eq!(caller.id(), "nurse");
    }
}

#[tokio::test]
async fn refusals_have_the_form_of_rfc_6749() {
    let issuer = TestIssuer::start().await;
    let grant = ("grant_type", "client_credentials");
    let id = ("client_id", "nurse");
    let secret = ("client_secret", SECRET);
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<(&'a str, &'a str)>, u16, &'a str);
    let table: Vec<Case<'_>> = vec![
        ("wrong secret", vec![grant, id, ("client_secret", "guess")], None, 401, "invalid_client"),
        ("empty secret", vec![grant, id, ("client_secret", "")], None, 401, "invalid_client"),
        ("unknown account", vec![grant, ("client_id", "root"), secret], None, 401, "invalid_client"),
        ("no credentials", vec![grant], None, 401, "invalid_client"),
        ("wrong secret by header", vec![grant], Some(("nurse", "guess")), 401, "invalid_client"),
        ("both ways at once", vec![grant, secret], Some(("nurse", SECRET)), 400, "invalid_request"),
        ("two different ids", vec![grant, ("client_id", "physician")], Some(("nurse", SECRET)), 400, "invalid_request"),
        ("no grant type", vec![id, secret], None, 400, "invalid_request"),
        ("repeated parameter", vec![grant, id, id, secret], None, 400, "invalid_request"),
        ("password grant", vec![("grant_type", "password"), id, secret], None, 400, "unsupported_grant_type"),
        ("scope it does not have", vec![grant, id, secret, ("scope", "system/*.cruds")], None, 400, "invalid_scope"),
    ];
    for (name, form, basic, status, error) in table {
        let response = post(&issuer, &form, basic).await;
        assert_eq!(response.status().as_u16(), status, "{name}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401 && basic.is_some(), "{name}");
        assert_eq!(response.json::<Value>().await.unwrap(), json!({"error": error}), "{name}");
    }
}

#[tokio::test]
async fn the_discovery_document_leads_to_keys_without_secrets() {
    let issuer = TestIssuer::start().await;
    let get = async |url: String| reqwest::get(url).await.unwrap().json::<Value>().await.unwrap();
    let discovery = get(format!("{}/.well-known/openid-configuration", issuer.url())).await;
    assert_eq!(discovery["issuer"], issuer.url());
    let keys = get(discovery["jwks_uri"].as_str().unwrap().to_owned()).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert!(keys["keys"][0].get("d").is_none(), "the private half stays at home");
    let about = get(issuer.url().to_owned()).await;
    assert_eq!(about["service"], "auth");
}

#[test]
fn the_key_file_is_made_once_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.pem");
    let first = SigningKeys::load_or_generate(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = SigningKeys::load_or_generate(&path).unwrap();
    assert_eq!(first.current().id(), second.current().id());

    second.rotate().unwrap();
    second.write(&path).unwrap();
    let third = SigningKeys::load_or_generate(&path).unwrap();
    assert_eq!(third.public_set(), second.public_set(), "former keys stay published");
    assert_ne!(third.current().id(), first.current().id());

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SigningKeys::load_or_generate(&path), Err(KeyError::ReadableByOthers)));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "not a key").unwrap();
    assert!(matches!(SigningKeys::load_or_generate(&path), Err(KeyError::Malformed)));
}

#[test]
fn secrets_of_keys_are_not_shown() {
    let key = SigningKeys::ephemeral().unwrap().current();
    let shown = format!("{key:?}");
    assert!(shown.starts_with("SigningKey { id:") && shown.ends_with(".. }"), "{shown}");
}

#[test]
fn accounts_come_and_go_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.json");
    write_accounts(&path, &["one"]);
    let clients = ClientsFile::open(&path).unwrap();
    assert!(clients.authenticate("one", SECRET).is_some());
    assert!(clients.authenticate("two", SECRET).is_none());
    write_accounts(&path, &["two"]);
    assert!(clients.authenticate("two", SECRET).is_some());
    assert!(clients.authenticate("one", SECRET).is_none());
    fs::write(&path, "{").unwrap();
    later(&path);
    assert!(clients.authenticate("two", SECRET).is_some(), "a broken file changes nothing");
}

#[tokio::test]
async fn scopes_are_those_of_the_account() {
    let mut account = account();
    account.scope = "system/Patient.rs system/Observation.rs".to_owned();
    let clients = ClientsFile::in_memory(HashMap::from([("importer".to_owned(), account)]));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = IssuerConfig { issuer: url.clone(), audience: "x".into(), token_lifetime: Duration::from_secs(60) };
    let issuer = Issuer::new(config, SigningKeys::ephemeral().unwrap(), clients);
    let server = tokio::spawn(async move { axum::serve(listener, issuer.router()).await });
    let form = |scope: &'static str| [("grant_type", "client_credentials"), ("scope", scope)];
    for (scope, status) in [("system/Patient.rs", 200), ("system/Patient.rs system/Claim.rs", 400)] {
        let request = reqwest::Client::new().post(format!("{url}/token")).form(&form(scope));
        let response = request.basic_auth("importer", Some(SECRET)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        if status == 200 {
            assert_eq!(response.json::<Value>().await.unwrap()["scope"], scope);
        }
    }
    server.abort();
}

fn account() -> Client {
    Client {
        secret_sha256: secret_hash(SECRET),
        roles: vec![Role::Service],
        patient: None,
        fhir_user: None,
        organization: None,
        scope: String::new(),
        name: String::new(),
    }
}

fn write_accounts(path: &Path, ids: &[&str]) {
    let accounts: HashMap<&str, Client> = ids.iter().map(|id| (*id, account())).collect();
    fs::write(path, serde_json::to_vec(&accounts).unwrap()).unwrap();
    later(path);
}

/// File times may be too coarse to tell two writes of a test apart.
fn later(path: &Path) {
    static STEP: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let seconds = STEP.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(seconds)).unwrap();
}
