//! The form of an access token: what is read from it, and every reason to refuse one.
//!
//! ES256 is the only algorithm, on purpose: one curve, one signature form, nothing to confuse. Keycloak and every other
//! provider of note can be told to sign with it.
//!
//! Claims are checked here and not by `jsonwebtoken`, whose own check reads numbers through an untyped path that
//! `serde_json`'s `arbitrary_precision` (which clinical numbers need) turns into something else. The signature is its work.

use std::collections::BTreeSet;

use serde::{Deserialize, de::IgnoredAny};
use uuid::Uuid;

use crate::{
    caller::{Caller, Identity, Role},
    dpop::ProofFault,
    jws::Jws,
};

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
    #[error("the token is not an access token")]
    WrongType,
    #[error("the token is bound to something that is not understood here")]
    UnknownBinding,
    #[error("the token is bound to no key, and a bound one is needed (DPoP)")]
    NotBound,
    /// The token holds; the proof that came with it, or should have, does not.
    #[error(transparent)]
    BadProof(#[from] ProofFault),
    #[error("the token lacks the claim `{0}`")]
    MissingClaim(&'static str),
    /// Not the caller's fault: no key of the issuer has been fetched yet, or too many look-ups of keys are waiting.
    #[error("the issuer's keys could not be fetched yet")]
    KeysUnavailable,
    /// Not the caller's fault: so many proofs arrive that no further one can be remembered.
    #[error("too many DPoP proofs arrive at once")]
    TooManyProofs,
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
            TokenError::WrongType => "wrong-type",
            TokenError::UnknownBinding => "unknown-binding",
            TokenError::NotBound => "not-bound",
            TokenError::BadProof(fault) => fault.code(),
            TokenError::MissingClaim(_) => "missing-claim",
            TokenError::KeysUnavailable => "keys-unavailable",
            TokenError::TooManyProofs => "too-many-proofs",
        }
    }
}

/// What a token must say beside its signature.
pub(crate) struct Expected<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub now: i64,
    pub leeway_seconds: i64,
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

/// What tells an access token from other tokens of the same issuer, and to what it is bound.
#[derive(Deserialize)]
struct Nature {
    /// Keycloak writes here what RFC 9068 puts into the header.
    typ: Option<String>,
    at_hash: Option<IgnoredAny>,
    c_hash: Option<IgnoredAny>,
    nonce: Option<IgnoredAny>,
    cnf: Option<Confirmation>,
}

/// RFC 7800. Of its methods only the thumbprint of a DPoP key is understood.
#[derive(Deserialize)]
struct Confirmation {
    jkt: Option<String>,
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

/// Takes an access token apart, before any key is looked up.
pub(crate) fn split(token: &str) -> Result<(Jws<'_>, String), TokenError> {
    let mut jws = Jws::split(token, TOKEN_BYTES_MAX)?;
    // RFC 9068 says `at+jwt`; Keycloak and others say `JWT` or nothing. Proofs, logout tokens and the like say what they are.
    if !matches!(jws.kind.as_deref(), None | Some("at+jwt" | "jwt")) {
        return Err(TokenError::WrongType);
    }
    let key_id = jws.key_id.take().ok_or(TokenError::UnknownKey)?;
    Ok((jws, key_id))
}

/// The thumbprint of the key that a verified token is bound to; `None` for a plain bearer token. Refuses id tokens, refresh
/// tokens and whatever else is recognisably no access token.
pub(crate) fn read_binding(jws: &Jws<'_>) -> Result<Option<String>, TokenError> {
    let nature: Nature = jws.claims()?;
    let says_so = jws.kind.as_deref() == Some("at+jwt");
    let is_id_token = nature.at_hash.is_some() || nature.c_hash.is_some() || nature.nonce.is_some();
    if !matches!(nature.typ.as_deref(), None | Some("Bearer" | "DPoP")) || (is_id_token && !says_so) {
        return Err(TokenError::WrongType);
    }
    match nature.cnf {
        None => Ok(None),
        Some(Confirmation { jkt: Some(thumbprint) }) => Ok(Some(thumbprint)),
        // Bound to a client certificate, say: used as a bearer token it would be worth less than its issuer intended.
        Some(Confirmation { jkt: None }) => Err(TokenError::UnknownBinding),
    }
}

/// Reads the claims of a token whose signature has been verified, and checks each of them.
pub(crate) fn read_caller(jws: &Jws<'_>, expected: &Expected<'_>) -> Result<Caller, TokenError> {
    let claims: Claims = jws.claims()?;
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
