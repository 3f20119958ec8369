//! The issuer's signing keys: ES256 key pairs in one PEM file that only its owner can read.
//!
//! The first key of the file signs. Any further ones are only published, so that tokens signed before a rotation go on
//! working until they expire.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::{
    SecretKey,
    elliptic_curve::{rand_core::OsRng, sec1::ToEncodedPoint},
    pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding},
};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::jwk::thumbprint;

const PEM_END: &str = "-----END PRIVATE KEY-----";
/// How many keys stay published, the signing one included.
const KEYS_MAX: usize = 4;

/// What can be wrong with a key or its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the signing key file could not be read or written")]
    Io(#[from] io::Error),
    #[error("the signing key file can be read by others than its owner; set its mode to 600")]
    ReadableByOthers,
    #[error("the signing key file holds no PEM-encoded P-256 private key")]
    Malformed,
    #[error("a token could not be signed")]
    Sign,
}

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

    /// Signs claims into a JWT.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding).map_err(|_| KeyError::Sign)
    }

    /// The public half, as it stands in a key set.
    pub fn public_jwk(&self) -> Value {
        let (x, y) = &self.public;
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y})
    }

    fn from_secret(secret: SecretKey) -> Result<Self, KeyError> {
        let der = secret.to_pkcs8_der().map_err(|_| KeyError::Malformed)?;
        let encoding = EncodingKey::from_ec_der(der.as_bytes());
        let point = secret.public_key().to_encoded_point(false);
        let (x, y) = point.x().zip(point.y()).ok_or(KeyError::Malformed)?;
        let public = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let id = thumbprint(&public.0, &public.1);
        Ok(Self { id, secret, encoding, public })
    }

    fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
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

/// The signing key and its published predecessors.
pub struct SigningKeys(RwLock<Vec<Arc<SigningKey>>>);

impl SigningKeys {
    /// One fresh key, kept nowhere: for an issuer that lives as long as a test.
    pub fn ephemeral() -> Result<Self, KeyError> {
        Ok(Self(RwLock::new(vec![Arc::new(SigningKey::generate()?)])))
    }

    /// Reads the key file, or makes it with a fresh key at the first start.
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &Zeroizing::new(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Self::ephemeral()?;
                keys.write(path)?;
                Ok(keys)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a fresh key sign from now on; the former ones stay published.
    pub fn rotate(&self) -> Result<(), KeyError> {
        let fresh = Arc::new(SigningKey::generate()?);
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(0, fresh);
        keys.truncate(KEYS_MAX);
        Ok(())
    }

    /// Writes all keys to a file that only its owner can read, in one step.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        for key in self.all() {
            file.write_all(key.to_pem()?.as_bytes())?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(())
    }

    /// The key that signs.
    pub fn current(&self) -> Arc<SigningKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)[0])
    }

    /// The key set as verifiers fetch it (RFC 7517).
    pub fn public_set(&self) -> Value {
        json!({"keys": self.all().iter().map(|key| key.public_jwk()).collect::<Vec<_>>()})
    }

    fn all(&self) -> Vec<Arc<SigningKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::ReadableByOthers);
        }
        let mut keys = Vec::new();
        for pem in text.split_inclusive(PEM_END).filter(|block| block.contains(PEM_END)) {
            let secret = SecretKey::from_pkcs8_pem(pem.trim_start()).map_err(|_| KeyError::Malformed)?;
            keys.push(Arc::new(SigningKey::from_secret(secret)?));
        }
        if keys.is_empty() { Err(KeyError::Malformed) } else { Ok(Self(RwLock::new(keys))) }
    }
}
