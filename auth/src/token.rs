//! The form of an access token: what is read from it, and every reason to refuse one.
//!
//! Claims are checked here and not by `jsonwebtoken`, whose own check reads numbers through an untyped path that
//! `serde_json`'s `arbitrary_precision` (which clinical numbers need) turns into something else. The signature is its work.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use uuid::Uuid;

use crate::caller::{Caller, Identity, Role};

/// The longest token that is looked at, in bytes. Larger ones are refused before any work is done on them.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The longest `sub` that is accepted, in bytes (OpenID Connect's own limit).
const SUBJECT_BYTES_MAX: usize = 255;

/// Why a token was refused. Messages and codes say nothing of what stood in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("no bearer token was sent")]
    Missing,
    #[error("the token is not a well-formed JWT of bounded size")]
    Malformed,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token was issued by someone else")]
    WrongIssuer,
    #[error("the token is meant for another audience")]
    WrongAudience,
    #[error("the issuer publishes no key with the token's key id")]
    UnknownKey,
    #[error("the token is not signed with ES256")]
    WrongAlgorithm,
    #[error("the token's signature does not verify")]
    BadSignature,
    #[error("the token lacks the claim `{0}`")]
    MissingClaim(&'static str),
    /// Not the caller's fault: no key of the issuer has been fetched yet, or too many look-ups of keys are waiting.
    #[error("the issuer's keys could not be fetched yet")]
    KeysUnavailable,
}

impl TokenError {
    /// A stable name for problems, metrics and tests.
    pub fn code(self) -> &'static str {
        match self {
            TokenError::Missing => "missing",
            TokenError::Malformed => "malformed",
            TokenError::Expired => "expired",
            TokenError::NotYetValid => "not-yet-valid",
            TokenError::WrongIssuer => "wrong-issuer",
            TokenError::WrongAudience => "wrong-audience",
            TokenError::UnknownKey => "unknown-key",
            TokenError::WrongAlgorithm => "wrong-algorithm",
            TokenError::BadSignature => "bad-signature",
            TokenError::MissingClaim(_) => "missing-claim",
            TokenError::KeysUnavailable => "keys-unavailable",
        }
    }
}

/// A token taken apart, with nothing verified yet.
pub(crate) struct Parts<'a> {
    /// `header.payload`, the bytes under the signature.
    pub signed: &'a str,
    pub signature: &'a str,
    pub key_id: String,
    payload: &'a str,
}

/// What a token must say beside its signature.
pub(crate) struct Expected<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub now: i64,
    pub leeway_seconds: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<OneOrMany>,
    exp: Option<i64>,
    iat: Option<i64>,
    nbf: Option<i64>,
    client_id: Option<String>,
    azp: Option<String>,
    patient: Option<Uuid>,
    #[serde(rename = "fhirUser")]
    fhir_user: Option<String>,
    organization: Option<Uuid>,
    scope: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

/// `aud` is a string or a list of strings. Untagged is safe here: there are no numbers in it.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn contains(&self, wanted: &str) -> bool {
        match self {
            OneOrMany::One(one) => one == wanted,
            OneOrMany::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

/// Takes a token apart and pins its algorithm, before any key is looked up.
pub(crate) fn split(token: &str) -> Result<Parts<'_>, TokenError> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if payload.contains('.') {
        return Err(TokenError::Malformed);
    }
    let header: Header = decode(header)?;
    if header.alg != "ES256" {
        return Err(TokenError::WrongAlgorithm);
    }
    // `crit` names extensions that change the meaning of the token; we understand none, so RFC 7515 says to refuse.
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    let key_id = header.kid.ok_or(TokenError::UnknownKey)?;
    Ok(Parts { signed, signature, key_id, payload })
}

/// Reads the claims of a token whose signature has been verified, and checks each of them.
pub(crate) fn read_caller(parts: &Parts<'_>, expected: &Expected<'_>) -> Result<Caller, TokenError> {
    let claims: Claims = decode(parts.payload)?;
    let issuer = claims.iss.as_deref().ok_or(TokenError::MissingClaim("iss"))?;
    if issuer != expected.issuer {
        return Err(TokenError::WrongIssuer);
    }
    if !claims.aud.as_ref().ok_or(TokenError::MissingClaim("aud"))?.contains(expected.audience) {
        return Err(TokenError::WrongAudience);
    }
    let expires_at = check_times(&claims, expected)?;
    let id = claims.sub.filter(|subject| !subject.is_empty()).ok_or(TokenError::MissingClaim("sub"))?;
    if id.len() > SUBJECT_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let fhir_user = claims.fhir_user.as_deref();
    Ok(Caller::new(Identity {
        id,
        roles: claims.roles.iter().filter_map(|name| name.parse::<Role>().ok()).collect::<BTreeSet<_>>(),
        patient: claims.patient.or_else(|| user_of_type(fhir_user, "Patient")),
        practitioner: user_of_type(fhir_user, "Practitioner"),
        organization: claims.organization,
        scopes: claims.scope.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        client_id: claims.client_id.or(claims.azp),
        expires_at,
    }))
}

/// The id in `Practitioner/<uuid>`. Another server's user (an absolute URL) is nobody in our directory, and stands for no one.
fn user_of_type(fhir_user: Option<&str>, resource_type: &str) -> Option<Uuid> {
    fhir_user?.strip_prefix(resource_type)?.strip_prefix('/')?.parse().ok()
}

/// Whether a token that ends at `expires_at` is over.
pub(crate) fn is_over(expires_at: i64, now: i64, leeway_seconds: i64) -> bool {
    now >= expires_at.saturating_add(leeway_seconds)
}

fn check_times(claims: &Claims, expected: &Expected<'_>) -> Result<i64, TokenError> {
    let expires_at = claims.exp.ok_or(TokenError::MissingClaim("exp"))?;
    let issued_at = claims.iat.ok_or(TokenError::MissingClaim("iat"))?;
    if is_over(expires_at, expected.now, expected.leeway_seconds) {
        return Err(TokenError::Expired);
    }
    let latest_start = expected.now.saturating_add(expected.leeway_seconds);
    if issued_at > latest_start || claims.nbf.is_some_and(|not_before| not_before > latest_start) {
        return Err(TokenError::NotYetValid);
    }
    Ok(expires_at)
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}
