//! Why a command about an emergency access is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such emergency access.")]
    Unknown,
    #[error("The case is closed.")]
    AlreadyReviewed,
    #[error("Nobody reviews a case of their own.")]
    OwnCase,
    #[error("That a record was opened stays on record.")]
    Permanent,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::OwnCase => ErrorKind::Forbidden,
            Self::AlreadyReviewed | Self::Permanent => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-emergency-access",
            Self::AlreadyReviewed => "already-reviewed",
            Self::OwnCase => "own-case",
            Self::Permanent => "permanent",
        }
    }

    fn pointer(&self) -> Option<&str> {
        match self {
            Self::Form(error) => error.pointer(),
            Self::Common(error) => error.pointer(),
            _ => None,
        }
    }
}
