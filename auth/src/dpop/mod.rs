//! Sender-constrained tokens (DPoP, RFC 9449): a token that is of no use to whoever steals it.
//!
//! Each request brings a proof, signed with the key that the token is bound to. Proofs are remembered by this process
//! alone: a stolen proof could be replayed once at each other process of a door while it is fresh. Where that matters,
//! nonces make it tight, since each process accepts only nonces of its own.

mod nonces;
mod proof;

pub use proof::ProofFault;
pub(crate) use proof::{Expected, verify};

use std::time::{Duration, Instant};

use url::Url;

use crate::{
    replay::{Outcome, Replay},
    token::TokenError,
    verifier::now_seconds,
};
use nonces::Nonces;

/// How old a proof may be.
pub(crate) const AGE_MAX_SECONDS: i64 = 60;
/// How far a proof's clock may be ahead of ours.
pub(crate) const AHEAD_MAX_SECONDS: i64 = 30;
/// How many proofs are remembered in the time that one is good for; some 5,000 a second, 16 MB at most.
const REMEMBERED_MAX: usize = 500_000;

/// How a door deals with DPoP.
#[derive(Clone, Debug)]
pub struct DpopConfig {
    /// Under which URL callers reach the door; their proofs name it. The `Host` header is not believed.
    pub public_url: String,
    /// Whether tokens that are bound to no key are refused.
    pub required: bool,
    /// Whether proofs must carry a nonce of this process (RFC 9449 section 9).
    pub nonces: bool,
}

/// A proof, and the request that it came with.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    /// The one `DPoP` header.
    pub text: &'a str,
    pub method: &'a str,
    /// The path as it was sent, without the query.
    pub path: &'a str,
}

/// Checks proofs.
pub(crate) struct Dpop {
    public_url: Url,
    pub required: bool,
    nonces: Option<Nonces>,
    replay: Replay,
}

impl Dpop {
    /// `None` if the public URL is none.
    pub fn try_new(config: &DpopConfig) -> Option<Self> {
        let public_url = Url::parse(&config.public_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let nonces = config.nonces.then(Nonces::new);
        Some(Self { public_url, required: config.required, nonces, replay: new_replay() })
    }

    /// Checks that whoever sent the request holds the key that the token is bound to.
    pub fn check(&self, proof: &Proof<'_>, token: &str, thumbprint: &str) -> Result<(), TokenError> {
        let prefix = self.public_url.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{prefix}{}", proof.path)).map_err(|_| ProofFault::WrongAddress)?;
        let expected = Expected { method: proof.method, url: &url, token: Some(token), now: now_seconds() };
        let verified = verify(proof.text, &expected)?;
        if verified.thumbprint != thumbprint {
            return Err(ProofFault::WrongKey.into());
        }
        if let Some(nonces) = &self.nonces
            && !verified.nonce.is_some_and(|nonce| nonces.accept(&nonce, Instant::now()))
        {
            return Err(ProofFault::NonceNeeded.into());
        }
        match self.replay.check([thumbprint, &verified.id], Instant::now()) {
            Outcome::Fresh => Ok(()),
            Outcome::Seen => Err(ProofFault::Replayed.into()),
            Outcome::Full => Err(TokenError::TooManyProofs),
        }
    }

    /// The nonce that proofs are to carry from now on, if any has to.
    pub fn nonce(&self) -> Option<String> {
        self.nonces.as_ref().map(|nonces| nonces.current(Instant::now()))
    }
}

/// A memory for proofs.
pub(crate) fn new_replay() -> Replay {
    Replay::new(Duration::from_secs((AGE_MAX_SECONDS + AHEAD_MAX_SECONDS).unsigned_abs()), REMEMBERED_MAX)
}
