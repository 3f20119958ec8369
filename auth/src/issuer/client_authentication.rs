//! How a client proves who it is at the token endpoint: a secret, or an assertion signed with its key
//! (`private_key_jwt`, RFC 7523). Applications in a browser can keep neither and prove nothing; PKCE protects their codes.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Client, Issuer, token_endpoint::TokenFault};
use crate::{
    jwk::PublicKey,
    jws::Jws,
    replay::{Outcome, Replay},
    verifier::{LEEWAY_SECONDS, now_seconds},
};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ASSERTION_BYTES_MAX: usize = 8 * 1024;
/// How far in the future an assertion may expire: it is made for one request.
const LIFETIME_MAX_SECONDS: i64 = 300;
/// How many keys of one client are tried.
const KEYS_MAX: usize = 8;
const REMEMBERED_MAX: usize = 100_000;

/// What a token request says about its client.
#[derive(Default)]
pub(super) struct Presented {
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
    pub assertion_type: Option<String>,
    pub assertion: Option<String>,
}

/// A client, and whether it has proved to be itself.
pub(super) struct Authenticated {
    pub id: String,
    pub client: Client,
    pub proved: bool,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    iat: Option<i64>,
    nbf: Option<i64>,
    jti: String,
}

/// One audience, however it is written: an assertion for several issuers could be replayed at another.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Listed([String; 1]),
}

/// A memory for assertions.
pub(super) fn new_replay() -> Replay {
    Replay::new(Duration::from_secs((LIFETIME_MAX_SECONDS + 2 * LEEWAY_SECONDS).unsigned_abs()), REMEMBERED_MAX)
}

/// By one way and never by two (RFC 6749 section 2.3).
pub(super) fn authenticate(
    issuer: &Issuer,
    headers: &HeaderMap,
    presented: Presented,
) -> Result<Authenticated, TokenFault> {
    let basic = headers.get(header::AUTHORIZATION);
    match (basic, presented) {
        (Some(value), Presented { client_id, client_secret: None, assertion: None, .. }) => {
            let (id, secret) = parse_basic(value).ok_or(TokenFault::InvalidClient)?;
            if client_id.is_some_and(|named| named != id) {
                return Err(TokenFault::InvalidRequest);
            }
            by_secret(issuer, id, &secret)
        }
        (None, Presented { client_id: Some(id), client_secret: Some(secret), assertion: None, .. }) => {
            by_secret(issuer, id, &secret)
        }
        (None, Presented { client_id, client_secret: None, assertion_type, assertion: Some(assertion) }) => {
            if assertion_type.as_deref() != Some(ASSERTION_TYPE) {
                return Err(TokenFault::InvalidRequest);
            }
            by_assertion(issuer, client_id, &assertion)
        }
        (None, Presented { client_id: Some(id), client_secret: None, assertion: None, .. }) => unproved(issuer, id),
        (None, Presented { client_id: None, client_secret: None, assertion: None, .. }) => {
            Err(TokenFault::InvalidClient)
        }
        _ => Err(TokenFault::InvalidRequest),
    }
}

fn by_secret(issuer: &Issuer, id: String, secret: &str) -> Result<Authenticated, TokenFault> {
    let client = issuer.0.clients.authenticate(&id, secret).ok_or(TokenFault::InvalidClient)?;
    Ok(Authenticated { id, client, proved: true })
}

/// Good for an application in a browser, which has nothing to prove itself with.
fn unproved(issuer: &Issuer, id: String) -> Result<Authenticated, TokenFault> {
    let client = issuer.0.clients.find(&id).ok_or(TokenFault::InvalidClient)?;
    let is_public = client.secret_sha256.is_none() && client.jwks.is_none() && !client.redirect_uris.is_empty();
    if is_public { Ok(Authenticated { id, client, proved: false }) } else { Err(TokenFault::InvalidClient) }
}

fn by_assertion(issuer: &Issuer, client_id: Option<String>, assertion: &str) -> Result<Authenticated, TokenFault> {
    let invalid = |_| TokenFault::InvalidClient;
    let jws = Jws::split(assertion, ASSERTION_BYTES_MAX).map_err(invalid)?;
    // Read before the signature is checked, because they say whose keys to check it with. Nothing else is done with them.
    let claims: Claims = jws.claims().map_err(invalid)?;
    let client = issuer.0.clients.find(&claims.sub).ok_or(TokenFault::InvalidClient)?;
    if !is_signed(&jws, &client) || !holds(&claims, client_id.as_deref(), issuer.url()) {
        return Err(TokenFault::InvalidClient);
    }
    match issuer.0.assertions.check([&claims.sub, &claims.jti], Instant::now()) {
        Outcome::Fresh => Ok(Authenticated { id: claims.sub, client, proved: true }),
        Outcome::Seen => Err(TokenFault::InvalidClient),
        Outcome::Full => Err(TokenFault::ServerError),
    }
}

fn is_signed(jws: &Jws<'_>, client: &Client) -> bool {
    let keys = client.jwks.iter().flat_map(|jwks| jwks.keys.iter().cloned()).take(KEYS_MAX);
    let named = |key: &PublicKey| jws.key_id.is_none() || key.id == jws.key_id;
    keys.filter_map(PublicKey::read).filter(named).any(|key| jws.is_signed_by(&key.decoding))
}

fn holds(claims: &Claims, client_id: Option<&str>, issuer: &str) -> bool {
    let (Audience::One(audience) | Audience::Listed([audience])) = &claims.aud;
    let now = now_seconds();
    claims.iss == claims.sub
        && client_id.is_none_or(|named| named == claims.sub)
        && (audience == issuer || audience.strip_prefix(issuer) == Some("/token"))
        && claims.exp.saturating_add(LEEWAY_SECONDS) > now
        && claims.exp <= now.saturating_add(LIFETIME_MAX_SECONDS + LEEWAY_SECONDS)
        && [claims.iat, claims.nbf].into_iter().flatten().all(|start| start <= now.saturating_add(LEEWAY_SECONDS))
        && !claims.jti.is_empty()
}

fn parse_basic(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

/// RFC 6749 section 2.3.1: both halves are form-encoded before they are put into the header.
fn form_decode(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={text}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
