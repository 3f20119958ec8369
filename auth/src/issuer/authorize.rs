//! The authorization endpoint (RFC 6749 section 3.1): code flow with PKCE S256, and nothing else.
//!
//! Faults that make the way back doubtful are answered here; all others go back to the application. The request stays in
//! the address while a person signs in and is checked again then, so there is no state to steal or to fill up.

use axum::{
    Json,
    extract::{Form, OriginalUri, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{
    Client, Issuer,
    page::SignInPage,
    random_secret,
    sessions::{Code, SignIn},
    token_endpoint::{grant_scope, scope_of_application},
};
use crate::verifier::now_seconds;

/// The bytes of a SHA-256, as which challenges and thumbprints have to decode.
const HASH_BYTES: usize = 32;
/// The longest `state` and `nonce`, in bytes.
const STATE_BYTES_MAX: usize = 2 * 1024;

/// RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 9449 section 10.
#[derive(Deserialize)]
pub(super) struct AuthorizeRequest {
    response_type: Option<String>,
    client_id: Option<String>,
    redirect_uri: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    dpop_jkt: Option<String>,
    request: Option<String>,
    request_uri: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Login {
    account: String,
    secret: String,
}

/// A request that can be answered by a code.
struct Valid {
    client_id: String,
    client: Client,
    redirect_uri: Url,
    scope: String,
    challenge: String,
}

/// Why a request cannot.
enum Fault {
    /// There is no trustworthy way back.
    Here(&'static str),
    There {
        redirect_uri: Url,
        error: &'static str,
    },
}

/// Shows the page.
pub(super) async fn show(
    State(issuer): State<Issuer>,
    OriginalUri(uri): OriginalUri,
    query: Result<Query<AuthorizeRequest>, QueryRejection>,
) -> Response {
    let Ok(Query(request)) = query else { return refuse("the request is not well-formed") };
    match check(&issuer, &request) {
        Ok(valid) => page(&issuer, &valid, uri.query().unwrap_or_default(), ""),
        Err(fault) => fault.into_response(&issuer, &request),
    }
}

/// Checks who it is, and sends them back with a code.
pub(super) async fn sign_in(
    State(issuer): State<Issuer>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    query: Result<Query<AuthorizeRequest>, QueryRejection>,
    Form(login): Form<Login>,
) -> Response {
    let Ok(Query(request)) = query else { return refuse("the request is not well-formed") };
    let valid = match check(&issuer, &request) {
        Ok(valid) => valid,
        Err(fault) => return fault.into_response(&issuer, &request),
    };
    // Another site's form would sign somebody in as whom that site wants.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return refuse("the form was sent by another site");
    }
    let query = uri.query().unwrap_or_default();
    if !issuer.0.sessions.may_try(&login.account) {
        metrics::counter!("auth_sign_ins_total", "outcome" => "limited").increment(1);
        return page(&issuer, &valid, query, "Too many attempts with this account. Wait five minutes.");
    }
    let account = issuer.0.clients.authenticate(&login.account, &login.secret).filter(|account| account.person);
    if account.is_none() {
        metrics::counter!("auth_sign_ins_total", "outcome" => "refused").increment(1);
        return page(&issuer, &valid, query, "Account and secret do not fit together.");
    }
    issuer.0.sessions.forgive(&login.account);
    metrics::counter!("auth_sign_ins_total", "outcome" => "signed-in").increment(1);
    give_code(&issuer, valid, request, login.account)
}

fn give_code(issuer: &Issuer, valid: Valid, request: AuthorizeRequest, account_id: String) -> Response {
    let Ok(code) = random_secret() else {
        return Fault::There { redirect_uri: valid.redirect_uri, error: "server_error" }
            .into_response(issuer, &request);
    };
    let sign_in = SignIn::new(account_id, valid.client_id, valid.scope, request.nonce, now_seconds());
    let redirect_uri = request.redirect_uri.unwrap_or_default();
    issuer.0.sessions.remember_code(&code, Code::new(sign_in, redirect_uri, valid.challenge, request.dpop_jkt));
    send_back(issuer, valid.redirect_uri, ("code", &code), request.state.as_deref())
}

fn check(issuer: &Issuer, request: &AuthorizeRequest) -> Result<Valid, Fault> {
    let (client_id, client, redirect_uri) = find_application(issuer, request)?;
    let fault = |error| Fault::There { redirect_uri: redirect_uri.clone(), error };
    if request.response_type.as_deref() != Some("code") {
        return Err(fault("unsupported_response_type"));
    }
    if request.request.is_some() {
        return Err(fault("request_not_supported"));
    }
    if request.request_uri.is_some() {
        return Err(fault("request_uri_not_supported"));
    }
    let challenge = request.code_challenge.clone().filter(|challenge| is_hash(challenge));
    let challenge = challenge.filter(|_| request.code_challenge_method.as_deref() == Some("S256"));
    let challenge = challenge.ok_or_else(|| fault("invalid_request"))?;
    let too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > STATE_BYTES_MAX);
    if request.dpop_jkt.as_deref().is_some_and(|jkt| !is_hash(jkt))
        || too_long(&request.state)
        || too_long(&request.nonce)
    {
        return Err(fault("invalid_request"));
    }
    let scope =
        grant_scope(&scope_of_application(&client), request.scope.clone()).map_err(|_| fault("invalid_scope"))?;
    Ok(Valid { client_id, client, redirect_uri, scope, challenge })
}

/// The application, and its address, which must be one of those registered, to the letter.
fn find_application(issuer: &Issuer, request: &AuthorizeRequest) -> Result<(String, Client, Url), Fault> {
    let client_id = request.client_id.clone().ok_or(Fault::Here("client_id is missing"))?;
    let client = issuer.0.clients.find(&client_id).ok_or(Fault::Here("the application is not known"))?;
    let redirect_uri = request.redirect_uri.as_ref().ok_or(Fault::Here("redirect_uri is missing"))?;
    let url = client.redirect_uris.contains(redirect_uri).then(|| Url::parse(redirect_uri).ok()).flatten();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or(Fault::Here("redirect_uri is not one of the application's"))?;
    Ok((client_id, client, url))
}

fn is_hash(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == HASH_BYTES)
}

fn page(issuer: &Issuer, valid: &Valid, query: &str, message: &str) -> Response {
    let name = &valid.client.name;
    let application = if name.is_empty() { &valid.client_id } else { name };
    let action = format!("{}/authorize?{query}", issuer.url());
    SignInPage { application, action, redirect_uri: &valid.redirect_uri, message }.into_response()
}

impl Fault {
    fn into_response(self, issuer: &Issuer, request: &AuthorizeRequest) -> Response {
        match self {
            Fault::Here(description) => refuse(description),
            Fault::There { redirect_uri, error } => {
                send_back(issuer, redirect_uri, ("error", error), request.state.as_deref())
            }
        }
    }
}

/// With `iss`, so that the application notices the answer of another issuer (RFC 9207).
fn send_back(issuer: &Issuer, mut redirect_uri: Url, (name, value): (&str, &str), state: Option<&str>) -> Response {
    {
        let mut query = redirect_uri.query_pairs_mut();
        query.append_pair(name, value);
        if let Some(state) = state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", issuer.url());
    }
    let Ok(location) = HeaderValue::from_str(redirect_uri.as_str()) else { return refuse("the way back is no URL") };
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn refuse(description: &'static str) -> Response {
    let body = json!({"error": "invalid_request", "error_description": description});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
