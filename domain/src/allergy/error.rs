//! Why a command about an allergy is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such allergy.")]
    Unknown,
    #[error("The allergy was refuted.")]
    Refuted,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::Refuted => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-allergy",
            Self::Refuted => "allergy-refuted",
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
