//! Checks bearer tokens against one issuer, and goes on doing so while that issuer is away.
//!
//! Keys are fetched in the background and kept; a token with an unknown key id makes for one extra fetch, shared by all
//! requests that wait for it and never more often than [`REFETCH_INTERVAL`], so that neither a rotation nor a flood of
//! invented key ids does harm. A token that verified is remembered by its hash until it ends.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, crypto};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    caller::Caller,
    jwks::{FetchError, Fetcher, KeySet},
    token::{self, Expected, Parts, TokenError},
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
}

/// What is wrong with a [`VerifierConfig`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the issuer is not an http or https URL")]
    Issuer,
    #[error("the audience is empty")]
    Audience,
    #[error("the HTTP client for the issuer could not be built")]
    Client(#[from] reqwest::Error),
}

/// Turns bearer tokens into callers. Cheap to clone; the background fetch ends with the last clone.
#[derive(Clone)]
pub struct Verifier {
    state: Arc<State>,
    _refresher: Arc<Refresher>,
}

struct State {
    config: VerifierConfig,
    fetcher: Fetcher,
    keys: RwLock<Arc<KeySet>>,
    /// When the latest fetch began. The lock is held during a fetch, so that there is only one at a time.
    fetch_began: Mutex<Option<Instant>>,
    waiting: Semaphore,
    verified: Cache<[u8; 32], Caller>,
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
        let fetcher = Fetcher::try_new(config.issuer.clone())?;
        let state = Arc::new(State {
            config,
            fetcher,
            keys: RwLock::default(),
            fetch_began: Mutex::new(None),
            waiting: Semaphore::new(REFETCH_WAITING_MAX),
            verified: Cache::builder().max_capacity(VERIFIED_MAX).time_to_live(VERIFIED_LIFETIME).build(),
        });
        let refresher = Refresher(tokio::spawn(keep_fresh(Arc::clone(&state))));
        Ok(Self { state, _refresher: Arc::new(refresher) })
    }

    /// Whether the issuer's keys are known. Stays true while the issuer is away.
    pub fn ready(&self) -> bool {
        !self.state.keys().is_empty()
    }

    /// Checks a token. The only way to a [`Caller`].
    pub async fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let outcome = self.state.verify(token).await;
        let label = outcome.as_ref().map_or_else(|error| error.code(), |_| "valid");
        metrics::counter!("auth_token_checks_total", "outcome" => label).increment(1);
        outcome
    }
}

impl State {
    async fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > token::TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = now_seconds();
        if let Some(caller) = self.verified.get(&hash) {
            let over = token::is_over(caller.expires_at(), now, LEEWAY_SECONDS);
            return if over { Err(TokenError::Expired) } else { Ok(caller) };
        }
        let parts = token::split(token)?;
        let keys = self.keys_with(&parts.key_id).await?;
        check_signature(&parts, &keys)?;
        let expected = Expected {
            issuer: &self.config.issuer,
            audience: &self.config.audience,
            now,
            leeway_seconds: LEEWAY_SECONDS,
        };
        let caller = token::read_caller(&parts, &expected)?;
        self.verified.insert(hash, caller.clone());
        Ok(caller)
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

fn check_signature(parts: &Parts<'_>, keys: &KeySet) -> Result<(), TokenError> {
    let key = keys.get(&parts.key_id).ok_or(TokenError::UnknownKey)?;
    match crypto::verify(parts.signature, parts.signed.as_bytes(), key, Algorithm::ES256) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(TokenError::BadSignature),
    }
}

fn report(error: &FetchError) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(error = %error, source, "the issuer's keys could not be fetched");
}

pub(crate) fn now_seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}
