//! One proof, checked against one request (RFC 9449 section 4.3). Whether it came before is not decided here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use super::{AGE_MAX_SECONDS, AHEAD_MAX_SECONDS};
use crate::{jwk::PublicKey, jws::Jws, token::TokenError};

/// The largest proof that is looked at, in bytes; a proof has some 500.
const PROOF_BYTES_MAX: usize = 4 * 1024;
/// The longest `jti`, in bytes.
const ID_BYTES_MAX: usize = 256;

/// Why a proof does not hold. Messages and codes say nothing of what stood in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    #[error("the token is bound to a key and needs a DPoP proof")]
    Missing,
    #[error("the DPoP proof is not a well-formed JWT of the type dpop+jwt with a public P-256 key")]
    Malformed,
    #[error("the DPoP proof is not signed with ES256")]
    WrongAlgorithm,
    #[error("the DPoP proof's signature does not verify")]
    BadSignature,
    #[error("the DPoP proof is for another method")]
    WrongMethod,
    #[error("the DPoP proof is for another address")]
    WrongAddress,
    #[error("the DPoP proof is for another token")]
    WrongToken,
    #[error("the token is bound to another key than the DPoP proof's")]
    WrongKey,
    #[error("the DPoP proof is too old or from the future")]
    Stale,
    #[error("the DPoP proof was used before")]
    Replayed,
    #[error("the DPoP proof needs the nonce of the DPoP-Nonce header")]
    NonceNeeded,
}

impl ProofFault {
    /// A stable name for problems, metrics and tests.
    pub fn code(self) -> &'static str {
        match self {
            ProofFault::Missing => "proof-missing",
            ProofFault::Malformed => "proof-malformed",
            ProofFault::WrongAlgorithm => "proof-wrong-algorithm",
            ProofFault::BadSignature => "proof-bad-signature",
            ProofFault::WrongMethod => "proof-wrong-method",
            ProofFault::WrongAddress => "proof-wrong-address",
            ProofFault::WrongToken => "proof-wrong-token",
            ProofFault::WrongKey => "proof-wrong-key",
            ProofFault::Stale => "proof-stale",
            ProofFault::Replayed => "proof-replayed",
            ProofFault::NonceNeeded => "proof-nonce-needed",
        }
    }
}

/// What a proof must say.
pub(crate) struct Expected<'a> {
    pub method: &'a str,
    /// The address of the request, without a query.
    pub url: &'a Url,
    /// The token that comes along; none where one is being asked for.
    pub token: Option<&'a str>,
    /// In seconds since 1970.
    pub now: i64,
}

/// What a proof that holds says of its sender.
pub(crate) struct Verified {
    pub thumbprint: String,
    /// The `jti`.
    pub id: String,
    pub nonce: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: i64,
    ath: Option<String>,
    nonce: Option<String>,
}

/// Checks everything about a proof that can be known without a memory.
pub(crate) fn verify(proof: &str, expected: &Expected<'_>) -> Result<Verified, ProofFault> {
    let jws = Jws::split(proof, PROOF_BYTES_MAX).map_err(|error| match error {
        TokenError::WrongAlgorithm => ProofFault::WrongAlgorithm,
        _ => ProofFault::Malformed,
    })?;
    if jws.kind.as_deref() != Some("dpop+jwt") {
        return Err(ProofFault::Malformed);
    }
    let key = jws.key.clone().and_then(PublicKey::read).ok_or(ProofFault::Malformed)?;
    if !jws.is_signed_by(&key.decoding) {
        return Err(ProofFault::BadSignature);
    }
    let claims: Claims = jws.claims().map_err(|_| ProofFault::Malformed)?;
    check_claims(&claims, expected)?;
    Ok(Verified { thumbprint: key.thumbprint, id: claims.jti, nonce: claims.nonce })
}

fn check_claims(claims: &Claims, expected: &Expected<'_>) -> Result<(), ProofFault> {
    if claims.jti.is_empty() || claims.jti.len() > ID_BYTES_MAX {
        return Err(ProofFault::Malformed);
    }
    if claims.htm != expected.method {
        return Err(ProofFault::WrongMethod);
    }
    if !is_address(&claims.htu, expected.url) {
        return Err(ProofFault::WrongAddress);
    }
    let age = expected.now.saturating_sub(claims.iat);
    if !(-AHEAD_MAX_SECONDS..=AGE_MAX_SECONDS).contains(&age) {
        return Err(ProofFault::Stale);
    }
    match expected.token {
        Some(token) if !is_hash_of(claims.ath.as_deref(), token) => Err(ProofFault::WrongToken),
        _ => Ok(()),
    }
}

/// RFC 9449 compares without query and fragment, after the normalisation that parsing a URL does.
fn is_address(text: &str, expected: &Url) -> bool {
    let Ok(mut url) = Url::parse(text) else { return false };
    url.set_query(None);
    url.set_fragment(None);
    url == *expected
}

fn is_hash_of(hash: Option<&str>, token: &str) -> bool {
    let actual = URL_SAFE_NO_PAD.encode(Sha256::digest(token));
    hash.is_some_and(|hash| hash.as_bytes().ct_eq(actual.as_bytes()).into())
}
