//! The issuer over HTTP. Errors have RFC 6749's own form, because OAuth clients read that and nothing else.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Form, State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, Issuer};

/// The largest token request, in bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
struct TokenRequest {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    scope: Option<String>,
}

struct Credentials {
    id: String,
    secret: String,
}

/// RFC 6749 section 5.2.
enum TokenFault {
    InvalidRequest,
    InvalidClient,
    UnsupportedGrantType,
    InvalidScope,
    ServerError,
}

pub(super) fn router(issuer: Issuer) -> Router {
    Router::new()
        .route("/", get(describe_issuer))
        .route("/.well-known/openid-configuration", get(read_discovery))
        .route("/.well-known/oauth-authorization-server", get(read_discovery))
        .route("/.well-known/jwks.json", get(read_keys))
        .route("/token", post(issue_token))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(issuer)
}

async fn describe_issuer(State(issuer): State<Issuer>) -> Json<Value> {
    Json(json!({
        "service": "auth",
        "what": "NexusHealth's built-in issuer: tokens for demo and service accounts on one machine. \
                 Not an identity provider for people; production uses an OpenID Connect provider instead.",
        "issuer": issuer.url(),
        "discovery": format!("{}/.well-known/openid-configuration", issuer.url()),
    }))
}

async fn read_discovery(State(issuer): State<Issuer>) -> Json<Value> {
    let url = issuer.url();
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "token_endpoint": format!("{url}/token"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn read_keys(State(issuer): State<Issuer>) -> Json<Value> {
    Json(issuer.keys().public_set())
}

async fn issue_token(
    State(issuer): State<Issuer>,
    headers: HeaderMap,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Response {
    let by_basic = headers.contains_key(header::AUTHORIZATION);
    let answer = match form {
        Ok(Form(request)) => answer_token_request(&issuer, &headers, request),
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

fn answer_token_request(issuer: &Issuer, headers: &HeaderMap, request: TokenRequest) -> Result<Value, TokenFault> {
    let grant_type = request.grant_type.as_deref().ok_or(TokenFault::InvalidRequest)?;
    if grant_type != "client_credentials" {
        return Err(TokenFault::UnsupportedGrantType);
    }
    let credentials = read_credentials(headers, request.client_id, request.client_secret)?;
    let client = issuer.0.clients.authenticate(&credentials.id, &credentials.secret);
    let client = client.ok_or(TokenFault::InvalidClient)?;
    let scope = grant_scope(&client, request.scope)?;
    let token = issuer.issue(&credentials.id, &client, &scope).map_err(|_| TokenFault::ServerError)?;
    let mut body = json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": issuer.0.config.token_lifetime.as_secs(),
    });
    if !scope.is_empty() {
        body["scope"] = scope.into();
    }
    Ok(body)
}

/// By the Authorization header or in the form, never both (RFC 6749 section 2.3).
fn read_credentials(
    headers: &HeaderMap,
    id: Option<String>,
    secret: Option<String>,
) -> Result<Credentials, TokenFault> {
    match (headers.get(header::AUTHORIZATION), id, secret) {
        (Some(_), _, Some(_)) => Err(TokenFault::InvalidRequest),
        (Some(value), id, None) => {
            let credentials = parse_basic(value).ok_or(TokenFault::InvalidClient)?;
            let agrees = id.is_none_or(|id| id == credentials.id);
            if agrees { Ok(credentials) } else { Err(TokenFault::InvalidRequest) }
        }
        (None, Some(id), Some(secret)) => Ok(Credentials { id, secret }),
        (None, _, _) => Err(TokenFault::InvalidClient),
    }
}

fn parse_basic(value: &HeaderValue) -> Option<Credentials> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some(Credentials { id: form_decode(id), secret: form_decode(secret) })
}

/// RFC 6749 section 2.3.1: both halves are form-encoded before they are put into the header.
fn form_decode(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={text}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

fn grant_scope(client: &Client, requested: Option<String>) -> Result<String, TokenFault> {
    let Some(requested) = requested else { return Ok(client.scope.clone()) };
    let allowed: Vec<&str> = client.scope.split_whitespace().collect();
    let within = requested.split_whitespace().all(|scope| allowed.contains(&scope));
    if within { Ok(requested) } else { Err(TokenFault::InvalidScope) }
}

impl TokenFault {
    fn code(&self) -> &'static str {
        match self {
            TokenFault::InvalidRequest => "invalid_request",
            TokenFault::InvalidClient => "invalid_client",
            TokenFault::UnsupportedGrantType => "unsupported_grant_type",
            TokenFault::InvalidScope => "invalid_scope",
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
