//! One signing key: an ES256 key pair.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::{
    SecretKey,
    elliptic_curve::{rand_core::OsRng, sec1::ToEncodedPoint},
    pkcs8::{EncodePrivateKey, LineEnding},
};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::keys::KeyError;
use crate::jwk::thumbprint;

/// One ES256 key pair. Its `Debug` shows the key id only.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    secret: SecretKey,
    encoding: EncodingKey,
    public: (String, String),
}

impl SigningKey {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_secret(SecretKey::random(&mut OsRng))
    }

    /// The key id: the RFC 7638 thumbprint of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs claims into a JWT of this `typ`.
    pub fn sign(&self, kind: &str, claims: &impl Serialize) -> Result<String, KeyError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(kind.to_owned());
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding).map_err(|_| KeyError::Sign)
    }

    /// The public half, as it stands in a key set.
    pub fn public_jwk(&self) -> Value {
        let (x, y) = &self.public;
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y})
    }

    pub(super) fn from_secret(secret: SecretKey) -> Result<Self, KeyError> {
        let der = secret.to_pkcs8_der().map_err(|_| KeyError::Malformed)?;
        let encoding = EncodingKey::from_ec_der(der.as_bytes());
        let point = secret.public_key().to_encoded_point(false);
        let (x, y) = point.x().zip(point.y()).ok_or(KeyError::Malformed)?;
        let public = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let id = thumbprint(&public.0, &public.1);
        Ok(Self { id, secret, encoding, public })
    }

    pub(super) fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.secret.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Malformed)
    }

    /// Signs any bytes, so that tests can make tokens that the issuer never would.
    #[cfg(feature = "testing")]
    pub fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        use p256::ecdsa::signature::Signer;
        let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(&self.secret).sign(message);
        signature.to_bytes().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}
