//! Transit as its documentation describes it, for machines without a Vault. What it answers is what a test against it can
//! prove: our side of the wire format, not Vault's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

pub const ROOT_TOKEN: &str = "stand-in-root";
pub const SECRET_ID: &str = "stand-in-secret-id";
pub const JWT: &str = "stand-in-jwt";

#[derive(Clone)]
pub struct StandIn(Arc<Mutex<Inside>>);

pub struct Inside {
    /// Versions of each Transit key.
    keys: HashMap<String, Vec<[u8; 32]>>,
    /// Until when a token is good.
    tokens: HashMap<String, Instant>,
    pub token_lifetime: Duration,
    pub renewable: bool,
    pub sealed: bool,
    /// As a server would that does not know `associated_data`.
    pub binds_nothing: bool,
    pub sign_ins: usize,
    pub renewals: usize,
    pub namespace: Option<String>,
}

type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

fn refuse(status: u16, why: &str) -> (StatusCode, Json<Value>) {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "errors": [why] })))
}

impl StandIn {
    pub async fn start() -> (Self, String) {
        let stand_in = Self(Arc::new(Mutex::new(Inside {
            keys: HashMap::new(),
            tokens: [(ROOT_TOKEN.to_owned(), Instant::now() + Duration::from_secs(3_600))].into(),
            token_lifetime: Duration::from_secs(3_600),
            renewable: true,
            sealed: false,
            binds_nothing: false,
            sign_ins: 0,
            renewals: 0,
            namespace: None,
        })));
        let routes = Router::new()
            .route("/v1/transit/keys/{key}", post(create))
            .route("/v1/transit/keys/{key}/rotate", post(create))
            .route("/v1/transit/encrypt/{key}", post(encrypt))
            .route("/v1/transit/decrypt/{key}", post(decrypt))
            .route("/v1/auth/{mount}/login", post(sign_in))
            .route("/v1/auth/token/renew-self", post(renew))
            .with_state(stand_in.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (stand_in, address)
    }

    pub fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    fn admitted(&self, headers: &HeaderMap) -> Result<MutexGuard<'_, Inside>, (StatusCode, Json<Value>)> {
        let mut inside = self.inside();
        if inside.sealed {
            return Err(refuse(503, "Vault is sealed"));
        }
        let header = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        inside.namespace = header("x-vault-namespace");
        let good_until = header("x-vault-token").and_then(|token| inside.tokens.get(&token).copied());
        match good_until {
            Some(until) if Instant::now() < until => Ok(inside),
            _ => Err(refuse(403, "permission denied")),
        }
    }
}

impl Inside {
    fn grant(&mut self) -> Json<Value> {
        let token = Uuid::new_v4().to_string();
        self.tokens.insert(token.clone(), Instant::now() + self.token_lifetime);
        let lease = self.token_lifetime.as_secs();
        let renewable = self.renewable;
        Json(
            json!({"auth": {"client_token": token, "lease_duration": lease, "renewable": renewable, "policies": ["nexus"]}}),
        )
    }
}

async fn create(State(it): State<StandIn>, Path(key): Path<String>, headers: HeaderMap) -> Answer {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    it.admitted(&headers)?.keys.entry(key).or_default().push(bytes);
    Ok(Json(json!({})))
}

fn binding(inside: &Inside, body: &Value) -> Vec<u8> {
    if inside.binds_nothing { Vec::new() } else { STANDARD.decode(body["associated_data"].as_str().unwrap()).unwrap() }
}

async fn encrypt(
    State(it): State<StandIn>,
    Path(key): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let inside = it.admitted(&headers)?;
    let versions = inside.keys.get(&key).ok_or(refuse(400, "encryption key not found"))?;
    let plain = STANDARD.decode(body["plaintext"].as_str().unwrap()).unwrap();
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).unwrap();
    let cipher = Aes256Gcm::new(versions.last().unwrap().into());
    let payload = Payload { msg: &plain, aad: &binding(&inside, &body) };
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).unwrap();
    let text = format!("vault:v{}:{}", versions.len(), STANDARD.encode([&nonce[..], &sealed].concat()));
    Ok(Json(json!({"request_id": "r", "data": {"ciphertext": text, "key_version": versions.len()}})))
}

async fn decrypt(
    State(it): State<StandIn>,
    Path(key): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let inside = it.admitted(&headers)?;
    let versions = inside.keys.get(&key).ok_or(refuse(400, "encryption key not found"))?;
    let mut parts = body["ciphertext"].as_str().unwrap().splitn(3, ':').skip(1);
    let version: usize = parts.next().unwrap().trim_start_matches('v').parse().unwrap();
    let bytes = STANDARD.decode(parts.next().unwrap()).unwrap();
    let (nonce, sealed) = bytes.split_first_chunk::<12>().unwrap();
    let cipher = Aes256Gcm::new((&versions[version - 1]).into());
    let payload = Payload { msg: sealed, aad: &binding(&inside, &body) };
    let plain = cipher
        .decrypt(&Nonce::from(*nonce), payload)
        .map_err(|_| refuse(400, "cipher: message authentication failed"))?;
    Ok(Json(json!({"data": {"plaintext": STANDARD.encode(plain)}})))
}

async fn sign_in(State(it): State<StandIn>, Path(mount): Path<String>, Json(body): Json<Value>) -> Answer {
    let mut inside = it.inside();
    let good = match mount.as_str() {
        "approle" => body == json!({"role_id": "nexus-role", "secret_id": SECRET_ID}),
        "kubernetes" => body == json!({"role": "nexus", "jwt": JWT}),
        _ => return Err(refuse(404, "no handler for route")),
    };
    if !good {
        return Err(refuse(400, "invalid role or secret ID"));
    }
    inside.sign_ins += 1;
    Ok(inside.grant())
}

async fn renew(State(it): State<StandIn>, headers: HeaderMap) -> Answer {
    let mut inside = it.admitted(&headers)?;
    inside.renewals += 1;
    Ok(inside.grant())
}
