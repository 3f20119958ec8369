//! Why a command about a consent is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such consent.")]
    Unknown,
    #[error("A consent is granted with the status active.")]
    GrantedActive,
    #[error("There is no active consent to withdraw.")]
    NotActive,
    #[error("The consent is no longer in force. A new one can be granted.")]
    Withdrawn,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::GrantedActive => ErrorKind::Invalid,
            Self::NotActive | Self::Withdrawn => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-consent",
            Self::GrantedActive => "consent-not-active",
            Self::NotActive => "consent-not-in-force",
            Self::Withdrawn => "consent-withdrawn",
        }
    }

    fn pointer(&self) -> Option<&str> {
        match self {
            Self::Form(error) => error.pointer(),
            Self::Common(error) => error.pointer(),
            Self::GrantedActive => Some("/status"),
            _ => None,
        }
    }
}
