//! How clients and demo people get tokens from the built-in issuer, and how they do not.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nexus_auth::{
    DpopConfig, Proof, ProofFault, Role, TokenError, Verifier, VerifierConfig,
    issuer::{Client, ClientKeys, ClientsFile, Issuer, IssuerConfig, SigningKey, SigningKeys, secret_hash},
    testing::{AUDIENCE, Holder, SECRET, mint_with},
};
use reqwest::{Response, redirect::Policy};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;
use uuid::Uuid;

const REDIRECT: &str = "http://127.0.0.1:9/callback?app=1";
const PKCE_VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

struct World {
    url: String,
    /// The key of the account `importer`.
    key: SigningKey,
    verifier: Verifier,
    serving: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl World {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::generate().unwrap();
        let jwks = Some(ClientKeys { keys: vec![key.public_jwk()] });
        let nurse = Client { secret_sha256: Some(secret_hash(SECRET)), roles: vec![Role::Nurse], ..Client::default() };
        let application = |uri: &str| Client {
            redirect_uris: vec![uri.to_owned()],
            scope: "user/Patient.rs".to_owned(),
            ..Client::default()
        };
        let accounts = HashMap::from([
            ("importer".to_owned(), Client { jwks, roles: vec![Role::Service], ..Client::default() }),
            ("anna".to_owned(), Client { person: true, ..nurse.clone() }),
            ("machine".to_owned(), nurse),
            ("app".to_owned(), application(REDIRECT)),
            ("other-app".to_owned(), application("http://127.0.0.1:9/other")),
        ]);
        let config = IssuerConfig {
            issuer: url.clone(),
            audience: AUDIENCE.to_owned(),
            token_lifetime: Duration::from_secs(300),
        };
        let issuer = Issuer::new(config, SigningKeys::ephemeral().unwrap(), ClientsFile::in_memory(accounts));
        let serving = tokio::spawn(async move { axum::serve(listener, issuer.router()).await.unwrap() });
        let config = VerifierConfig { issuer: url.clone(), audience: AUDIENCE.to_owned(), authorities: None };
        let verifier = Verifier::connect(config).await.unwrap();
        let dpop = DpopConfig { public_url: "http://door.example".into(), required: false, nonces: false };
        Self { url, key, verifier: verifier.with_dpop(&dpop).unwrap(), serving }
    }

    async fn token(&self, form: &[(&str, &str)]) -> (u16, Value) {
        self.token_with_proof(form, None).await
    }

