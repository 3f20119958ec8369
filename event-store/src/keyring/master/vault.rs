//! A master key in the Transit engine of HashiCorp Vault or OpenBao: it never leaves there, and every use is in its audit.
//!
//! The name of what is wrapped goes along as `associated_data`, and as `context` for keys that are made `derived`; one of the
//! two binds it, and nothing is stored before that is proven.
//! <https://developer.hashicorp.com/vault/api-docs/secret/transit>

mod http;
mod session;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::wrap::KeyBytes;
use super::{MasterKeyError, MasterKeyService, Wrapped};
use http::{Http, Refusal};
use session::Session;

pub(super) use session::Login;

/// What Vault's ciphertexts start with; a version and a colon follow.
const CIPHERTEXT_PREFIX: &str = "vault:";

/// Where a Transit key is and how to get at it.
pub(super) struct VaultSettings {
    /// Such as `https://vault.example:8200`.
    pub(super) address: url::Url,
    /// Where the Transit engine is mounted.
    pub(super) mount: String,
    pub(super) key: String,
    pub(super) namespace: Option<String>,
    /// Of which it has to show a certificate.
    pub(super) authorities: Option<std::path::PathBuf>,
    pub(super) login: Login,
}

pub(super) struct VaultKey {
    http: Http,
    session: Session,
    mount: String,
    key: String,
}

impl VaultKey {
    pub(super) fn try_new(settings: VaultSettings) -> Result<Self, MasterKeyError> {
        let VaultSettings { address, mount, key, namespace, authorities, login } = settings;
        let http = Http::try_new(address, namespace, authorities.as_deref())?;
        Ok(Self { session: Session::new(http.clone(), login), http, mount, key })
    }

    async fn encrypt(&self, name: &str, key: &[u8; 32]) -> Result<String, MasterKeyError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key));
        let request = Encrypt { plaintext: &plaintext, binding: Binding::of(name) };
        let answer = self.ask("encrypt", &request).await.map_err(|refusal| self.refused(refusal))?;
        let answer: Answer<Encrypted> = read(&answer)?;
        Ok(answer.data.ciphertext.to_owned())
    }

    async fn decrypt(&self, name: &str, ciphertext: &str) -> Result<KeyBytes, MasterKeyError> {
        let request = Decrypt { ciphertext, binding: Binding::of(name) };
        let answer = self.ask("decrypt", &request).await.map_err(|refusal| match refusal {
            Refusal::Invalid(why) if is_other_key(&why) => MasterKeyError::Wrong,
            refusal => self.refused(refusal),
        })?;
        let answer: Answer<Decrypted> = read(&answer)?;
        let mut key = Zeroizing::new([0; 32]);
        match STANDARD.decode_slice(answer.data.plaintext, key.as_mut_slice()) {
            Ok(32) => Ok(key),
            _ => Err(MasterKeyError::Wrong),
        }
    }

    /// Asks with the token at hand, and once more with a new one should it have been revoked.
    async fn ask(&self, what: &str, request: &(impl Serialize + Sync)) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let path = format!("{}/{what}/{}", self.mount, self.key);
        let token = self.session.token().await?;
        match self.http.post(&path, Some(&token), request).await {
            Err(Refusal::Denied(_)) if self.session.forget(&token).await => {
                self.http.post(&path, Some(&self.session.token().await?), request).await
            }
            answer => answer,
        }
    }

    fn refused(&self, refusal: Refusal) -> MasterKeyError {
        let place = self.place();
        match refusal {
            Refusal::Away(why) => MasterKeyError::Unavailable(format!("{place} can't be reached: {why}")),
            Refusal::Sealed => MasterKeyError::Unavailable(format!("{place} is sealed, or on standby")),
            Refusal::Denied(why) => MasterKeyError::Refused(format!("{place} denies it: {why}")),
            Refusal::Absent(why) => MasterKeyError::Refused(format!("{place} does not exist: {why}")),
            Refusal::Invalid(why) => MasterKeyError::Refused(format!("{place} refuses it: {why}")),
            Refusal::Setting(why) => MasterKeyError::Refused(why),
        }
    }

    /// A service that ignores what it does not know would wrap without binding the name.
    async fn prove_binding(&self, ciphertext: &str) -> Result<(), MasterKeyError> {
        match self.decrypt("nexus-another-name-1", ciphertext).await {
            Err(MasterKeyError::Wrong) => Ok(()),
            Ok(_) => Err(MasterKeyError::Refused(format!(
                "{} binds neither associated_data nor context; use an AEAD key, or one that is derived",
                self.place()
            ))),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl MasterKeyService for VaultKey {
    fn place(&self) -> String {
        format!("the key {}/{} of the Vault at {}", self.mount, self.key, self.http.address())
    }

    async fn wrap(&self, name: &str, key: &[u8; 32]) -> Result<Wrapped, MasterKeyError> {
        let ciphertext = self.encrypt(name, key).await?;
        self.prove_binding(&ciphertext).await?;
        let version = ciphertext.strip_prefix(CIPHERTEXT_PREFIX).and_then(|rest| rest.split(':').next());
        let version = version.ok_or_else(|| self.refused(Refusal::Invalid("an answer of another form".into())))?;
        Ok(Wrapped { by: format!("vault:{}/{}:{version}", self.mount, self.key), bytes: ciphertext.into_bytes() })
    }

    async fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<KeyBytes, MasterKeyError> {
        match std::str::from_utf8(wrapped) {
            Ok(ciphertext) if ciphertext.starts_with(CIPHERTEXT_PREFIX) => self.decrypt(name, ciphertext).await,
            _ => Err(MasterKeyError::Wrong),
        }
    }
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    #[serde(flatten)]
    binding: Binding,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    #[serde(flatten)]
    binding: Binding,
}

/// Names the wrapped key in both ways that Transit knows. It ignores the context of a key that is not derived.
#[derive(Serialize)]
struct Binding {
    associated_data: String,
    context: String,
}

impl Binding {
    fn of(name: &str) -> Self {
        Self { associated_data: STANDARD.encode(name), context: STANDARD.encode(name) }
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted<'a> {
    ciphertext: &'a str,
}

/// Borrowed, so that no copy is made that is not wiped.
#[derive(Deserialize)]
struct Decrypted<'a> {
    plaintext: &'a str,
}

fn read<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, MasterKeyError> {
    // The error of serde may quote the answer, so it is dropped.
    serde_json::from_slice(answer).map_err(|_| MasterKeyError::Refused("an answer that is not Transit's".into()))
}

/// Whether a refusal of Transit says that something else was wrapped, or under another name.
fn is_other_key(why: &str) -> bool {
    why.contains("message authentication failed") || why.contains("invalid ciphertext")
}
