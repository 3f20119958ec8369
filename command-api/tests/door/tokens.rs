//! Nobody gets in without a good token, on any route.

use nexus_auth::issuer::SigningKeys;
use nexus_auth::testing::{Holder, mint_with, unsigned};
use nexus_testkit::{Caller, Role};
use reqwest::Method;
use serde_json::json;

use crate::world::{World, patient};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_asks_who_is_there() {
    let world = World::start().await;
    let nobody = Caller::anonymous(&world.url);
    let document = nobody.get("/openapi.json").await.expect(200).json();
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().expect("the document has paths") {
        for method in methods.as_object().expect("a path has methods").keys() {
            let path = path.replace("{id}", "018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c").replace("{type}", "Practitioner");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let answer = nobody.request(method, &path).json(&json!({})).answer().await;
            answer.problem(401, "unauthenticated");
            assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{path}");
            tried += 1;
        }
    }
    assert!(tried >= 38, "only {tried} routes were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_are_refused() {
    let world = World::start().await;
    let issuer = &world.issuer;
    let claims = issuer.claims("test", &[Role::Registrar], None);
    let changed = |name: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        issuer.mint(&claims)
    };
    let good = issuer.mint(&claims);
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let other = SigningKeys::ephemeral().expect("randomness");
    let kid = issuer.issuer().keys().current();
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid.id()});
    let cases = [
        ("expired", changed("exp", json!(1_600_000_000))),
        ("not yet valid", changed("nbf", json!(9_000_000_000_u64))),
        ("another audience", changed("aud", json!("elsewhere"))),
        ("another issuer", changed("iss", json!("http://127.0.0.1:1"))),
        ("alg none", format!("{}.", unsigned(&json!({"alg": "none", "typ": "at+jwt"}), &claims))),
        ("alg none with a signature", format!("{}.{signature}", unsigned(&json!({"alg": "none"}), &claims))),
        ("forged key", mint_with(&other.current(), &header, &claims)),
        ("payload changed", format!("{}.{signature}", unsigned(&header, &issuer.claims("x", &[Role::Service], None)))),
        ("signature cut", signed.to_owned()),
        ("rubbish", "rubbish".to_owned()),
    ];
    for (name, token) in cases {
        let answer = Caller::with_token(&world.url, token).post("/v1/patients", &patient("1")).await;
        assert_eq!((name, answer.status.as_u16()), (name, 401), "{}", answer.text);
        answer.problem(401, "unauthenticated");
    }
    assert_eq!(world.events().await, 0);
    Caller::with_token(&world.url, good).post("/v1/patients", &patient("1")).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_may_require_tokens_that_are_bound_to_a_key() {
    let mut world = World::start().await;
    let strict = world.another_door_with(&["--require-dpop"]).await;
    let plain = Caller::with_token(&strict, world.issuer.token(Role::Registrar));
    let refused = plain.post("/v1/patients", &patient("1")).await;
    assert_eq!(refused.problem(401, "unauthenticated")["rule"], "not-bound");

    let (holder, url) = (Holder::generate(), format!("{strict}/v1/patients"));
    let token = world.issuer.bound_token(Role::Registrar, &holder);
    let send = async |url: &str, proof: String| {
        let request = reqwest::Client::new().post(url).json(&patient("1")).header("idempotency-key", "key-of-a-test-1");
        request.header("authorization", format!("DPoP {token}")).header("dpop", proof).send().await.expect("an answer")
    };
    let proof = holder.proof("POST", &url, &token);
    assert_eq!(send(&url, proof.clone()).await.status(), 201);
    assert_eq!(send(&url, proof).await.status(), 401, "the same proof again");
    let elsewhere = format!("{}/v1/patients", world.url);
    assert_eq!(send(&elsewhere, holder.proof("POST", &url, &token)).await.status(), 401, "another door's proof");
    assert_eq!(world.events().await, 1);
}
