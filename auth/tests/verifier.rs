//! The verifier against an issuer that rotates, goes away, lies and is asked too often.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nexus_auth::{
    Role, TokenError, Verifier, VerifierConfig,
    issuer::SigningKey,
    testing::{AUDIENCE, TestIssuer, mint_with, unsigned},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

fn config(issuer: &str) -> VerifierConfig {
    VerifierConfig { issuer: issuer.to_owned(), audience: AUDIENCE.to_owned(), authorities: None }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn a_valid_token_becomes_its_caller() {
    let issuer = TestIssuer::start().await;
    let verifier = issuer.verifier().await;
    let patient = Uuid::new_v4();
    let claims = issuer.claims("who", &[Role::Patient, Role::Nurse], Some(patient));
    let claims = with(claims, "roles", json!(["patient", "nurse", "astronaut"]));
    let claims = with(with(claims, "scope", json!("a b")), "aud", json!(["other", AUDIENCE]));
    let token = issuer.mint(&claims);
    for _ in 0..2 {
        let caller = verifier.verify(&token).await.unwrap();
        assert_eq!(caller.id(), "who");
        assert_eq!(caller.role_names(), ["nurse", "patient"]);
        assert_eq!(caller.patient(), Some(patient));
        assert_eq!(caller.scopes(), ["a", "b"]);
        assert_eq!(caller.client_id(), Some("who"));
        assert!(!format!("{caller:?}").contains("who"));
    }
}

#[tokio::test]
async fn bad_tokens_are_refused_each_for_its_reason() {
    let issuer = TestIssuer::start().await;
    let verifier = issuer.verifier().await;
    let key = issuer.issuer().keys().current();
    let stranger = SigningKey::generate().unwrap();
    let good = issuer.claims("who", &[Role::Nurse], None);
    let now = good["iat"].as_i64().unwrap();
    let header = json!({"alg": "ES256", "kid": key.id()});
    let valid = issuer.mint(&good);
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let (header_part, _) = signed.split_once('.').unwrap();
    let other_payload = unsigned(&header, &with(good.clone(), "roles", json!(["physician"])));
    let other_payload = other_payload.split_once('.').unwrap().1;

    use TokenError::*;
    let table: Vec<(&str, String, TokenError)> = vec![
        ("empty", String::new(), Malformed),
        ("no JWT", "abc".into(), Malformed),
        ("two parts", signed.into(), Malformed),
        ("four parts", format!("{valid}.x"), Malformed),
        ("not base64", format!("!{valid}"), Malformed),
        ("larger than any token", "a".repeat(9_000), Malformed),
        ("alg none, no signature", format!("{}.", unsigned(&json!({"alg": "none"}), &good)), WrongAlgorithm),
        (
            "alg None",
            format!("{}.{signature}", unsigned(&json!({"alg": "None", "kid": key.id()}), &good)),
            WrongAlgorithm,
        ),
        (
            "HS256 with the public key",
            format!("{}.AAAA", unsigned(&json!({"alg": "HS256", "kid": key.id()}), &good)),
            WrongAlgorithm,
        ),
        ("ES384", mint_with(&key, &json!({"alg": "ES384", "kid": key.id()}), &good), WrongAlgorithm),
        (
            "critical extension",
            mint_with(&key, &json!({"alg": "ES256", "kid": key.id(), "crit": ["x"]}), &good),
            Malformed,
        ),
        ("no key id", mint_with(&key, &json!({"alg": "ES256"}), &good), UnknownKey),
        (
            "own key in the header",
            mint_with(&stranger, &json!({"alg": "ES256", "kid": stranger.id(), "jwk": stranger.public_jwk()}), &good),
            UnknownKey,
        ),
        ("forged with another key", mint_with(&stranger, &header, &good), BadSignature),
        ("payload exchanged", format!("{header_part}.{other_payload}.{signature}"), BadSignature),
        ("signature missing", format!("{signed}."), BadSignature),
        ("signature of zeros", format!("{signed}.{}", "A".repeat(86)), BadSignature),
        ("signature cut", format!("{signed}.{}", &signature[..80]), BadSignature),
        ("expired", issuer.mint(&with(good.clone(), "exp", json!(now - 31))), Expired),
        ("not valid yet", issuer.mint(&with(good.clone(), "nbf", json!(now + 60))), NotYetValid),
        ("issued in the future", issuer.mint(&with(good.clone(), "iat", json!(now + 60))), NotYetValid),
        ("wrong issuer", issuer.mint(&with(good.clone(), "iss", json!("http://evil.example"))), WrongIssuer),
        ("wrong audience", issuer.mint(&with(good.clone(), "aud", json!("another-api"))), WrongAudience),
        ("audience prefix", issuer.mint(&with(good.clone(), "aud", json!(["nexus"]))), WrongAudience),
        ("no exp", issuer.mint(&without(good.clone(), "exp")), MissingClaim("exp")),
        ("no iat", issuer.mint(&without(good.clone(), "iat")), MissingClaim("iat")),
        ("no sub", issuer.mint(&without(good.clone(), "sub")), MissingClaim("sub")),
        ("no iss", issuer.mint(&without(good.clone(), "iss")), MissingClaim("iss")),
        ("no aud", issuer.mint(&without(good.clone(), "aud")), MissingClaim("aud")),
        ("exp as text", issuer.mint(&with(good.clone(), "exp", json!("never"))), Malformed),
        ("patient is no id", issuer.mint(&with(good.clone(), "patient", json!("me"))), Malformed),
        ("sub too long", issuer.mint(&with(good.clone(), "sub", json!("s".repeat(300)))), Malformed),
    ];
    for (name, token, expected) in table {
        for round in 0..2 {
            let refused = verifier.verify(&token).await.err();
            assert_eq!(refused, Some(expected), "{name}, round {round}");
        }
    }
    assert!(verifier.verify(&valid).await.is_ok());
    let within_leeway = issuer.mint(&with(good.clone(), "exp", json!(now - 20)));
    assert!(verifier.verify(&within_leeway).await.is_ok(), "clocks may differ a little");
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_expires() {
    let issuer = TestIssuer::start().await;
    let verifier = issuer.verifier().await;
    let claims = issuer.claims("who", &[Role::Nurse], None);
    let now = claims["iat"].as_i64().unwrap();
    let token = issuer.mint(&with(claims, "exp", json!(now - 28)));
    assert!(verifier.verify(&token).await.is_ok());
    let deadline = Instant::now() + Duration::from_secs(10);
    while verifier.verify(&token).await != Err(TokenError::Expired) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn tokens_go_on_working_while_the_issuer_is_away() {
    let mut issuer = TestIssuer::start().await;
    let verifier = issuer.verifier().await;
    let known = issuer.token(Role::Nurse);
    verifier.verify(&known).await.unwrap();
    issuer.stop().await;
    assert!(verifier.verify(&known).await.is_ok(), "a remembered token");
    assert!(verifier.verify(&issuer.token(Role::Nurse)).await.is_ok(), "a token not seen before");
    assert!(verifier.ready());
    issuer.issuer().keys().rotate(Duration::ZERO).unwrap();
    assert_eq!(verifier.verify(&issuer.token(Role::Nurse)).await.err(), Some(TokenError::UnknownKey));
    issuer.restart().await;
    assert!(verifier.verify(&issuer.token(Role::Nurse)).await.is_ok(), "the key is found once the issuer is back");
}

#[tokio::test]
async fn rotation_refuses_no_valid_token() {
    let issuer = TestIssuer::start().await;
    let verifier = issuer.verifier().await;
    let before = issuer.token(Role::Nurse);
    let mut checked = 0;
    for _ in 0..3 {
        issuer.issuer().keys().rotate(Duration::ZERO).unwrap();
        let checks = (0..200).map(|_| {
            let (verifier, token) = (verifier.clone(), issuer.token(Role::Physician));
            tokio::spawn(async move { verifier.verify(&token).await })
        });
        for check in checks.collect::<Vec<_>>() {
            check.await.unwrap().unwrap();
            checked += 1;
        }
    }
    assert_eq!(checked, 600);
    assert!(verifier.verify(&before).await.is_ok(), "signed before the rotations, not expired");
}

#[tokio::test]
async fn a_verifier_may_start_before_its_issuer() {
    let mut issuer = TestIssuer::start().await;
    issuer.stop().await;
    let verifier = Verifier::connect(config(issuer.url())).await.unwrap();
    assert!(!verifier.ready());
    assert_eq!(verifier.verify(&issuer.token(Role::Nurse)).await.err(), Some(TokenError::KeysUnavailable));
    issuer.restart().await;
    eventually("readiness", || verifier.ready()).await;
    assert!(verifier.verify(&issuer.token(Role::Nurse)).await.is_ok());
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_not_trusted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let real = TestIssuer::start().await;
    // Answers under one address with the documents of another issuer.
    let server = tokio::spawn(async move { axum::serve(listener, real.issuer().router()).await });
    let verifier = Verifier::connect(config(&url)).await.unwrap();
    assert_eq!(
        verifier.verify(&TestIssuer::start().await.token(Role::Nurse)).await.err(),
        Some(TokenError::KeysUnavailable)
    );
    assert!(!verifier.ready());
    server.abort();
}

#[tokio::test]
async fn invented_key_ids_cause_few_fetches() {
    let issuer = TestIssuer::start().await;
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetches);
    let keys = issuer.issuer().keys().public_set();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
    let router = axum::Router::new()
        .route("/.well-known/openid-configuration", axum::routing::get(|| async { axum::Json(discovery) }))
        .route(
            "/keys",
            axum::routing::get(move || async move {
                counted.fetch_add(1, Ordering::SeqCst);
                axum::Json(keys)
            }),
        );
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let verifier = Verifier::connect(config(&url)).await.unwrap();
    eventually("readiness", || verifier.ready()).await;

    let began = Instant::now();
    let stranger = SigningKey::generate().unwrap();
    let mut checks = Vec::new();
    for at in 0..500 {
        let header = json!({"alg": "ES256", "kid": format!("invented-{at}")});
        let token = mint_with(&stranger, &header, &issuer.claims("who", &[Role::Nurse], None));
        let verifier = verifier.clone();
        checks.push(tokio::spawn(async move { verifier.verify(&token).await }));
    }
    let mut outcomes = Vec::new();
    for check in checks {
        outcomes.push(check.await.unwrap().err().unwrap());
    }
    let unknown = outcomes.iter().filter(|outcome| **outcome == TokenError::UnknownKey).count();
    let sent_away = outcomes.iter().filter(|outcome| **outcome == TokenError::KeysUnavailable).count();
    assert_eq!(unknown + sent_away, 500);
    assert!(unknown >= 256 && sent_away > 0, "{unknown} waited, {sent_away} were sent away");
    let seconds = began.elapsed().as_secs() as usize;
    assert!(fetches.load(Ordering::SeqCst) <= seconds + 3, "{fetches:?} fetches in {seconds} s");
    server.abort();
}

/// Not a benchmark, only a floor: remembered tokens must cost next to nothing.
#[tokio::test]
async fn remembered_tokens_are_cheap() {
    let issuer = TestIssuer::start().await;
    let verifier = issuer.verifier().await;
    let fresh: Vec<String> = (0..500).map(|_| issuer.token(Role::Nurse)).collect();
    let began = Instant::now();
    for token in &fresh {
        verifier.verify(token).await.unwrap();
    }
    let first = began.elapsed().as_secs_f64() / fresh.len() as f64;
    let began = Instant::now();
    for at in 0..100_000 {
        verifier.verify(&fresh[at % fresh.len()]).await.unwrap();
    }
    let remembered = began.elapsed().as_secs_f64() / 100_000.0;
    println!("first {:.0}/s, remembered {:.0}/s", 1.0 / first, 1.0 / remembered);
    assert!(remembered < first / 4.0);
}
