//! What the issuer remembers of people who sign in: codes, refresh tokens, failed attempts. In memory, bounded, by hash.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use moka::sync::Cache;
use sha2::{Digest, Sha256};

/// How long a code may take from the browser to the application.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// How long a refresh token is good for when it is not used, and how long a sign-in lasts however often it is.
const REFRESH_LIFETIME: Duration = Duration::from_secs(2 * 3600);
const SIGN_IN_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How many wrong secrets an account may be tried with, and until when they count.
const FAILURES_MAX: u32 = 5;
const FAILURES_LIFETIME: Duration = Duration::from_secs(300);
const ENTRIES_MAX: u64 = 10_000;

type Hash = [u8; 32];

pub(super) struct Sessions {
    codes: Cache<Hash, Arc<Code>>,
    refresh_tokens: Cache<Hash, Arc<Refresh>>,
    failures: Cache<Hash, Arc<AtomicU32>>,
}

/// One person signed in to one application. What grew out of it ends together.
pub(super) struct SignIn {
    pub account_id: String,
    pub client_id: String,
    pub scope: String,
    pub nonce: Option<String>,
    /// In seconds since 1970.
    pub at: i64,
    began: Instant,
    ended: AtomicBool,
}

/// What a code stands for.
pub(super) struct Code {
    pub sign_in: Arc<SignIn>,
    pub redirect_uri: String,
    pub challenge: String,
    /// The thumbprint of the key that the application promised to use (`dpop_jkt`).
    pub bound_to: Option<String>,
    used: AtomicBool,
}

struct Refresh {
    sign_in: Arc<SignIn>,
    bound_to: Option<String>,
    used: AtomicBool,
}

impl SignIn {
    pub fn new(account_id: String, client_id: String, scope: String, nonce: Option<String>, at: i64) -> Self {
        let (began, ended) = (Instant::now(), AtomicBool::new(false));
        Self { account_id, client_id, scope, nonce, at, began, ended }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.ended.load(Ordering::SeqCst) || self.began.elapsed() > SIGN_IN_LIFETIME
    }
}

impl Code {
    pub fn new(sign_in: SignIn, redirect_uri: String, challenge: String, bound_to: Option<String>) -> Self {
        Self { sign_in: Arc::new(sign_in), redirect_uri, challenge, bound_to, used: AtomicBool::new(false) }
    }
}

impl Sessions {
    pub fn new() -> Self {
        Self {
            // Used ones are kept as long as a refresh token could live that came from them: a second use ends that one.
            codes: bounded(REFRESH_LIFETIME),
            refresh_tokens: bounded(REFRESH_LIFETIME),
            failures: bounded(FAILURES_LIFETIME),
        }
    }

    pub fn remember_code(&self, text: &str, code: Code) {
        self.codes.insert(hash(text), Arc::new(code));
    }

    /// The code's one use. A second one ends whatever came of the first (RFC 6749 section 4.1.2).
    pub fn redeem_code(&self, text: &str) -> Option<Arc<Code>> {
        let code = self.codes.get(&hash(text))?;
        if code.used.swap(true, Ordering::SeqCst) {
            tracing::warn!("a code was used twice; its sign-in ends");
            code.sign_in.end();
            return None;
        }
        (code.sign_in.began.elapsed() <= CODE_LIFETIME).then_some(code)
    }

    pub fn remember_refresh_token(&self, text: &str, sign_in: Arc<SignIn>, bound_to: Option<String>) {
        let refresh = Refresh { sign_in, bound_to, used: AtomicBool::new(false) };
        self.refresh_tokens.insert(hash(text), Arc::new(refresh));
    }

    /// The token's one use, by the client and the key that it was made for. A second use means that two parties hold it,
    /// and ends the sign-in for both (RFC 9700 section 4.14.2).
    pub fn redeem_refresh_token(&self, text: &str, client_id: &str, thumbprint: Option<&str>) -> Option<Arc<SignIn>> {
        let refresh = self.refresh_tokens.get(&hash(text))?;
        let bound_elsewhere = refresh.bound_to.is_some() && refresh.bound_to.as_deref() != thumbprint;
        if refresh.sign_in.client_id != client_id || bound_elsewhere {
            return None;
        }
        if refresh.used.swap(true, Ordering::SeqCst) {
            tracing::warn!("a refresh token was used twice; its sign-in ends");
            refresh.sign_in.end();
        }
        (!refresh.sign_in.is_over()).then(|| Arc::clone(&refresh.sign_in))
    }

    /// Whether the account may be tried once more. Counts the attempt as failed until it is forgiven.
    pub fn may_try(&self, account_id: &str) -> bool {
        let failures = self.failures.get_with(hash(account_id), Arc::default);
        failures.fetch_add(1, Ordering::SeqCst) < FAILURES_MAX
    }

    /// The attempt was a success.
    pub fn forgive(&self, account_id: &str) {
        self.failures.invalidate(&hash(account_id));
    }
}

fn bounded<V: Clone + Send + Sync + 'static>(lifetime: Duration) -> Cache<Hash, V> {
    Cache::builder().max_capacity(ENTRIES_MAX).time_to_live(lifetime).build()
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}