    async fn token_with_proof(&self, form: &[(&str, &str)], proof: Option<&str>) -> (u16, Value) {
        let mut request = reqwest::Client::new().post(format!("{}/token", self.url)).form(form);
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    fn assertion(&self) -> Value {
        let now = now();
        json!({"iss": "importer", "sub": "importer", "aud": self.url, "iat": now, "exp": now + 60,
               "jti": Uuid::now_v7()})
    }

    async fn token_for_assertion(&self, key: &SigningKey, claims: &Value) -> (u16, Value) {
        let assertion = mint_with(key, &json!({"alg": "ES256", "kid": key.id()}), claims);
        self.token(&assertion_form(&assertion)).await
    }

    fn authorize_request(&self) -> Vec<(&'static str, String)> {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(PKCE_VERIFIER));
        [
            ("response_type", "code"),
            ("client_id", "app"),
            ("redirect_uri", REDIRECT),
            ("scope", "openid user/Patient.rs"),
            ("state", "a state & <more>"),
            ("nonce", "n-1"),
            ("code_challenge_method", "S256"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into_iter()
        .chain([("code_challenge", challenge)])
        .collect()
    }

    async fn sign_in(&self, request: &[(&str, String)], account: &str, secret: &str) -> Response {
        let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        let post = client.post(format!("{}/authorize", self.url)).query(request);
        post.form(&[("account", account), ("secret", secret)]).send().await.unwrap()
    }

    /// A fresh code of Anna's for the application.
    async fn code(&self) -> String {
        let response = self.sign_in(&self.authorize_request(), "anna", SECRET).await;
        assert_eq!(response.status(), 303);
        answer_of(&response)["code"].clone()
    }

    async fn redeem(&self, code: &str) -> (u16, Value) {
        self.token(&code_form(code)).await
    }

    async fn refresh(&self, token: &str, client_id: &str) -> (u16, Value) {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client_id)]).await
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

fn assertion_form(assertion: &str) -> [(&str, &str); 3] {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    [("grant_type", "client_credentials"), ("client_assertion_type", kind), ("client_assertion", assertion)]
}

fn code_form(code: &str) -> [(&str, &str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", PKCE_VERIFIER),
    ]
}

/// The parameters with which a person is sent back to the application.
fn answer_of(response: &Response) -> HashMap<String, String> {
    let location = Url::parse(response.headers()["location"].to_str().unwrap()).unwrap();
    assert!(location.as_str().starts_with("http://127.0.0.1:9/callback?app=1&"), "{location}");
    location.query_pairs().into_owned().collect()
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}"))
}

fn payload(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_service_signs_for_its_token() {
    let world = World::start().await;
    let (status, body) = world.token_for_assertion(&world.key, &world.assertion()).await;
    assert_eq!((status, text(&body, "token_type")), (200, "Bearer"));
    let caller = world.verifier.verify(text(&body, "access_token")).await.unwrap();
    assert_eq!((caller.id(), caller.has(Role::Service)), ("importer", true));
}

#[tokio::test]
async fn an_assertion_that_does_not_hold_is_refused() {
    let world = World::start().await;
    let good = world.assertion();
    let with = |name: &str, value: Value| {
        let mut claims = world.assertion();
        claims[name] = value;
        claims
    };
    let table = [
        ("another issuer's", with("aud", json!("http://evil.example"))),
        ("for several", with("aud", json!([world.url, "http://evil.example"]))),
        ("for something that begins alike", with("aud", json!(format!("{}/token.evil", world.url)))),
        ("expired", with("exp", json!(now() - 60))),
        ("good for ever", with("exp", json!(now() + 3600))),
        ("not yet good", with("nbf", json!(now() + 300))),
        ("of someone else", with("iss", json!("nurse"))),
        ("for an account without keys", {
            let mut claims = with("iss", json!("machine"));
            claims["sub"] = json!("machine");
            claims
        }),
        ("without an id", with("jti", json!(""))),
        ("without an end", with("exp", Value::Null)),
    ];
    for (name, claims) in table {
        let refused = world.token_for_assertion(&world.key, &claims).await;
        assert_eq!(refused, (401, json!({"error": "invalid_client"})), "{name}");
    }
    let forged = world.token_for_assertion(&SigningKey::generate().unwrap(), &good).await;
    assert_eq!(forged.0, 401, "another key");
    let secret = ("client_secret", SECRET);
    let assertion = mint_with(&world.key, &json!({"alg": "ES256"}), &good);
    let two_ways: Vec<_> = assertion_form(&assertion).into_iter().chain([secret, ("client_id", "machine")]).collect();
    assert_eq!(world.token(&two_ways).await.1["error"], "invalid_request");
    let by_secret = [("grant_type", "client_credentials"), ("client_id", "importer"), ("client_secret", "")];
    assert_eq!(world.token(&by_secret).await.0, 401, "an account without a secret has no empty one");
    assert_eq!(world.token_for_assertion(&world.key, &good).await.0, 200, "the one to start from is good");
    assert_eq!(world.token_for_assertion(&world.key, &good).await.0, 401, "and good once");
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_of_the_proof() {
    let world = World::start().await;
    let (holder, url) = (Holder::generate(), format!("{}/token", world.url));
    let form = [("grant_type", "client_credentials"), ("client_id", "machine"), ("client_secret", SECRET)];
    let proof = |claims: &Value| mint_with(holder.key(), &holder.proof_header(), claims);
    let good = proof(&holder.proof_claims("POST", &url, None));
    let (status, body) = world.token_with_proof(&form, Some(&good)).await;
    assert_eq!((status, text(&body, "token_type")), (200, "DPoP"));
    let token = text(&body, "access_token");
    let refused = world.verifier.verify(token).await.err();
    assert_eq!(refused, Some(TokenError::BadProof(ProofFault::Missing)));
    let at_the_door = holder.proof("GET", "http://door.example/x", token);
    let at_the_door = Proof { text: &at_the_door, method: "GET", path: "/x" };
    assert!(world.verifier.verify_with_proof(token, &at_the_door).await.unwrap().has(Role::Nurse));

    let refusals = [
        ("replayed", good),
        ("for another address", proof(&holder.proof_claims("POST", &world.url, None))),
        ("for another method", proof(&holder.proof_claims("GET", &url, None))),
        ("none at all", "x".to_owned()),
    ];
    for (name, proof) in refusals {
        let refused = world.token_with_proof(&form, Some(&proof)).await;
        assert_eq!(refused, (400, json!({"error": "invalid_dpop_proof"})), "{name}");
    }
}

#[tokio::test]
async fn a_demo_person_signs_in() {
    let world = World::start().await;
    let request = world.authorize_request();
    let page = reqwest::Client::new().get(format!("{}/authorize", world.url)).query(&request).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("form-action 'self' http://127.0.0.1:9"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(
        html.contains("not an identity provider for people") && !html.contains("<more>") && !html.contains("script")
    );

    let answer = answer_of(&world.sign_in(&request, "anna", SECRET).await);
    assert_eq!((answer["state"].as_str(), &answer["iss"]), ("a state & <more>", &world.url));
    let (status, body) = world.redeem(&answer["code"]).await;
    assert_eq!((status, text(&body, "token_type"), text(&body, "scope")), (200, "Bearer", "openid user/Patient.rs"));
    let caller = world.verifier.verify(text(&body, "access_token")).await.unwrap();
    assert_eq!((caller.id(), caller.client_id()), ("anna", Some("app")));
    assert_eq!(caller.role_names(), ["nurse"]);

    let id_token = payload(text(&body, "id_token"));
    assert_eq!(
        (&id_token["aud"], &id_token["nonce"], &id_token["sub"]),
        (&json!("app"), &json!("n-1"), &json!("anna"))
    );
    assert!(world.verifier.verify(text(&body, "id_token")).await.is_err(), "an id token opens no door");
}

#[tokio::test]
async fn a_code_is_good_once_and_for_its_application_alone() {
    let world = World::start().await;
    let change = |name: &'static str, value: &'static str| {
        move |form: [(&'static str, String); 5]| {
            form.map(|(own, old)| (own, if own == name { value.to_owned() } else { old }))
        }
    };
    let wrong_verifier = "xBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    for (name, value) in [
        ("code_verifier", wrong_verifier),
        ("redirect_uri", "http://127.0.0.1:9/callback"),
        ("client_id", "other-app"),
        ("code", "invented"),
    ] {
        let code = world.code().await;
        let form = code_form(&code).map(|(name, value)| {
            let name: &'static str = ["grant_type", "client_id", "code", "redirect_uri", "code_verifier"]
                .into_iter()
                .find(|known| *known == name)
                .unwrap();
            (name, value.to_owned())
        });
        let changed = change(name, value)(form);
        let changed: Vec<(&str, &str)> = changed.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(world.token(&changed).await, (400, json!({"error": "invalid_grant"})), "{name}");
        if name != "code" {
            assert_eq!(world.redeem(&code).await.0, 400, "an attempt uses it up, {name}");
        }
    }
    let code = world.code().await;
    let (_, first) = world.redeem(&code).await;
    assert_eq!(world.redeem(&code).await.1["error"], "invalid_grant");
    let refreshed = world.refresh(text(&first, "refresh_token"), "app").await;
    assert_eq!(refreshed.1["error"], "invalid_grant", "what came of a code that was used twice has ended");
}

#[tokio::test]
async fn a_refresh_token_is_replaced_with_each_use_and_a_second_use_ends_all() {
    let world = World::start().await;
    let (_, first) = world.redeem(&world.code().await).await;
    let (status, second) = world.refresh(text(&first, "refresh_token"), "app").await;
    assert_eq!(status, 200);
    assert!(world.verifier.verify(text(&second, "access_token")).await.unwrap().has(Role::Nurse));
    assert_eq!(world.refresh(text(&second, "refresh_token"), "other-app").await.1["error"], "invalid_grant");
    let (status, third) = world.refresh(text(&second, "refresh_token"), "app").await;
    assert_eq!(status, 200, "another application's attempt uses nothing up");
    assert_eq!(world.refresh(text(&first, "refresh_token"), "app").await.1["error"], "invalid_grant");
    assert_eq!(world.refresh(text(&third, "refresh_token"), "app").await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn a_request_that_cannot_be_trusted_is_answered_here_and_others_go_back() {
    let world = World::start().await;
    let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    let ask = async |name: &str, value: Option<&str>| {
        let mut request: Vec<(&str, String)> = world.authorize_request();
        request.retain(|(own, _)| *own != name);
        request.extend(value.map(|value| (if name == "dpop_jkt" { "dpop_jkt" } else { name }, value.to_owned())));
        client.get(format!("{}/authorize", world.url)).query(&request).send().await.unwrap()
    };
    for (name, value) in [
        ("redirect_uri", Some("http://127.0.0.1:9/callback")),
        ("redirect_uri", Some("http://127.0.0.1:9/callback?app=1#")),
        ("redirect_uri", Some("http://evil.example/callback?app=1")),
        ("redirect_uri", Some("http://127.0.0.1:9/callback?app=1/../x")),
        ("redirect_uri", None),
        ("client_id", Some("invented")),
        ("client_id", Some("machine")),
        ("client_id", None),
    ] {
        let response = ask(name, value).await;
        assert_eq!(response.status(), 400, "{name} {value:?}");
        assert!(!response.headers().contains_key("location"));
    }
    for (name, value, error) in [
        ("response_type", Some("token"), "unsupported_response_type"),
        ("code_challenge", None, "invalid_request"),
        ("code_challenge", Some("short"), "invalid_request"),
        ("code_challenge_method", Some("plain"), "invalid_request"),
        ("code_challenge_method", None, "invalid_request"),
        ("dpop_jkt", Some("x"), "invalid_request"),
        ("scope", Some("system/*.cruds"), "invalid_scope"),
        ("request", Some("x"), "request_not_supported"),
    ] {
        let answer = answer_of(&ask(name, value).await);
        assert_eq!((answer["error"].as_str(), &answer["iss"]), (error, &world.url), "{name} {value:?}");
        assert_eq!(answer["state"], "a state & <more>");
    }
}

#[tokio::test]
async fn a_secret_cannot_be_guessed_for_long() {
    let world = World::start().await;
    let request = world.authorize_request();
    let try_with = async |account: &str, secret: &str| world.sign_in(&request, account, secret).await;
    assert_eq!(try_with("machine", SECRET).await.status(), 200, "no person");
    for _ in 0..4 {
        let page = try_with("anna", "guess").await;
        assert_eq!(page.status(), 200);
        assert!(page.text().await.unwrap().contains("do not fit together"));
    }
    assert_eq!(try_with("anna", SECRET).await.status(), 303, "four failures are forgiven");
    for _ in 0..5 {
        try_with("anna", "guess").await;
    }
    let page = try_with("anna", SECRET).await;
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("Too many attempts"), "even the right secret has to wait now");
    let client = reqwest::Client::new().post(format!("{}/authorize", world.url)).query(&request);
    let form = [("account", "anna"), ("secret", SECRET)];
    assert_eq!(client.header("sec-fetch-site", "cross-site").form(&form).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_sign_in_bound_to_a_key_stays_with_it() {
    let world = World::start().await;
    let (holder, thief, url) = (Holder::generate(), Holder::generate(), format!("{}/token", world.url));
    let proof =
        |holder: &Holder| mint_with(holder.key(), &holder.proof_header(), &holder.proof_claims("POST", &url, None));
    let mut request = world.authorize_request();
    request.push(("dpop_jkt", holder.key().id().to_owned()));
    let code = answer_of(&world.sign_in(&request, "anna", SECRET).await)["code"].clone();
    assert_eq!(world.token_with_proof(&code_form(&code), Some(&proof(&thief))).await.1["error"], "invalid_grant");

    let code = answer_of(&world.sign_in(&request, "anna", SECRET).await)["code"].clone();
    let (_, first) = world.token_with_proof(&code_form(&code), Some(&proof(&holder))).await;
    assert_eq!(first["token_type"], "DPoP");
    let token = text(&first, "refresh_token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "app")];
    assert_eq!(world.token(&form).await.1["error"], "invalid_grant");
    assert_eq!(world.token_with_proof(&form, Some(&proof(&thief))).await.1["error"], "invalid_grant");
    assert_eq!(world.token_with_proof(&form, Some(&proof(&holder))).await.0, 200);
}
