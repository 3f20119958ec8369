//! Who is calling, and what they may do.
//!
//! [`Verifier`] turns a token, with a proof where it is bound to a key, into a [`Caller`], which nothing else can make. [`policy`] is the pure function that
//! says what a caller may do. [`issuer`] is the small built-in authentication service; the doors know it only by its
//! discovery document, as they would know any other OpenID Connect provider.
//!
//! This crate knows no HTTP status codes of the doors (that is `nexus-web`), and no event or aggregate.

mod caller;
mod jwks;
mod token;
mod verifier;

mod dpop;
mod jwk;
mod jws;
mod replay;

pub mod issuer;
pub mod policy;
#[cfg(feature = "testing")]
pub mod testing;

pub use caller::{Caller, Role};
pub use dpop::{DpopConfig, Proof, ProofFault};
pub use jwks::read_authorities;
pub use token::TokenError;
pub use verifier::{ConfigError, Verifier, VerifierConfig};
