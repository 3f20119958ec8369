//! The issuer's addresses, and what it says about itself.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{Issuer, authorize, token_endpoint};

/// The largest token request, in bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

pub(super) fn router(issuer: Issuer) -> Router {
    Router::new()
        .route("/", get(describe_issuer))
        .route("/.well-known/openid-configuration", get(read_discovery))
        .route("/.well-known/oauth-authorization-server", get(read_discovery))
        .route("/.well-known/jwks.json", get(read_keys))
        .route("/authorize", get(authorize::show).post(authorize::sign_in))
        .route("/token", post(token_endpoint::issue_token))
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
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "scopes_supported": ["openid"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["client_credentials", "authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "dpop_signing_alg_values_supported": ["ES256"],
        "authorization_response_iss_parameter_supported": true,
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce"],
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    }))
}

async fn read_keys(State(issuer): State<Issuer>) -> Json<Value> {
    Json(issuer.keys().public_set())
}
