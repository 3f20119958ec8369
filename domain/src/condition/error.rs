//! Why a command about a condition is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such condition.")]
    Unknown,
    #[error("The condition was refuted.")]
    Refuted,
    #[error("The end of a condition can't lie in the future.")]
    AbatementInFuture,
    #[error("A condition can't end before its onset.")]
    AbatementBeforeOnset,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::AbatementInFuture | Self::AbatementBeforeOnset => ErrorKind::Invalid,
            Self::Refuted => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-condition",
            Self::Refuted => "condition-refuted",
            Self::AbatementInFuture => "in-the-future",
            Self::AbatementBeforeOnset => "abatement-before-onset",
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
