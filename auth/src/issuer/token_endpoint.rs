//! The token endpoint (RFC 6749 section 3.2). Errors have that RFC's own form, because OAuth clients read that and nothing
//! else.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{Form, State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use super::{
    Client, Grant, Issuer, KeyError,
    client_authentication::{self, Authenticated, Presented},
    random_secret,
    sessions::{Code, SignIn},
};
use crate::{dpop, replay::Outcome, verifier::now_seconds};

/// The shortest and the longest PKCE verifier (RFC 7636 section 4.1).
const VERIFIER_BYTES: std::ops::RangeInclusive<usize> = 43..=128;

#[derive(Deserialize)]
pub(super) struct TokenRequest {
    grant_type: Option<String>,
    scope: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion_type: Option<String>,
    client_assertion: Option<String>,
    code: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
    refresh_token: Option<String>,
}

/// RFC 6749 section 5.2, and RFC 9449 section 5.
#[derive(Clone, Copy)]
pub(super) enum TokenFault {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    InvalidDpopProof,
    ServerError,
}

/// OpenID Connect Core section 2.
#[derive(Serialize)]
struct IdTokenClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    azp: &'a str,
    iat: i64,
    exp: i64,
    auth_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

pub(super) async fn issue_token(
    State(issuer): State<Issuer>,
    headers: HeaderMap,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Response {
    let by_basic = headers.contains_key(header::AUTHORIZATION);
    let answer = match form {
        Ok(Form(request)) => answer(&issuer, &headers, request),
        Err(_) => Err(TokenFault::InvalidRequest),
    };
    let outcome = answer.as_ref().map_or_else(|fault| fault.code(), |_| "issued");
    metrics::counter!("auth_tokens_issued_total", "outcome" => outcome).increment(1);
    let mut response = match answer {
        Ok(body) => Json(body).into_response(),
        Err(fault) => fault.into_response(by_basic),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn answer(issuer: &Issuer, headers: &HeaderMap, mut request: TokenRequest) -> Result<Value, TokenFault> {
    let grant_type = request.grant_type.take().ok_or(TokenFault::InvalidRequest)?;
    if !["client_credentials", "authorization_code", "refresh_token"].contains(&grant_type.as_str()) {
        return Err(TokenFault::UnsupportedGrantType);
    }
    let presented = Presented {
        client_id: request.client_id.take(),
        client_secret: request.client_secret.take(),
        assertion_type: request.client_assertion_type.take(),
        assertion: request.client_assertion.take(),
    };
    let client = client_authentication::authenticate(issuer, headers, presented)?;
    let bound_to = check_proof(issuer, headers)?;
    match grant_type.as_str() {
        "client_credentials" => for_client(issuer, &client, request.scope, bound_to.as_deref()),
        "authorization_code" => for_code(issuer, &client, &request, bound_to.as_deref()),
        _ => for_refresh_token(issuer, &client, request, bound_to.as_deref()),
    }
}

/// The thumbprint of the key that the token shall be bound to, if a proof came along (RFC 9449 section 5).
fn check_proof(issuer: &Issuer, headers: &HeaderMap) -> Result<Option<String>, TokenFault> {
    let mut proofs = headers.get_all("dpop").iter();
    let Some(proof) = proofs.next() else { return Ok(None) };
    let invalid = TokenFault::InvalidDpopProof;
    let proof = if proofs.next().is_some() { None } else { proof.to_str().ok() };
    let url = Url::parse(&format!("{}/token", issuer.url())).map_err(|_| TokenFault::ServerError)?;
    let expected = dpop::Expected { method: "POST", url: &url, token: None, now: now_seconds() };
    let verified = dpop::verify(proof.ok_or(invalid)?, &expected).map_err(|_| invalid)?;
    match issuer.0.proofs.check([&verified.thumbprint, &verified.id], Instant::now()) {
        Outcome::Fresh => Ok(Some(verified.thumbprint)),
        Outcome::Seen => Err(invalid),
        Outcome::Full => Err(TokenFault::ServerError),
    }
}

fn for_client(
    issuer: &Issuer,
    client: &Authenticated,
    scope: Option<String>,
    bound_to: Option<&str>,
) -> Result<Value, TokenFault> {
    if !client.proved {
        return Err(TokenFault::UnauthorizedClient);
    }
    let scope = grant_scope(&client.client.scope, scope)?;
    let (id, account) = (client.id.as_str(), &client.client);
    access_token(issuer, &Grant { account_id: id, account, client_id: id, scope: &scope, bound_to })
}

fn for_code(
    issuer: &Issuer,
    client: &Authenticated,
    request: &TokenRequest,
    bound_to: Option<&str>,
) -> Result<Value, TokenFault> {
    let (Some(code), Some(redirect_uri), Some(verifier)) =
        (&request.code, &request.redirect_uri, &request.code_verifier)
    else {
        return Err(TokenFault::InvalidRequest);
    };
    let code = issuer.0.sessions.redeem_code(code).ok_or(TokenFault::InvalidGrant)?;
    let promised_another_key = code.bound_to.is_some() && code.bound_to.as_deref() != bound_to;
    if code.sign_in.client_id != client.id
        || code.redirect_uri != *redirect_uri
        || !answers_challenge(&code, verifier)
        || promised_another_key
    {
        return Err(TokenFault::InvalidGrant);
    }
    for_person(issuer, &code.sign_in, &code.sign_in.scope, bound_to)
}

fn for_refresh_token(
    issuer: &Issuer,
    client: &Authenticated,
    request: TokenRequest,
    bound_to: Option<&str>,
) -> Result<Value, TokenFault> {
    let token = request.refresh_token.ok_or(TokenFault::InvalidRequest)?;
    let sign_in = issuer.0.sessions.redeem_refresh_token(&token, &client.id, bound_to);
    let sign_in = sign_in.ok_or(TokenFault::InvalidGrant)?;
    let scope = grant_scope(&sign_in.scope, request.scope)?;
    for_person(issuer, &sign_in, &scope, bound_to)
}

/// PKCE with SHA-256, the only method (RFC 7636 section 4.6).
fn answers_challenge(code: &Code, verifier: &str) -> bool {
    let answer = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    VERIFIER_BYTES.contains(&verifier.len()) && bool::from(answer.as_bytes().ct_eq(code.challenge.as_bytes()))
}

/// What a person's application gets. The account is looked up each time: one that is gone gets nothing more.
fn for_person(
    issuer: &Issuer,
    sign_in: &Arc<SignIn>,
    scope: &str,
    bound_to: Option<&str>,
) -> Result<Value, TokenFault> {
    let account = issuer.0.clients.find(&sign_in.account_id).filter(|account| account.person);
    let account = account.ok_or(TokenFault::InvalidGrant)?;
    let (account_id, client_id) = (sign_in.account_id.as_str(), sign_in.client_id.as_str());
    let mut body = access_token(issuer, &Grant { account_id, account: &account, client_id, scope, bound_to })?;
    if scope.split(' ').any(|scope| scope == "openid") {
        body["id_token"] = id_token(issuer, sign_in)?.into();
    }
    let refresh_token = random_secret()?;
    issuer.0.sessions.remember_refresh_token(&refresh_token, Arc::clone(sign_in), bound_to.map(str::to_owned));
    body["refresh_token"] = refresh_token.into();
    Ok(body)
}

fn access_token(issuer: &Issuer, grant: &Grant<'_>) -> Result<Value, TokenFault> {
    let mut body = json!({
        "access_token": issuer.issue(grant)?,
        "token_type": if grant.bound_to.is_some() { "DPoP" } else { "Bearer" },
        "expires_in": issuer.0.config.token_lifetime.as_secs(),
    });
    if !grant.scope.is_empty() {
        body["scope"] = grant.scope.into();
    }
    Ok(body)
}

fn id_token(issuer: &Issuer, sign_in: &SignIn) -> Result<String, KeyError> {
    let now = now_seconds();
    let lifetime = i64::try_from(issuer.0.config.token_lifetime.as_secs()).unwrap_or(i64::MAX);
    let claims = IdTokenClaims {
        iss: issuer.url(),
        sub: &sign_in.account_id,
        aud: &sign_in.client_id,
        azp: &sign_in.client_id,
        iat: now,
        exp: now.saturating_add(lifetime),
        auth_time: sign_in.at,
        nonce: sign_in.nonce.as_deref(),
    };
    issuer.0.keys.current().sign("JWT", &claims)
}

/// What was asked for, if all of it may be had; all that may be had, if nothing was.
pub(super) fn grant_scope(allowed: &str, requested: Option<String>) -> Result<String, TokenFault> {
    let Some(requested) = requested else { return Ok(allowed.to_owned()) };
    let allowed: Vec<&str> = allowed.split_whitespace().collect();
    let within = requested.split_whitespace().all(|scope| allowed.contains(&scope));
    if within { Ok(requested) } else { Err(TokenFault::InvalidScope) }
}

/// What an application may ask for a person who signs in.
pub(super) fn scope_of_application(client: &Client) -> String {
    format!("openid {}", client.scope).trim_end().to_owned()
}

impl From<KeyError> for TokenFault {
    fn from(error: KeyError) -> Self {
        tracing::error!(error = %error, "a token could not be made");
        TokenFault::ServerError
    }
}

impl TokenFault {
    pub fn code(self) -> &'static str {
        match self {
            TokenFault::InvalidRequest => "invalid_request",
            TokenFault::InvalidClient => "invalid_client",
            TokenFault::InvalidGrant => "invalid_grant",
            TokenFault::UnauthorizedClient => "unauthorized_client",
            TokenFault::UnsupportedGrantType => "unsupported_grant_type",
            TokenFault::InvalidScope => "invalid_scope",
            TokenFault::InvalidDpopProof => "invalid_dpop_proof",
            TokenFault::ServerError => "server_error",
        }
    }

    fn into_response(self, by_basic: bool) -> Response {
        let status = match self {
            TokenFault::InvalidClient => StatusCode::UNAUTHORIZED,
            TokenFault::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut response = (status, Json(json!({"error": self.code()}))).into_response();
        if by_basic && status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"nexushealth\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
