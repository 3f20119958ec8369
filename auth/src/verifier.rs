//! Checks access tokens against one issuer, and goes on doing so while that issuer is away.
//!
//! Keys are fetched in the background and kept; a token with an unknown key id makes for one extra fetch, shared by all
//! requests that wait for it and never more often than [`REFETCH_INTERVAL`], so that neither a rotation nor a flood of
//! invented key ids does harm. A token that verified is remembered by its hash until it ends.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    caller::Caller,
    dpop::{Dpop, DpopConfig, Proof, ProofFault},
    jwks::{FetchError, Fetcher, KeySet},
    token::{self, Expected, TokenError},
};

/// The most that the clocks of issuer and door may differ.
pub const LEEWAY_SECONDS: i64 = 30;
/// How often the key set is fetched when nothing asks for it.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// How long to wait after a fetch that failed, while no key is known and while some are.
const RETRY_WITHOUT_KEYS: Duration = Duration::from_millis(500);
const RETRY_WITH_KEYS: Duration = Duration::from_secs(15);
/// The shortest time between two fetches on behalf of unknown key ids.
const REFETCH_INTERVAL: Duration = Duration::from_secs(1);
/// How many requests may wait for such a fetch; further ones are told at once to come back. A rotation makes as many wait
/// as arrive within one fetch, and none of them should have to.
const REFETCH_WAITING_MAX: usize = 256;
/// How many verified tokens are remembered, and for how long before they are verified again.
const VERIFIED_MAX: u64 = 50_000;
const VERIFIED_LIFETIME: Duration = Duration::from_secs(900);

/// Whom the doors trust.
#[derive(Clone, Debug)]
pub struct VerifierConfig {
    /// The issuer's URL, exactly as its tokens name it.
    pub issuer: String,
    /// The audience that a token must be meant for.
    pub audience: String,
    /// The authorities (PEM file) that the certificate of an https issuer must come from; the system's when `None`.
    pub authorities: Option<PathBuf>,
}

/// What is wrong with a [`VerifierConfig`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the issuer is not an http or https URL")]
    Issuer,
    #[error("the public URL of the door is not an http or https URL")]
    PublicUrl,
    #[error("the audience is empty")]
    Audience,
    #[error("{} can't be read, or holds no certificates", .0.display())]
    Authorities(PathBuf),
    #[error("the HTTP client for the issuer could not be built")]
    Client(#[from] reqwest::Error),
}

/// Turns access tokens into callers. Cheap to clone; the background fetch ends with the last clone.
#[derive(Clone)]
pub struct Verifier {
    state: Arc<State>,
    dpop: Option<Arc<Dpop>>,
    _refresher: Arc<Refresher>,
}

struct State {
    config: VerifierConfig,
    fetcher: Fetcher,
    keys: RwLock<Arc<KeySet>>,
    /// When the latest fetch began. The lock is held during a fetch, so that there is only one at a time.
    fetch_began: Mutex<Option<Instant>>,
    waiting: Semaphore,
    verified: Cache<[u8; 32], Verified>,
}

/// A token that holds.
#[derive(Clone)]
struct Verified {
    caller: Caller,
    /// The thumbprint of the key without which it is worth nothing.
    bound_to: Option<Arc<str>>,
}

/// Owns the background task.
struct Refresher(JoinHandle<()>);

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Verifier {
    /// Starts to fetch the issuer's keys and returns at once: the issuer may come up later, see [`Verifier::ready`].
    pub async fn connect(config: VerifierConfig) -> Result<Self, ConfigError> {
        let url = url::Url::parse(&config.issuer).map_err(|_| ConfigError::Issuer)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ConfigError::Issuer);
        }
        if config.audience.is_empty() {
            return Err(ConfigError::Audience);
        }
        let fetcher = Fetcher::try_new(config.issuer.clone(), config.authorities.as_deref())?;
        let state = Arc::new(State {
            config,
            fetcher,
            keys: RwLock::default(),
            fetch_began: Mutex::new(None),
            waiting: Semaphore::new(REFETCH_WAITING_MAX),
            verified: Cache::builder().max_capacity(VERIFIED_MAX).time_to_live(VERIFIED_LIFETIME).build(),
        });
        let refresher = Refresher(tokio::spawn(keep_fresh(Arc::clone(&state))));
        Ok(Self { state, dpop: None, _refresher: Arc::new(refresher) })
    }

    /// Accepts tokens that are bound to a key as well, and nothing else if so configured. Without this, they are refused.
    pub fn with_dpop(mut self, config: &DpopConfig) -> Result<Self, ConfigError> {
        self.dpop = Some(Arc::new(Dpop::try_new(config).ok_or(ConfigError::PublicUrl)?));
        Ok(self)
    }

    /// Whether tokens that are bound to a key are accepted.
    pub fn accepts_proofs(&self) -> bool {
        self.dpop.is_some()
    }

    /// Whether only such tokens are.
    pub fn requires_proofs(&self) -> bool {
        self.dpop.as_ref().is_some_and(|dpop| dpop.required)
    }

    /// The nonce that proofs must carry from now on, if they must.
    pub fn proof_nonce(&self) -> Option<String> {
        self.dpop.as_ref().and_then(|dpop| dpop.nonce())
    }

    /// Whether the issuer's keys are known. Stays true while the issuer is away.
    pub fn ready(&self) -> bool {
        !self.state.keys().is_empty()
    }

    /// Checks a token that came without a proof. Refuses one that is bound to a key.
    pub async fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let outcome = match self.state.verify(token).await {
            Ok(Verified { bound_to: Some(_), .. }) => Err(ProofFault::Missing.into()),
            Ok(_) if self.requires_proofs() => Err(TokenError::NotBound),
            Ok(verified) => Ok(verified.caller),
            Err(error) => Err(error),
        };
        count(outcome)
    }

    /// Checks a token that came with a proof that its sender holds the key to which the token is bound.
    pub async fn verify_with_proof(&self, token: &str, proof: &Proof<'_>) -> Result<Caller, TokenError> {
        count(self.check_with_proof(token, proof).await)
    }

    async fn check_with_proof(&self, token: &str, proof: &Proof<'_>) -> Result<Caller, TokenError> {
        let dpop = self.dpop.as_ref().ok_or(TokenError::Missing)?;
        let verified = self.state.verify(token).await?;
        let bound_to = verified.bound_to.ok_or(TokenError::NotBound)?;
        dpop.check(proof, token, &bound_to)?;
        Ok(verified.caller)
    }
}

