//! Tokens that are bound to a key, through the whole pipeline: what a door accepts, and how it says what it wants instead.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use axum::{Router, routing::get};
use nexus_auth::{
    DpopConfig, Role,
    testing::{Holder, TestIssuer, mint_with},
};
use nexus_web::pipeline::{Authenticated, Pipeline};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

struct Door {
    issuer: TestIssuer,
    url: String,
    serving: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Door {
    async fn start(required: bool, nonces: bool) -> Self {
        let issuer = TestIssuer::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public_url = format!("http://{}", listener.local_addr().unwrap());
        let config = DpopConfig { public_url: public_url.clone(), required, nonces };
        let verifier = issuer.verifier().await.with_dpop(&config).unwrap();
        let who = get(|Authenticated(caller): Authenticated| async move { caller.id().to_owned() });
        let router = Pipeline::new(verifier).wrap(Router::new().route("/who", who), Router::new());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { issuer, url: format!("{public_url}/who"), serving }
    }

    async fn send(&self, scheme: &str, token: &str, proofs: &[String]) -> Response {
        let request = Client::new().get(&self.url).header("authorization", format!("{scheme} {token}"));
        proofs.iter().fold(request, |request, proof| request.header("dpop", proof)).send().await.unwrap()
    }
}

fn challenges(response: &Response) -> Vec<String> {
    response.headers().get_all("www-authenticate").iter().map(|it| it.to_str().unwrap().to_owned()).collect()
}

async fn rule(response: Response) -> String {
    assert_eq!(response.status(), 401);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["type"], "/problems/unauthenticated");
    body["rule"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_bound_token_needs_its_proof_and_only_the_first_time() {
    let door = Door::start(false, false).await;
    let holder = Holder::generate();
    let token = door.issuer.bound_token(Role::Nurse, &holder);
    let proof = holder.proof("GET", &door.url, &token);
    let response = door.send("DPoP", &token, std::slice::from_ref(&proof)).await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (200, "test-nurse".to_owned()));

    let replayed = door.send("dpop", &token, std::slice::from_ref(&proof)).await;
    let expected =
        r#"DPoP realm="nexushealth", algs="ES256", error="invalid_dpop_proof", error_description="proof-replayed""#;
    assert_eq!(challenges(&replayed), [expected]);
    assert_eq!(rule(replayed).await, "proof-replayed");

    let downgraded = door.send("Bearer", &token, &[holder.proof("GET", &door.url, &token)]).await;
    let expected =
        r#"DPoP realm="nexushealth", algs="ES256", error="invalid_token", error_description="proof-missing""#;
    assert_eq!(challenges(&downgraded), [expected]);
    assert_eq!(rule(downgraded).await, "proof-missing");

    assert_eq!(rule(door.send("DPoP", &token, &[]).await).await, "proof-missing");
    let two = [holder.proof("GET", &door.url, &token), holder.proof("GET", &door.url, &token)];
    assert_eq!(rule(door.send("DPoP", &token, &two).await).await, "proof-malformed");
    let plain = door.issuer.token(Role::Nurse);
    assert_eq!(rule(door.send("DPoP", &plain, &[holder.proof("GET", &door.url, &plain)]).await).await, "not-bound");
    assert_eq!(door.send("Bearer", &plain, &[]).await.status(), 200, "nobody requires more");
}

#[tokio::test]
async fn the_address_is_the_configured_one_whatever_the_host_header_says() {
    let door = Door::start(false, false).await;
    let holder = Holder::generate();
    let token = door.issuer.bound_token(Role::Nurse, &holder);
    let elsewhere = holder.proof("GET", "http://evil.example/who", &token);
    let request = Client::new().get(&door.url).header("host", "evil.example").header("dpop", elsewhere);
    let response = request.header("authorization", format!("DPoP {token}")).send().await.unwrap();
    assert_eq!(rule(response).await, "proof-wrong-address");
}

#[tokio::test]
async fn a_door_says_which_tokens_it_takes() {
    let relaxed = Door::start(false, false).await;
    let response = Client::new().get(&relaxed.url).send().await.unwrap();
    let dpop = r#"DPoP realm="nexushealth", algs="ES256""#;
    assert_eq!(challenges(&response), [r#"Bearer realm="nexushealth""#, dpop]);
    let strict = Door::start(true, false).await;
    let response = Client::new().get(&strict.url).send().await.unwrap();
    assert_eq!(challenges(&response), [dpop]);
    let plain = strict.send("Bearer", &strict.issuer.token(Role::Nurse), &[]).await;
    assert!(challenges(&plain)[0].contains(r#"error="invalid_token", error_description="not-bound""#));
    assert_eq!(rule(plain).await, "not-bound");
    let holder = Holder::generate();
    let token = strict.issuer.bound_token(Role::Nurse, &holder);
    assert_eq!(strict.send("DPoP", &token, &[holder.proof("GET", &strict.url, &token)]).await.status(), 200);
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_then_good() {
    let door = Door::start(true, true).await;
    let holder = Holder::generate();
    let token = door.issuer.bound_token(Role::Nurse, &holder);
    let first = door.send("DPoP", &token, &[holder.proof("GET", &door.url, &token)]).await;
    assert!(challenges(&first)[0].contains(r#"error="use_dpop_nonce""#));
    let nonce = first.headers()["dpop-nonce"].to_str().unwrap().to_owned();
    assert_eq!(rule(first).await, "proof-nonce-needed");
    let mut claims = holder.proof_claims("GET", &door.url, Some(&token));
    claims["nonce"] = json!(nonce);
    let proof = mint_with(holder.key(), &holder.proof_header(), &claims);
    let second = door.send("DPoP", &token, &[proof]).await;
    assert_eq!(second.status(), 200);
    assert!(second.headers().contains_key("dpop-nonce"));
}
