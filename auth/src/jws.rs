//! Signed JWTs in compact form (RFC 7515), taken apart: the algorithm is pinned before any key is looked up.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use crate::token::TokenError;

/// A JWT taken apart, with nothing verified yet. `jku`, `x5u`, `x5c` and the like are never looked at: a token does not
/// say where its key is.
pub(crate) struct Jws<'a> {
    pub key_id: Option<String>,
    /// The `typ` of the header, in lower case and without `application/`.
    pub kind: Option<String>,
    /// The key in the header, of which only DPoP makes use.
    pub key: Option<Value>,
    signed: &'a str,
    signature: &'a str,
    payload: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    jwk: Option<Value>,
    #[serde(default)]
    crit: Presence,
}

/// Whether a member is there at all, `null` included.
#[derive(Default)]
struct Presence(bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl<'a> Jws<'a> {
    /// Takes a JWT apart.
    ///
    /// # Errors
    /// `Malformed` unless it is a bounded three-part JWT without critical extensions; `WrongAlgorithm` unless ES256.
    pub fn split(text: &'a str, bytes_max: usize) -> Result<Self, TokenError> {
        if text.is_empty() || text.len() > bytes_max {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }
        let header: Header = decode(header)?;
        if header.alg != "ES256" {
            return Err(TokenError::WrongAlgorithm);
        }
        // `crit` names extensions that change the meaning of the token; we understand none, so RFC 7515 says to refuse.
        if header.crit.0 {
            return Err(TokenError::Malformed);
        }
        let kind = header.typ.map(|kind| kind.to_ascii_lowercase());
        let kind = kind.map(|kind| kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind));
        Ok(Self { key_id: header.kid, kind, key: header.jwk, signed, signature, payload })
    }

    /// Whether the signature is that key's.
    pub fn is_signed_by(&self, key: &DecodingKey) -> bool {
        crypto::verify(self.signature, self.signed.as_bytes(), key, Algorithm::ES256).unwrap_or(false)
    }

    /// Reads the claims. They mean nothing before the signature was verified.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, TokenError> {
        decode(self.payload)
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}