impl State {
    async fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        if token.len() > token::TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = now_seconds();
        if let Some(verified) = self.verified.get(&hash) {
            let over = token::is_over(verified.caller.expires_at(), now, LEEWAY_SECONDS);
            return if over { Err(TokenError::Expired) } else { Ok(verified) };
        }
        let (jws, key_id) = token::split(token)?;
        let keys = self.keys_with(&key_id).await?;
        if !jws.is_signed_by(keys.get(&key_id).ok_or(TokenError::UnknownKey)?) {
            return Err(TokenError::BadSignature);
        }
        let expected = Expected {
            issuer: &self.config.issuer,
            audience: &self.config.audience,
            now,
            leeway_seconds: LEEWAY_SECONDS,
        };
        let caller = token::read_caller(&jws, &expected)?;
        let bound_to = token::read_binding(&jws)?.map(Arc::from);
        let verified = Verified { caller, bound_to };
        self.verified.insert(hash, verified.clone());
        Ok(verified)
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A key set that holds the key, fetched once more if need be.
    async fn keys_with(&self, key_id: &str) -> Result<Arc<KeySet>, TokenError> {
        let keys = self.keys();
        if keys.get(key_id).is_some() {
            return Ok(keys);
        }
        let Ok(_permit) = self.waiting.try_acquire() else {
            // Nobody looked, so nobody knows that the token is bad.
            return Err(TokenError::KeysUnavailable);
        };
        self.fetch_for(key_id, Instant::now()).await;
        let keys = self.keys();
        if keys.is_empty() {
            Err(TokenError::KeysUnavailable)
        } else if keys.get(key_id).is_none() {
            Err(TokenError::UnknownKey)
        } else {
            Ok(keys)
        }
    }

    /// Fetches unless somebody else's fetch, begun after this request arrived, has already answered the question.
    async fn fetch_for(&self, key_id: &str, arrived: Instant) {
        let mut fetch_began = self.fetch_began.lock().await;
        if self.keys().get(key_id).is_some() || fetch_began.is_some_and(|began| began > arrived) {
            return;
        }
        if let Some(began) = *fetch_began {
            sleep_until(began + REFETCH_INTERVAL).await;
        }
        *fetch_began = Some(Instant::now());
        self.fetch().await.unwrap_or_else(|error| report(&error));
    }

    async fn fetch(&self) -> Result<(), FetchError> {
        let outcome = self.fetcher.fetch().await;
        let label = if outcome.is_ok() { "fetched" } else { "failed" };
        metrics::counter!("auth_jwks_fetches_total", "outcome" => label).increment(1);
        self.replace_keys(outcome?);
        Ok(())
    }

    /// A key that the issuer withdrew takes the tokens remembered because of it along.
    fn replace_keys(&self, newer: KeySet) {
        let withdrawn = self.keys().lost_a_key(&newer);
        metrics::gauge!("auth_jwks_keys").set(newer.len() as f64);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
        if withdrawn {
            tracing::info!("the issuer withdrew a key; verified tokens are checked again");
            self.verified.invalidate_all();
        }
    }
}

async fn keep_fresh(state: Arc<State>) {
    loop {
        let outcome = {
            let mut fetch_began = state.fetch_began.lock().await;
            *fetch_began = Some(Instant::now());
            state.fetch().await
        };
        let pause = match outcome {
            Ok(()) => REFRESH_INTERVAL,
            Err(error) => {
                report(&error);
                if state.keys().is_empty() { RETRY_WITHOUT_KEYS } else { RETRY_WITH_KEYS }
            }
        };
        sleep(pause).await;
    }
}

fn count(outcome: Result<Caller, TokenError>) -> Result<Caller, TokenError> {
    let label = outcome.as_ref().map_or_else(|error| error.code(), |_| "valid");
    metrics::counter!("auth_token_checks_total", "outcome" => label).increment(1);
    outcome
}

fn report(error: &FetchError) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(error = %error, source, "the issuer's keys could not be fetched");
}

pub(crate) fn now_seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}
